"""The quantization entry of a checkpoint: plain values and tensors that restore every quantizer.

::

    {"format_version": 4, "recipe": {...}, "scope": "encoder", "weight_bits": 8,
     "activation_bits": 8, "source_sha256": "...", "vrc": {layer: {...}},
     "layers": {layer: {"weight": part, "input": part, "granularity": "channel",
                        "weight_sha256": "...", "packed": uint8 [bytes]}},
     "attention": {layer: {"q": part, "k": part, "v": part, "weight_sha256": "..."}}}
    part = {"method": "lsc", "bits": 8, "grid": "symmetric", "half_step": False,
            "options": {"momentum": 0.99, ...}, "scale": float32 [out], [1] or [],
            "zero_point": float32 [] or None, "state": {name: tensor}}

``state`` holds what training goes on from (for LSC: sigma, mu, log_alpha); ``scale`` and
``zero_point`` repeat what follows from it, for readers that know nothing of the method.
``weight_sha256`` is the digest of the float weight that the steps were found for: with other
weights they mean nothing. ``attention`` holds the attention layers whose products are quantized,
perhaps none, on symmetric grids; their digest is that of the projections' weights one after the
other, and ``v`` is absent where the values are on the grid of the projection that follows them.
``packed`` is there in packed checkpoints alone: the codes of a weight that the file holds in no
other form.

Version 3 had no packed weights; version 2 knew neither attention products, nor grids but the
symmetric one, nor granularities, nor options; version 1 had no ``half_step`` and no
``weight_sha256`` either.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from ..._common.contradictions import one_line, reason_of
from ...errors import CheckpointError, InputError
from ..layers.attention import quantize_attentions, quantized_attentions
from ..layers.attention_layer import QuantAttention
from ..layers.layer_plan import PER_CHANNEL, LayerPlan, QuantizerPlan
from ..layers.modules import QuantLayer, quantize_layers, quantized_layers
from ..quantizers.grid import SYMMETRIC, Grid
from ..quantizers.quantizer import Quantizer
from .packed import packed_weight, unpack_weight

FORMAT_VERSION = 4
"""Version of the entry; a reader refuses a newer one."""

_PARTS = ("weight", "input")


def make_entry(
    model: nn.Module,
    *,
    recipe: Mapping[str, Any],
    scope: str,
    weight_bits: int,
    activation_bits: int,
    vrc: Mapping[str, Mapping[str, Any]] | None = None,
    source_sha256: str = "",
    packed: bool = False,
) -> dict[str, Any]:
    """Return the entry that restores the quantized layers of ``model``.

    Args:
        model: with quantized layers.
        recipe: how it was made, plain values.
        scope: which part of the model is quantized.
        weight_bits: the wanted width of weights; single layers may differ.
        activation_bits: the wanted width of activations.
        vrc: report of the weight calibration, plain values per layer.
        source_sha256: digest of the checkpoint that it was made from.
        packed: hold the weights of the layers too, as codes; they must be on their grids already.
    """
    return {
        "format_version": FORMAT_VERSION,
        "recipe": dict(recipe),
        "scope": scope,
        "weight_bits": weight_bits,
        "activation_bits": activation_bits,
        "source_sha256": source_sha256,
        "vrc": {name: dict(report) for name, report in (vrc or {}).items()},
        "layers": {
            name: {
                "weight": _part(layer.weight_quantizer),
                "input": _part(layer.input_quantizer),
                "granularity": layer.granularity,
                "weight_sha256": _digest([layer.weight]),
                **({"packed": packed_weight(layer)} if packed else {}),
            }
            for name, layer in quantized_layers(model).items()
        },
        "attention": {
            name: {
                **{part: _part(q) for part, q in attention.product.quantizers.items()},
                "weight_sha256": _digest(attention.projection_weights()),
            }
            for name, attention in quantized_attentions(model).items()
        },
    }


def float_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the model's tensors under their official names, without those of quantizers."""
    prefixes = tuple(
        f"{name}.{part}_quantizer." for name in quantized_layers(model) for part in _PARTS
    ) + tuple(f"{name}.product." for name in quantized_attentions(model))
    state = model.state_dict()
    return {name: tensor for name, tensor in state.items() if not name.startswith(prefixes)}


def apply_entry(model: nn.Module, entry: object, origin: str | os.PathLike[str]) -> None:
    """Swap quantized layers and products into ``model`` and restore their quantizers, in place.

    Raises:
        CheckpointError: the entry is damaged, of a newer version, or of another model.
    """
    version, layers = _checked_layers(entry, origin)
    try:
        plan = {name: _plan(layer) for name, layer in layers.items()}
        for name, module in quantize_layers(model, plan).items():
            _restore(module, layers[name], version)
        _restore_attentions(model, entry)
    except Exception as error:  # whatever a value of another kind leads to
        known = isinstance(error, InputError)
        reason = one_line(error) if known else reason_of(error)
        raise CheckpointError(
            f"the quantization entry of {origin} does not fit its model ({reason}); make the file "
            "again with qsam2-calibrate"
        ) from error
    model.eval().requires_grad_(False)


def packed_weight_names(entry: object) -> frozenset[str]:
    """Return the names of the tensors that a checkpoint holds as codes, in its ``entry``."""
    layers = entry.get("layers") if isinstance(entry, dict) else None
    if not isinstance(layers, dict):
        return frozenset()  # what is damaged is told when the entry is applied
    return frozenset(
        f"{name}.weight"
        for name, layer in layers.items()
        if isinstance(layer, dict) and "packed" in layer
    )


def _part(quantizer: Quantizer) -> dict[str, Any]:
    zero_point = quantizer.zero_point
    return {
        "method": quantizer.method,
        "bits": quantizer.grid.bits,
        "grid": quantizer.grid.kind,
        "half_step": quantizer.half_step,
        "options": quantizer.options,
        "scale": quantizer.scale.cpu().clone(),
        "zero_point": None if zero_point is None else zero_point.cpu().clone(),
        "state": {k: v.detach().cpu().clone() for k, v in quantizer.state_dict().items()},
    }


def _checked_layers(entry: object, origin: str | os.PathLike[str]) -> tuple[int, Mapping[str, Any]]:
    version = entry.get("format_version") if isinstance(entry, dict) else None
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise CheckpointError(
            f"the quantization entry of {origin} has format version {version}, but this version of "
            f"qsam2-deploy reads up to {FORMAT_VERSION}; run: pip install -U qsam2-deploy"
        )
    layers = entry.get("layers") if isinstance(entry, dict) else None
    if not isinstance(version, int) or not isinstance(layers, dict) or not layers:
        raise CheckpointError(
            f"the quantization entry of {origin} is damaged; make the file again with "
            "qsam2-calibrate"
        )
    return version, layers


def _plan(layer: Mapping[str, Any]) -> LayerPlan:
    weight, inputs = layer["weight"], layer["input"]
    half = weight.get("half_step", False)
    if half != inputs.get("half_step", False):
        raise ValueError("only one of weight and input has its step in half precision")
    return LayerPlan(
        weight["bits"],
        inputs["bits"],
        weight["method"],
        half_steps=half,
        input_method=inputs["method"],
        weight_grid=weight.get("grid", SYMMETRIC),
        input_grid=inputs.get("grid", SYMMETRIC),
        granularity=layer.get("granularity", PER_CHANNEL),
        weight_options=weight.get("options", {}),
        input_options=inputs.get("options", {}),
    )


def _digest(weights: Iterable[torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for weight in weights:
        digest.update(weight.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _restore(module: QuantLayer, layer: Mapping[str, Any], version: int) -> None:
    for part in _PARTS:
        quantizer: Quantizer = getattr(module, f"{part}_quantizer")
        _restore_quantizer(quantizer, layer[part], module.layer_name)
    if "packed" in layer:
        unpack_weight(module, layer["packed"])
    if version > 1:
        _check_digest(layer["weight_sha256"], [module.weight], module.layer_name)


def _restore_attentions(model: nn.Module, entry: Any) -> None:
    stored = entry.get("attention", {})
    plan = {name: _product_plan(attention["q"]) for name, attention in stored.items()}
    for name, module in quantize_attentions(model, plan).items():
        _restore_attention(module, stored[name], plan[name])


def _restore_attention(
    module: QuantAttention, stored: Mapping[str, Any], plan: QuantizerPlan
) -> None:
    name, quantizers = module.attention_name, module.product.quantizers
    _check_digest(stored["weight_sha256"], module.projection_weights(), name)
    if stored.keys() != {*quantizers, "weight_sha256"}:
        raise ValueError(f"the attention {name} has the parts {', '.join(stored)}")
    for part, quantizer in quantizers.items():
        if _product_plan(stored[part]) != plan:
            raise ValueError(f"the parts of the attention {name} are quantized in different ways")
        _restore_quantizer(quantizer, stored[part], name)


def _product_plan(part: Mapping[str, Any]) -> QuantizerPlan:
    grid = Grid(part["bits"], part.get("grid", SYMMETRIC))
    return QuantizerPlan(part["method"], grid, part.get("options", {}))


def _check_digest(stored: str, weights: Iterable[torch.Tensor], name: str) -> None:
    if stored != _digest(weights):
        raise ValueError(f"the weights of {name} are not those that its steps were found for")


def _restore_quantizer(quantizer: Quantizer, part: Mapping[str, Any], name: str) -> None:
    quantizer.load_state_dict(_present_state(part))
    steps_fit = torch.allclose(quantizer.scale, part["scale"], rtol=1e-6, atol=0.0)
    if not steps_fit or not _same(quantizer.zero_point, part.get("zero_point")):
        raise ValueError(f"the steps of {name} contradict their statistics")


def _present_state(part: Mapping[str, Any]) -> dict[str, Any]:
    """Return a quantizer's state under the names that its tensors have now."""
    state = dict(part["state"])
    if part["method"] == "minmax" and "absmax" in state:  # its name up to version 2
        state["clip"] = state.pop("absmax")
    return state


def _same(found: torch.Tensor | None, stored: torch.Tensor | None) -> bool:
    if found is None or stored is None:
        return found is stored
    return torch.equal(found, stored)
