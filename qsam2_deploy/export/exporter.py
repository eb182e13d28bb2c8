"""From a checkpoint to one ``model.onnx`` that holds the four components."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import onnx

from .._common.files import atomic_open
from .._common.progress import progress
from .._common.seal import seal
from .._common.version import __version__
from ..errors import InputError, Qsam2Error
from ..quant.checkpoints.checkpoint import Checkpoint, load_checkpoint
from ..quant.layers.attention import (
    ATTENTION_KINDS,
    FLOAT_ATTENTION,
    INTEGER_ATTENTION,
    float_attention,
    quantized_attentions,
)
from ..quant.layers.modules import QuantLayer, quantized_layers
from ..quant.quantizers.grid import SYMMETRIC
from ..spec import SPEC_KEY, ModelSpec, QuantizationInfo, TrackingRules
from .arrays import array
from .graph import GraphBuilder, model_from_graphs
from .image_encoder import build_image_encoder
from .mask_decoder import build_mask_decoder
from .memory_attention import build_memory_attention
from .memory_encoder import build_memory_encoder
from .pooled_memory import check_pooling
from .supported import check_supported

_BUILDERS = (build_image_encoder, build_memory_attention, build_mask_decoder, build_memory_encoder)


def onnx_from_checkpoint(
    checkpoint: str | os.PathLike[str] | Checkpoint,
    path: str | os.PathLike[str],
    *,
    config: str | os.PathLike[str] | None = None,
    image_size: int | None = None,
    opset: int | None = None,
    attention: str | None = None,
    pool_memory: int = 1,
    show_progress: bool | None = None,
) -> ModelSpec:
    """Export a SAM2 checkpoint, float or quantized, as one sealed ONNX file.

    Args:
        checkpoint: an official SAM 2 or 2.1 file, a quantized one, or one already loaded.
        path: where to write the model; it appears only when it is complete.
        config: the architecture as a YAML file of the ``sam2`` package, where neither the
            checkpoint's tensors nor its ``config`` entry tell it.
        image_size: side of the model input in pixels, a multiple of 32; default: as configured.
        opset: 17 to 25; default: the lowest that has the types of the weights: 17, or 21 with
            weights of 3 or 4 bits, or 25 with 2 bits.
        attention: ``float`` exports attention products without their steps, ``int8`` requires
            them; default: as the checkpoint has them.
        pool_memory: average the memory tokens over windows of this side, such as 2. It makes the
            memory attention cheaper, and changes the model until a checkpoint is trained with it;
            see ``pooled_memory.py``.
        show_progress: show a progress bar; default: where standard error is a terminal.

    Returns:
        What was written into the model's metadata.

    Raises:
        CheckpointError: the checkpoint cannot be read or does not fit its architecture.
        UnsupportedModelError: the architecture has an option that is not supported.
        InputError: ``path`` cannot be written, ``opset`` lacks the type of a weight, the
            checkpoint has no steps for ``attention``, or ``pool_memory`` does not divide the side
            of the feature map.
        Qsam2Error: a quantized layer has steps that are not finite and positive; names it.
    """
    if not isinstance(checkpoint, Checkpoint):
        checkpoint = load_checkpoint(checkpoint, config=config, image_size=image_size)
    check_supported(checkpoint.model)
    spec = dataclasses.replace(spec_from_checkpoint(checkpoint), memory_pooling=pool_memory)
    check_pooling(pool_memory, spec)
    with _attention_as_wanted(checkpoint, attention):
        graphs = [
            build(checkpoint.model, spec)
            for build in progress(_BUILDERS, "exporting", unit="component", enabled=show_progress)
        ]
    spec = dataclasses.replace(spec, quantization=_quantization(checkpoint, graphs))
    model = model_from_graphs(graphs, {SPEC_KEY: spec.to_json()}, __version__, opset)
    body = model.SerializeToString()
    check_model(body)
    with atomic_open(path) as stream:
        stream.write(body)
        stream.write(seal(body))
    return spec


def _attention_as_wanted(
    checkpoint: Checkpoint, wanted: str | None
) -> AbstractContextManager[None]:
    """Return a context in which the model computes its attention products as ``wanted``."""
    if wanted is not None and wanted not in ATTENTION_KINDS:
        raise InputError(
            f"the attention must be one of {', '.join(ATTENTION_KINDS)}, but got {wanted!r}"
        )
    if wanted == FLOAT_ATTENTION:
        return float_attention(checkpoint.model)
    if wanted == INTEGER_ATTENTION and not quantized_attentions(checkpoint.model):
        raise InputError(
            f"the checkpoint {checkpoint.path} has no steps for {INTEGER_ATTENTION} attention; "
            f"calibrate it with: qsam2-calibrate --attention {INTEGER_ATTENTION}"
        )
    return nullcontext()


def check_model(body: bytes) -> None:
    """Run ONNX's own checker with shape inference; a failure is our fault, not the user's."""
    try:
        onnx.checker.check_model(body, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise Qsam2Error(
            f"the exported graph is not valid ONNX, please report this: {error}"
        ) from error


def spec_from_checkpoint(checkpoint: Checkpoint) -> ModelSpec:
    """Return the metadata of the float model that ``checkpoint`` holds."""
    model: Any = checkpoint.model
    return ModelSpec(
        name=checkpoint.name,
        image_size=model.image_size,
        d_model=model.hidden_dim,
        memory_dim=model.mem_dim,
        rules=_rules(model),
        constants={
            "no_mem_embed": array(model.no_mem_embed).reshape(-1),
            "no_obj_ptr": array(model.no_obj_ptr).reshape(-1),
            "mask_downsample_weight": array(model.mask_downsample.weight)[0, 0],
            "mask_downsample_bias": array(model.mask_downsample.bias),
        },
        producer=f"qsam2-deploy {__version__}",
        source_sha256=checkpoint.sha256,
    )


def _rules(model: Any) -> TrackingRules:
    """Read each flag from the model, or from its mask decoder, where upstream keeps some."""
    decoder = model.sam_mask_decoder
    values = {}
    for entry in dataclasses.fields(TrackingRules):
        owner = model if hasattr(model, entry.name) else decoder
        values[entry.name] = getattr(owner, entry.name)
    return TrackingRules(**values)


def _quantization(
    checkpoint: Checkpoint, graphs: Sequence[GraphBuilder]
) -> QuantizationInfo | None:
    if checkpoint.quantization is None:
        return None
    layers = quantized_layers(checkpoint.model).values()
    entry = checkpoint.quantization
    weights = {
        f"{graph.component.name}/{name}": weight
        for graph in graphs
        for name, weight in graph.quantized.items()
    }
    grids = Counter(weight.grids for weight in weights.values())
    usual = grids.most_common(1)[0][0] if grids else f"{SYMMETRIC}/{SYMMETRIC}"
    weight_grid, activation_grid = usual.split("/")
    info = QuantizationInfo(
        scope=str(entry["scope"]),
        weight_bits=int(entry["weight_bits"]),
        activation_bits=int(entry["activation_bits"]),
        layers=len(layers),
        method=", ".join(sorted({_methods(layer) for layer in layers})),
        weights=len(weights),
        dead_channels=sum(len(layer.dead_channels()) for layer in layers),
        attentions=sum(graph.quantized_attentions for graph in graphs),
        weight_grid=weight_grid,
        activation_grid=activation_grid,
    )
    return dataclasses.replace(
        info,
        widths={n: w.widths for n, w in weights.items() if w.widths != info.usual_widths},
        grids={n: w.grids for n, w in weights.items() if w.grids != info.usual_grids},
    )


def _methods(layer: QuantLayer) -> str:
    weight, inputs = layer.weight_quantizer.method, layer.input_quantizer.method
    return weight if weight == inputs else f"{weight}/{inputs}"
