"""From a float checkpoint and some images to a quantized checkpoint, without labels or training.

1. One pass of the images collects the Gram matrix of every layer's inputs; VRC replaces the
   weights.
2. A second pass, through the new weights, collects the statistics of the activations.
3. Layers are swapped for quantized ones that start from the thresholds of their method, which are
   mostly those of least squared error, or from those of a post-training method (``ptq/``), which
   may then improve weights and steps. Attention products likewise, if they are wanted in integers.

VRC is for the linear layers of the image encoder, as in its paper, or on demand for all of them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .._common.files import check_output
from .._common.progress import progress
from .._common.version import __version__
from ..errors import CheckpointError
from ..quant.checkpoints.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from ..quant.checkpoints.entry import float_state, make_entry
from ..quant.checkpoints.storage import round_rest
from ..quant.layers.attention import FLOAT_ATTENTION
from ..quant.layers.modules import (
    ENCODER_PREFIX,
    ENCODER_SCOPE,
    LayerPlan,
    QuantLayer,
    layers_in_scope,
    quantize_layers,
)
from .attention import observed_parts, quantize_products
from .config import NO_VRC, CalibrationConfig
from .data import CalibrationImages, calibration_images
from .plan import EDGES, plan_layers
from .ptq import PtqJob, PtqMethod, make_ptq
from .report import CalibrationReport, LayerReport
from .session import TrackingSession
from .start import start_from_statistics, start_weights
from .statistics import LayerStatistics, collect_statistics, is_heldout
from .vrc import VrcReport
from .weights import calibrate_weights

_FEATURE_IMAGES = 4
_ENCODER = "image_encoder"


def calibrate_checkpoint(
    checkpoint_path: str | os.PathLike[str],
    data: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    config: CalibrationConfig | None = None,
    model_config: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    image_size: int | None = None,
) -> CalibrationReport:
    """Calibrate and quantize a float checkpoint and write the quantized one.

    Args:
        checkpoint_path: an official or compatible SAM2 checkpoint.
        data: an image, a folder of images or a video, like what the model will see.
        output: the quantized checkpoint; it appears only if all went well.
        config: settings; the default is W8A8.
        model_config: model configuration, where the architecture is not an official one.
        image_size: replaces the model's image size.

    Raises:
        InputError: the checkpoint, the data, a setting or the output path cannot be used.
        Qsam2Error: the model computes numbers that are not finite.
    """
    settings = config or CalibrationConfig()
    target = Path(output)
    check_output(target)
    checkpoint = load_checkpoint(checkpoint_path, config=model_config, image_size=image_size)
    if checkpoint.quantization is not None:
        raise CheckpointError(
            f"the checkpoint {checkpoint.path} is quantized already; give the float checkpoint "
            "that it was made from"
        )
    images = calibration_images(data, checkpoint.model.image_size, settings.limit)
    model = checkpoint.model
    layers, plan = _plan_layers(model, images, settings)
    probes = [images[i] for i in _probe_indices(len(images))]
    reference = _features(model, probes)
    if settings.uses_half:
        round_rest(model, plan)
    start = _runner(model, settings.scope)
    method = None if settings.ptq is None else make_ptq(settings.ptq, settings.ptq_options)
    if method is not None:
        method.prepare(model, images, start)
    reports: dict[str, VrcReport] = {}
    linears = _vrc_layers(layers, settings)
    if linears:
        reports = calibrate_weights(start, linears, images, plan, settings)
    parts = observed_parts(model, plan) if settings.attention != FLOAT_ATTENTION else {}
    run = TrackingSession(model) if parts else start()  # memory attention runs in a session only
    statistics = collect_statistics(
        run, {**layers, **parts}, images, count=len(images), grams=False, description="inputs"
    )
    quantized = quantize_calibrated(model, plan, statistics, method)
    if method is not None:
        tokens, budget = settings.vrc_tokens, settings.memory_budget
        method.refine(PtqJob(model, quantized, statistics, images, start, budget, tokens))
    clips = quantize_products(model, statistics, settings.product_plan) if parts else {}
    report = CalibrationReport(
        output=target,
        source_sha256=checkpoint.sha256,
        config=settings,
        images=len(images),
        layers=tuple(
            _layer_report(layer, statistics[name], reports.get(name))
            for name, layer in quantized.items()
        ),
        feature_error=_relative_error(_features(model, probes), reference),
        feature_images=len(probes),
        attention=clips,
        ptq_notes=method.notes if method else {},
    )
    _save(checkpoint, report)
    return report


def quantize_calibrated(
    model: nn.Module,
    plan: Mapping[str, LayerPlan],
    statistics: Mapping[str, LayerStatistics],
    method: PtqMethod | None = None,
) -> dict[str, QuantLayer]:
    """Swap quantized layers into ``model``, started from calibration statistics, in place.

    Args:
        model: float model.
        plan: widths, methods and grids by layer name.
        statistics: of the inputs of these layers, in this model.
        method: chooses the clips; None: each quantizer has its own start.

    Returns:
        The new layers by name.
    """
    quantized = quantize_layers(model, plan)
    for name, layer in progress(list(quantized.items()), "clips", unit="layer"):
        start_weights(layer, method)
        start_from_statistics(layer.input_quantizer, statistics[name], method)
    model.requires_grad_(False)
    return quantized


def _runner(model: Any, scope: str) -> Callable[[], Callable[[torch.Tensor], Any]]:
    """Return what starts a pass that runs every layer of the scope on the images."""
    if scope == ENCODER_SCOPE:
        return lambda: model.image_encoder
    # A session remembers the images before, so that every pass needs a new one.
    return lambda: TrackingSession(model)


def _vrc_layers(layers: Mapping[str, nn.Module], config: CalibrationConfig) -> dict[str, nn.Linear]:
    if config.vrc == NO_VRC:
        return {}
    everywhere = config.vrc_scope != ENCODER_SCOPE
    return {
        name: layer
        for name, layer in layers.items()
        if type(layer) is nn.Linear and (everywhere or name.startswith(ENCODER_PREFIX))
    }


def _plan_layers(
    model: nn.Module, images: CalibrationImages, config: CalibrationConfig
) -> tuple[dict[str, nn.Module], dict[str, LayerPlan]]:
    """Return the layers that are to be quantized, and their widths."""
    layers = layers_in_scope(model, config.scope)
    names, edges = list(layers), EDGES
    if config.scope == ENCODER_SCOPE:
        names = _order_of_running(model.get_submodule(_ENCODER), layers, images)
        edges = (names[0], names[-1])
    plan = plan_layers(
        names,
        bits=config.bits,
        edges=edges,
        edge_bits=config.first_last_bits,
        overrides=config.plan,
        half_steps=config.uses_half,
        **config.quantizer_settings,
    )
    return {name: layers[name] for name in plan}, plan


def _order_of_running(
    encoder: nn.Module, layers: Mapping[str, nn.Module], images: CalibrationImages
) -> list[str]:
    return list(
        collect_statistics(encoder, layers, [images[0]], count=1, grams=False, description="layers")
    )


def _probe_indices(count: int) -> list[int]:
    """Return a few images to measure the features on, held-out ones if there are any."""
    heldout = [i for i in range(count) if is_heldout(i, count)]
    return (heldout or list(range(count)))[:_FEATURE_IMAGES]


@torch.no_grad()
def _features(model: Any, images: Iterable[torch.Tensor]) -> list[torch.Tensor]:
    return [model.image_encoder(image)["vision_features"] for image in images]


def _relative_error(found: list[torch.Tensor], reference: list[torch.Tensor]) -> float:
    pairs = list(zip(found, reference, strict=True))
    error = sum(float((a - b).double().square().sum()) for a, b in pairs)
    signal = sum(float(b.double().square().sum()) for _, b in pairs)
    return math.sqrt(error / signal) if signal > 0 else math.nan


def _layer_report(
    layer: QuantLayer, statistics: LayerStatistics, report: VrcReport | None
) -> LayerReport:
    grid = layer.input_quantizer.grid
    return LayerReport(
        name=layer.layer_name,
        weight_bits=layer.weight_quantizer.grid.bits,
        input_bits=grid.bits,
        input_std=statistics.std,
        input_absmax=statistics.absmax,
        input_clip=float(layer.input_quantizer.scale) * grid.clip_steps,
        dead_channels=len(layer.dead_channels()),
        vrc=report,
    )


def _save(checkpoint: Checkpoint, report: CalibrationReport) -> None:
    config = report.config
    entry = make_entry(
        checkpoint.model,
        recipe={
            "producer": f"qsam2-deploy {__version__}",
            "images": report.images,
            **asdict(config),
            "ptq_notes": report.ptq_notes,
        },
        scope=config.scope,
        weight_bits=config.weight_bits,
        activation_bits=config.activation_bits,
        vrc={layer.name: asdict(layer.vrc) for layer in report.layers if layer.vrc},
        source_sha256=checkpoint.sha256,
    )
    state = float_state(checkpoint.model)
    save_checkpoint(report.output, state, config=checkpoint.config, quantization=entry)
