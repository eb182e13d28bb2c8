"""Packed checkpoints: the same model in fewer bytes, and damage is noticed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from qsam2_deploy.errors import CheckpointError, InputError
from qsam2_deploy.quant.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from qsam2_deploy.quant.checkpoints.entry import float_state, make_entry
from qsam2_deploy.quant.checkpoints.storage import pack_checkpoint
from qsam2_deploy.quant.layers.modules import (
    LayerPlan,
    layers_in_scope,
    quantize_layers,
    quantized_layers,
)
from tests.fuzz.samples import tiny_config
from tests.support.weights import write_checkpoint

CONFIG = tiny_config()


@pytest.fixture(scope="module")
def float_checkpoint(tmp_path_factory) -> Path:
    """As small as can be, for each plan quantizes, writes and reads it several times."""
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint") / "small.pt", CONFIG)


LAYER = "image_encoder.trunk.blocks.0.attn.qkv"
PLANS = {
    "lsc": LayerPlan(2, 2),
    "3 bits": LayerPlan(3, 4, "lsq"),
    "5 bits": LayerPlan(5, 8, "minmax", input_grid="affine"),
    "midrise": LayerPlan(2, 4, "statsq", half_steps=True),
    "per tensor": LayerPlan(4, 4, "minmax", granularity="tensor"),
    "8 bits": LayerPlan(8, 8),
}


def write_quantized(checkpoint: Path, path: Path, plan: LayerPlan) -> Path:
    """Write a model whose every layer, convolutions included, is quantized."""
    model: Any = load_checkpoint(checkpoint, config=CONFIG).model
    layers = quantize_layers(model, dict.fromkeys(layers_in_scope(model, "all"), plan))
    for layer in layers.values():
        rows = layer.weight_rows().detach()
        clip = rows.abs().amax(1).clamp_min(1e-3)
        layer.weight_quantizer.warm_start(clip / 2, clip / 3, 0 * clip)
        layer.input_quantizer.warm_start(*(torch.tensor(v) for v in (2.0, 1.0, 0.0)))
    recipe = {"images": 2}
    entry = make_entry(model, recipe=recipe, scope="all", weight_bits=2, activation_bits=2)
    save_checkpoint(path, float_state(model), config=CONFIG, quantization=entry)
    return path


def _some(*names: str) -> list[Any]:
    """Return all plans, of which those of other names are slow."""
    return [pytest.param(n, marks=() if n in names else pytest.mark.slow) for n in PLANS]


@pytest.fixture(scope="module")
def quantized(request, float_checkpoint, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("packed") / "quantized.pt"
    return write_quantized(float_checkpoint, path, PLANS[request.param])


@pytest.mark.parametrize("quantized", _some("lsc", "3 bits", "5 bits", "midrise"), indirect=True)
def test_a_packed_checkpoint_is_the_same_model(quantized, tmp_path):
    packed = tmp_path / "packed.pt"
    pack_checkpoint(quantized, packed)
    assert packed.stat().st_size < quantized.stat().st_size
    before, after = load_checkpoint(quantized), load_checkpoint(packed)
    assert after.config == before.config
    theirs = quantized_layers(before.model)
    for name, layer in quantized_layers(after.model).items():
        ours, wanted = layer.export_form(), theirs[name].export_form()
        for key in ("weight_codes", "weight_scale", "input_scale"):
            np.testing.assert_array_equal(getattr(ours, key), getattr(wanted, key))
        assert torch.equal(layer.quantized_weight(), theirs[name].quantized_weight())
        assert torch.equal(layer.quantized_weight(), layer.weight)
    state, wanted_state = float_state(after.model), float_state(before.model)
    for name in state.keys() - {f"{layer}.weight" for layer in theirs}:
        assert torch.equal(state[name], wanted_state[name])


@pytest.mark.parametrize("quantized", _some("3 bits", "midrise"), indirect=True)
def test_packing_twice_changes_nothing(quantized, tmp_path):
    once, twice = tmp_path / "once.pt", tmp_path / "twice.pt"
    pack_checkpoint(quantized, once)
    pack_checkpoint(once, twice)
    first, second = (torch.load(path, weights_only=True) for path in (once, twice))
    assert first["model"].keys() == second["model"].keys()
    for name, layer in first["quantization"]["layers"].items():
        assert torch.equal(layer["packed"], second["quantization"]["layers"][name]["packed"])


@pytest.mark.parametrize("quantized", ["lsc"], indirect=True)
def test_weights_take_the_bytes_of_their_width(quantized, tmp_path):
    packed = tmp_path / "packed.pt"
    pack_checkpoint(quantized, packed, half=True)
    content = torch.load(packed, weights_only=True)
    layers = content["quantization"]["layers"]
    sizes = {name: len(layer["packed"]) for name, layer in layers.items()}
    for name, layer in quantized_layers(load_checkpoint(quantized).model).items():
        assert sizes[name] == -(-layer.weight.numel() // 4)
        assert f"{name}.weight" not in content["model"]
    kinds = {t.dtype for t in content["model"].values() if t.is_floating_point()}
    assert kinds == {torch.float16}


@pytest.mark.parametrize("quantized", ["3 bits"], indirect=True)
def test_damaged_codes_are_refused(quantized, tmp_path):
    packed = tmp_path / "packed.pt"
    pack_checkpoint(quantized, packed)
    content = torch.load(packed, weights_only=True)
    good = content["quantization"]["layers"][LAYER]["packed"]
    changed = good.clone()
    changed[0] ^= 1
    wide = torch.full_like(good, 0x77)  # 7 does not fit 3 bits
    for codes, message in (
        (good[:-1], "bytes, but there are"),
        (wide, f"codes of {LAYER} have more than 3 bits"),
        (good.float(), "are no bytes"),
        ("codes", "are no bytes"),
        (changed, f"the weights of {LAYER} are not those"),
    ):
        content["quantization"]["layers"][LAYER]["packed"] = codes
        torch.save(content, tmp_path / "bad.pt")
        with pytest.raises(CheckpointError, match=message):
            load_checkpoint(tmp_path / "bad.pt")
    del content["quantization"]["layers"][LAYER]["packed"]
    torch.save(content, tmp_path / "bad.pt")
    with pytest.raises(CheckpointError, match=f"1 tensors are missing .{LAYER}.weight"):
        load_checkpoint(tmp_path / "bad.pt")


def test_what_cannot_be_packed(float_checkpoint, tmp_path):
    content = torch.load(float_checkpoint, weights_only=True)
    save_checkpoint(tmp_path / "float.pt", content["model"], config=CONFIG)
    with pytest.raises(CheckpointError, match=r"float\.pt is a float checkpoint"):
        pack_checkpoint(tmp_path / "float.pt", tmp_path / "packed.pt")
    with pytest.raises(InputError, match="the folder does not exist"):
        pack_checkpoint(tmp_path / "float.pt", tmp_path / "none" / "packed.pt")
    assert not (tmp_path / "packed.pt").exists()
