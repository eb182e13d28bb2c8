"""Errors of one layer against the strength of its weight calibration (figure 5 of the paper)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from .._common.progress import progress
from ..calibration import vrc
from ..calibration.clip import histogram_step, weight_clip
from ..calibration.data import CalibrationImages
from ..calibration.statistics import LayerStatistics, collect_statistics, layer_groups
from ..errors import InputError
from ..quant.quantizers.grid import MIN_SCALE, Grid, fake_quantize
from .inputs import runner

RATIOS = tuple(float(10**exponent) for exponent in torch.linspace(-6.0, 1.0, 15).tolist())
"""Lambdas that are tried, in units of the mean eigenvalue ``tr(G) / in`` of the Gram matrix."""

_MEMORY = 2 << 30


@dataclass(frozen=True)
class SweepWidths:
    """Grids of a layer: of its weights, and of its inputs."""

    weight: Grid
    inputs: Grid


@dataclass(frozen=True)
class LambdaSweep:
    """Errors of a layer for each of :data:`RATIOS`, all relative (Frobenius).

    Attributes:
        output_error: of the outputs on held-out inputs, weights calibrated, nothing quantized.
        weight_error: between the calibrated weights and their quantized form, of the norm of the
            float weights, so that what narrower weights gain is seen.
        total_error: of the outputs on held-out inputs, weights calibrated and quantized.
        chosen: the ratio that the recipe of the checkpoint chooses, or None if it has none.
    """

    output_error: tuple[float, ...]
    weight_error: tuple[float, ...]
    total_error: tuple[float, ...]
    chosen: float | None


def lambda_sweeps(
    model: Any,
    layers: Mapping[str, nn.Linear],
    images: CalibrationImages,
    widths: Mapping[str, SweepWidths],
    recipe: Mapping[str, Any],
) -> dict[str, LambdaSweep]:
    """Collect the Gram matrices of linear layers of a float ``model`` and try many lambdas.

    Args:
        model: the float model that the checkpoint was made from.
        layers: its layers, by name.
        images: to run it on; every fourth one is held out.
        widths: grids by layer.
        recipe: of the checkpoint, to mark the lambda that it chooses.

    Raises:
        Qsam2Error: an activation is not finite.
        VideoError: an image is damaged.
    """
    found: dict[str, LambdaSweep] = {}
    for group in layer_groups(layers, _MEMORY):
        statistics = collect_statistics(
            runner(model, group),
            group,
            images,
            count=len(images),
            grams=True,
            description="Gram matrices",
        )
        for name in progress(list(statistics), "lambdas", unit="layer"):
            weight = group[name].weight.detach()
            found[name] = lambda_sweep(weight, statistics.pop(name), widths[name], recipe)
    return found


@torch.no_grad()
def lambda_sweep(
    weight: torch.Tensor,
    statistics: LayerStatistics,
    widths: SweepWidths,
    recipe: Mapping[str, Any],
) -> LambdaSweep:
    """Return the errors of the float ``weight [out, in]`` for each of :data:`RATIOS`."""
    gram, heldout = statistics.grams
    judge = heldout if statistics.heldout_tokens else gram
    spectrum = vrc.decompose(gram)
    mean = float(spectrum.values.mean())
    errors = [_errors(weight, spectrum, ratio * mean, judge, widths.weight) for ratio in RATIOS]
    output_error, weight_error, total_error = zip(*errors, strict=True)
    return LambdaSweep(
        output_error,
        weight_error,
        total_error,
        _chosen(recipe, weight, spectrum, statistics, widths.inputs),
    )


def _errors(
    weight: torch.Tensor, spectrum: vrc.Spectrum, lam: float, judge: torch.Tensor, grid: Grid
) -> tuple[float, float, float]:
    changed = vrc.shrink(weight, spectrum, lam)
    scale = (weight_clip(changed, grid) / grid.clip_steps).clamp_min(MIN_SCALE)[:, None]
    quantized = fake_quantize(changed, scale, grid)
    norm = float(weight.double().norm())
    difference = float((quantized - changed).double().norm())
    return (
        vrc.relative_output_error(weight, changed, judge),
        difference / norm if norm > 0 else 0.0,
        vrc.relative_output_error(weight, quantized, judge),
    )


def _chosen(
    recipe: Mapping[str, Any],
    weight: torch.Tensor,
    spectrum: vrc.Spectrum,
    statistics: LayerStatistics,
    inputs: Grid,
) -> float | None:
    mode, value = recipe.get("vrc"), recipe.get("vrc_lambda")
    mean = float(spectrum.values.mean())
    if mode not in vrc.MODES or mean == 0.0:
        return None
    step = histogram_step(statistics.histogram, inputs)
    lam = vrc.choose_lambda(
        mode,
        float(vrc.DEFAULT_LAMBDAS[mode] if value is None else value),
        weight,
        spectrum,
        tokens=statistics.tokens,
        input_step=step,
    )
    return lam / mean


def sweepable(model: nn.Module, names: Sequence[str]) -> dict[str, nn.Linear]:
    """Return those of ``names`` that are linear layers of a float ``model``, by name.

    Raises:
        InputError: a name is not in the model.
    """
    modules = dict(model.named_modules())
    missing = [name for name in names if name not in modules]
    if missing:
        raise InputError(f"the float checkpoint has no layer {missing[0]}")
    return {name: modules[name] for name in names if isinstance(modules[name], nn.Linear)}
