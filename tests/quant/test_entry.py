"""The quantization entry survives a file to the bit, and damage is noticed."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from qsam2_deploy.errors import CheckpointError
from qsam2_deploy.quant.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from qsam2_deploy.quant.checkpoints.entry import apply_entry, float_state, make_entry
from qsam2_deploy.quant.layers.modules import LayerPlan, quantize_layers, quantized_layers
from qsam2_deploy.quant.quantizers.quantizer import quantizer_names
from tests.support.small_config import small_config
from tests.support.weights import write_checkpoint

LSC_OPTIONS = {"momentum": 0.5, "learn_alpha": False}
CONFIG = small_config(64, d_model=32, memory_dim=8, embed_dim=8)


@pytest.fixture(scope="module")
def float_checkpoint(tmp_path_factory) -> Path:
    """As small as can be, for each plan quantizes, writes and reads it several times."""
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint") / "small.pt", CONFIG)


PLANS = {
    **{method: LayerPlan(4, 8, method) for method in quantizer_names()},
    "mixed": LayerPlan(2, 3, "sawb", True, input_method="lsc", input_options=LSC_OPTIONS),
    "affine": LayerPlan(4, 8, "lsc", input_grid="affine", weight_grid="midrise"),
    "per tensor": LayerPlan(4, 8, "minmax", input_grid="affine", granularity="tensor"),
}


SLOW = {"lsq", "minmax", "pact", "sawb", "lsq+"}
"""Whose parts are in the others, or are stored in the same way."""


@pytest.fixture(
    scope="module",
    params=[pytest.param(n, marks=pytest.mark.slow if n in SLOW else ()) for n in PLANS],
)
def quantized(request, float_checkpoint) -> Any:
    model = load_checkpoint(float_checkpoint, config=CONFIG).model
    names = [
        n
        for n, m in model.named_modules()
        if type(m) is nn.Linear and n.startswith("image_encoder")
    ]
    quantize_layers(model, dict.fromkeys(names, PLANS[request.param]))
    model.train()
    with torch.no_grad():
        for _ in range(2):
            model.image_encoder(torch.randn(1, 3, 64, 64))
    return model.eval()


def _entry(model: nn.Module) -> dict[str, Any]:
    return make_entry(
        model,
        recipe={"images": 2},
        scope="encoder",
        weight_bits=4,
        activation_bits=8,
        source_sha256="0" * 64,
    )


def test_reloading_gives_the_same_numbers(quantized, tmp_path):
    path = tmp_path / "quantized.pt"
    entry = _entry(quantized)
    save_checkpoint(path, float_state(quantized), config=CONFIG, quantization=entry)
    again = load_checkpoint(path)
    assert again.quantization is not None
    assert again.quantization["weight_bits"] == 4
    assert list(quantized_layers(again.model)) == list(quantized_layers(quantized))
    assert not any(p.requires_grad for p in again.model.parameters())
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = quantized.image_encoder(image)["vision_features"]
        found = again.model.image_encoder(image)["vision_features"]
    assert torch.isfinite(expected).all()
    assert torch.equal(found, expected)
    for name, layer in quantized_layers(again.model).items():
        original = quantized_layers(quantized)[name]
        assert torch.equal(layer.weight_quantizer.scale, original.weight_quantizer.scale)
        assert torch.equal(layer.input_quantizer.scale, original.input_quantizer.scale)
        assert layer.granularity == original.granularity
        for part in ("weight_quantizer", "input_quantizer"):
            ours, theirs = getattr(layer, part), getattr(original, part)
            assert (type(ours), ours.grid) == (type(theirs), theirs.grid)
            assert (ours.options, ours.half_step) == (theirs.options, theirs.half_step)


def test_official_tools_find_the_official_names(quantized, float_checkpoint):
    official = torch.load(float_checkpoint, weights_only=True)["model"]
    assert float_state(quantized).keys() == official.keys()


def _without(entry: dict[str, Any], *path: str) -> dict[str, Any]:
    changed = copy.deepcopy(entry)
    node = changed
    for key in path[:-1]:
        node = node[key]
    del node[path[-1]]
    return changed


LAYER = "image_encoder.trunk.blocks.0.attn.qkv"


def test_damaged_entries_are_refused(quantized):
    entry = _entry(quantized)
    contradiction, renamed, widths, newer = (copy.deepcopy(entry) for _ in range(4))
    contradiction["layers"][LAYER]["input"]["scale"] *= 2
    renamed["layers"]["image_encoder.nothing"] = renamed["layers"].pop(LAYER)
    widths["layers"][LAYER]["weight"]["bits"] = 1
    newer["format_version"] = 99
    cases = [
        (None, "damaged"),
        ({}, "damaged"),
        (_without(entry, "layers"), "damaged"),
        (newer, "format version 99"),
        (contradiction, "contradict"),
        (renamed, "got no layer"),
        (widths, "2 to 8 bits"),
        (_without(entry, "layers", LAYER, "input"), "does not fit"),
        (_without(entry, "layers", LAYER, "weight", "state"), "does not fit"),
    ]
    from qsam2_deploy.quant.checkpoints.architecture import build_model

    for damaged, message in cases:
        model = build_model(CONFIG)
        model.load_state_dict(float_state(quantized))
        with pytest.raises(CheckpointError, match=message):
            apply_entry(model, damaged, "model.pt")


def test_weights_must_be_those_that_the_steps_were_found_for(quantized, tmp_path):
    """Steps of other weights would clip or waste their levels, silently."""
    path = tmp_path / "quantized.pt"
    state = float_state(quantized)
    state[f"{LAYER}.weight"] = state[f"{LAYER}.weight"] * 1.5
    save_checkpoint(path, state, config=CONFIG, quantization=_entry(quantized))
    with pytest.raises(CheckpointError, match=f"the weights of {LAYER} are not those"):
        load_checkpoint(path)


def test_a_zero_point_that_contradicts_is_refused(quantized):
    from qsam2_deploy.quant.checkpoints.architecture import build_model

    entry = _entry(quantized)
    part = entry["layers"][LAYER]["input"]
    part["zero_point"] = torch.tensor(99.0)
    model = build_model(CONFIG)
    model.load_state_dict(float_state(quantized))
    with pytest.raises(CheckpointError, match=f"the steps of {LAYER} contradict"):
        apply_entry(model, entry, "model.pt")


@pytest.mark.parametrize("quantized", ["lsc", "minmax"], indirect=True)
@pytest.mark.parametrize("version", [1, 2])
def test_older_versions_are_still_read(quantized, version):
    """The first had no digests, and steps in single precision; both, symmetric grids alone."""
    from qsam2_deploy.quant.checkpoints.architecture import build_model

    entry = _entry(quantized)
    entry["format_version"] = version
    for layer in entry["layers"].values():
        del layer["granularity"]
        if version == 1:
            del layer["weight_sha256"]
        for name in ("weight", "input"):
            part = layer[name]
            for key in ("grid", "options", "zero_point"):
                del part[key]
            if version == 1:
                del part["half_step"]
            if part["method"] == "minmax":
                part["state"]["absmax"] = part["state"].pop("clip")
    model = build_model(CONFIG)
    model.load_state_dict(float_state(quantized))
    apply_entry(model, entry, "model.pt")
    assert list(quantized_layers(model)) == list(quantized_layers(quantized))
    for name, layer in quantized_layers(model).items():
        original = quantized_layers(quantized)[name]
        assert torch.equal(layer.weight_quantizer.scale, original.weight_quantizer.scale)
