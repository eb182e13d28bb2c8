"""Variance-reduced calibration of all layers of a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from .._common.progress import progress
from ..errors import Qsam2Error
from ..quant.layers.layer_plan import PER_TENSOR
from ..quant.layers.modules import ENCODER_PREFIX, LayerPlan
from . import vrc
from .clip import histogram_step, weight_quantization_error
from .config import CalibrationConfig
from .data import Images
from .statistics import LayerStatistics, collect_statistics, layer_groups

_TOKENS_PER_FEATURE = 2


def calibrate_weights(
    start: Callable[[], Callable[[torch.Tensor], Any]],
    layers: Mapping[str, nn.Linear],
    images: Images,
    plan: Mapping[str, LayerPlan],
    config: CalibrationConfig,
) -> dict[str, vrc.VrcReport]:
    """Replace the weights of ``layers`` by their ridge solutions, in place.

    All statistics are of the unchanged model, however many groups the memory budget asks for.

    Args:
        start: called before each pass of the images; returns what runs the model on an image.
        layers: any linear layers of the model, by name.
        images: calibration images.
        plan: widths by layer name.
        config: mode, lambda, most tokens and the memory budget.

    Returns:
        A report per layer.

    Raises:
        Qsam2Error: the inputs of a layer are not finite, or too large to be squared.
    """
    groups = list(layer_groups(layers, config.memory_budget))
    results: dict[str, tuple[torch.Tensor, vrc.VrcReport]] = {}
    for number, group in enumerate(groups, 1):
        part = f" {number}/{len(groups)}" if len(groups) > 1 else ""
        collected = collect_statistics(
            start(),
            group,
            images,
            count=len(images),
            grams=True,
            most_tokens=config.vrc_tokens,
            description=f"weights{part}",
        )
        for name in progress(list(collected), f"solving{part}", unit="layer"):
            statistics = collected.pop(name)
            results[name] = _calibrate_layer(
                name, group[name].weight, statistics, plan[name], config
            )
    for name, (weight, _) in results.items():
        _replace(layers[name], weight)
    return {name: report for name, (_, report) in results.items()}


@torch.no_grad()
def _calibrate_layer(
    name: str,
    weight: torch.Tensor,
    statistics: LayerStatistics,
    plan: LayerPlan,
    config: CalibrationConfig,
) -> tuple[torch.Tensor, vrc.VrcReport]:
    """Return the calibrated ``weight [out, in]`` of one layer, and the report on it."""
    gram, heldout = statistics.grams
    spectrum = _spectrum(name, gram)
    step = histogram_step(statistics.histogram, plan.inputs.grid)
    lam = vrc.choose_lambda(
        config.vrc, config.lambda_value, weight, spectrum, tokens=statistics.tokens, input_step=step
    )
    solution = vrc.shrink(weight, spectrum, lam)
    # The paper's layers are those of the encoder; elsewhere other images must confirm every change.
    judged = config.vrc == "noise" or not name.startswith(ENCODER_PREFIX)
    applied = not vrc.is_empty(spectrum) and _is_trusted(weight, solution, statistics, step, judged)
    changed = solution if applied else weight.clone()
    # Without a held-out image the calibration images have to judge themselves.
    judge = heldout if statistics.heldout_tokens else gram
    return changed, vrc.VrcReport(
        applied=applied,
        lam=lam,
        condition_number=vrc.condition_number(spectrum),
        std_ratio=_ratio(changed.double().std(), weight.double().std()),
        norm_ratio=_ratio(changed.double().norm(), weight.double().norm()),
        absmax_ratio=_ratio(changed.abs().max(), weight.abs().max()),
        output_error=vrc.relative_output_error(weight, changed, judge),
        weight_error_before=_weight_error(weight, plan),
        weight_error_after=_weight_error(changed, plan),
        std_before=float(weight.double().std()),
        weights=weight.numel(),
    )


def _spectrum(name: str, gram: torch.Tensor) -> vrc.Spectrum:
    try:
        return vrc.decompose(gram)
    except (ValueError, RuntimeError) as error:
        raise Qsam2Error(
            f"the Gram matrix of the layer {name} cannot be decomposed ({error}); leave the layer "
            "in float with a plan, or calibrate without VRC"
        ) from error


def _weight_error(weight: torch.Tensor, plan: LayerPlan) -> float:
    rows = weight.reshape(1, -1) if plan.granularity == PER_TENSOR else weight
    return weight_quantization_error(rows, plan.weight.grid)


def _is_trusted(
    weight: torch.Tensor,
    solution: torch.Tensor,
    statistics: LayerStatistics,
    step: float,
    judged: bool,
) -> bool:
    """Return whether there was enough data for ``solution`` to hold for other inputs too."""
    # Fewer inputs leave directions unseen, in which other images would need the weights.
    if statistics.tokens < _TOKENS_PER_FEATURE * weight.shape[1]:
        return False
    gram, tokens = statistics.heldout_gram, statistics.heldout_tokens
    if not judged or gram is None or not tokens:
        return True
    return vrc.helps_against_noise(weight, solution, gram, tokens, step)


def _ratio(after: torch.Tensor, before: torch.Tensor) -> float:
    return float(after / before) if float(before) > 0 else 1.0


@torch.no_grad()
def _replace(layer: nn.Linear, weight: torch.Tensor) -> None:
    layer.weight.copy_(weight)
