"""Quantized attention products in upstream's layers: found, swapped, stored and restored."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from qsam2_deploy.errors import CheckpointError, InputError, Qsam2Error
from qsam2_deploy.quant.checkpoints.architecture import build_model
from qsam2_deploy.quant.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from qsam2_deploy.quant.checkpoints.entry import apply_entry, float_state, make_entry
from qsam2_deploy.quant.layers.attention import (
    attentions,
    float_attention,
    observe_attentions,
    product_plan,
    quantize_attentions,
    quantized_attentions,
)
from qsam2_deploy.quant.layers.attention_layer import AttentionSteps, QuantAttention
from qsam2_deploy.quant.layers.layer_plan import QuantizerPlan
from qsam2_deploy.quant.layers.modules import LayerPlan, quantize_layers
from qsam2_deploy.quant.quantizers.grid import AFFINE, Grid
from tests.support.small_config import small_config

TRUNK = "image_encoder.trunk.blocks.0.attn"
CROSS = "memory_attention.layers.0.cross_attn_image"
SELF = "memory_attention.layers.0.self_attn"
V_PROJ = f"{CROSS}.v_proj"


def set_steps(attention: QuantAttention, clip: float = 3.0) -> None:
    for quantizer in attention.product.quantizers.values():
        quantizer.warm_start(torch.tensor(clip), torch.tensor(1.0), torch.tensor(0.0))


@pytest.fixture(scope="module")
def loaded(float_checkpoint) -> Any:
    """A model with one quantized layer, and all its attention products quantized."""
    model = load_checkpoint(float_checkpoint, config=small_config()).model
    for layer in quantize_layers(model, {V_PROJ: LayerPlan(8, 8)}).values():
        rows = layer.weight_rows()
        layer.weight_quantizer.warm_start(rows.abs().amax(1), rows.std(1), rows.mean(1))
        layer.input_quantizer.warm_start(*map(torch.tensor, (3.0, 1.0, 0.0)))
    plan = dict.fromkeys(attentions(model), product_plan("lsc"))
    for attention in quantize_attentions(model, plan).values():
        set_steps(attention)
    return model.eval().requires_grad_(False)


def cross_inputs() -> dict[str, torch.Tensor]:
    torch.manual_seed(5)
    return {"q": torch.randn(2, 64, 64), "k": torch.randn(2, 200, 16), "v": torch.randn(2, 200, 16)}


def test_all_attentions_of_the_two_components_are_found(loaded):
    names = [f"image_encoder.trunk.blocks.{i}.attn" for i in range(8)]
    for i in range(2):
        names += [f"memory_attention.layers.{i}.{k}" for k in ("self_attn", "cross_attn_image")]
    assert list(attentions(loaded)) == names
    assert sorted(quantized_attentions(loaded)) == sorted(names)
    modules = dict(loaded.named_modules())
    assert all(modules[name] is module for name, module in attentions(loaded).items())


def test_values_on_the_grid_of_their_projection_need_no_other(loaded):
    parts = {n: tuple(a.product.quantizers) for n, a in quantized_attentions(loaded).items()}
    assert parts.pop(CROSS) == ("q", "k")
    assert set(parts.values()) == {("q", "k", "v")}


def test_observing_changes_nothing(float_checkpoint):
    model: Any = load_checkpoint(float_checkpoint, config=small_config()).model
    image = torch.randn(1, 3, 128, 128)
    before = model.image_encoder(image)["vision_features"]
    observed = observe_attentions(model)
    seen: list[tuple[int, ...]] = []
    observed[TRUNK].product.q.register_forward_pre_hook(lambda _, x: seen.append(x[0].shape))
    assert torch.equal(model.image_encoder(image)["vision_features"], before)
    assert len(seen) == 1
    assert quantized_attentions(model) == {}
    assert observe_attentions(model) == observed  # a second time is no change
    memory = cross_inputs()
    values: list[torch.Tensor] = []
    observed[CROSS].product.v.register_forward_pre_hook(lambda _, x: values.append(x[0]))
    expected = attentions(build_like(model))[CROSS](**memory, num_k_exclude_rope=8)
    assert torch.equal(observed[CROSS](**memory, num_k_exclude_rope=8), expected)
    assert torch.equal(values[0], memory["v"])


def build_like(model: Any) -> Any:
    other = build_model(small_config())
    other.load_state_dict(float_state(model))
    return other


def test_the_layer_is_upstreams_with_another_product(loaded):
    """Rebuild one layer from its own projections and the product alone."""
    attention = quantized_attentions(loaded)[TRUNK]
    x = torch.randn(3, 8, 8, 16)
    found = attention(x)
    layer: Any = attention
    qkv = layer.qkv(x).reshape(3, 64, 3, layer.num_heads, -1).permute(2, 0, 3, 1, 4)
    y = layer.product(*qkv).transpose(1, 2).reshape(3, 8, 8, -1)
    assert torch.equal(found, layer.proj(y))
    floats = F.scaled_dot_product_attention(*qkv).transpose(1, 2).reshape(3, 8, 8, -1)
    assert not torch.equal(found, layer.proj(floats))


def test_averages_of_projected_values_are_projected_averages(loaded):
    """The exported graph projects the memories after the attention."""
    attention: Any = quantized_attentions(loaded)["memory_attention.layers.1.cross_attn_image"]
    memory = cross_inputs()
    expected = attention(**memory, num_k_exclude_rope=8)
    seen: list[tuple[torch.Tensor, ...]] = []
    attention.product.register_forward_pre_hook(lambda _, x: seen.append(x))
    attention(**memory, num_k_exclude_rope=8)
    attention.product._forward_pre_hooks.clear()
    q, k, projected = seen[0]
    on_grid = attention.product.v(memory["v"])
    assert torch.equal(projected[:, 0], attention.v_proj(on_grid))
    after = attention.v_proj(attention.product(q, k, on_grid[:, None])[:, 0])
    torch.testing.assert_close(attention.out_proj(after), expected, rtol=1e-4, atol=1e-4)


def test_other_attention_is_left_alone(loaded):
    """Nothing outside the layers is redirected, in the mask decoder for instance."""
    q = torch.randn(1, 2, 5, 8)
    expected = (q @ q.transpose(-2, -1) * 8**-0.5).softmax(-1) @ q
    quantized_attentions(loaded)[TRUNK](torch.randn(1, 8, 8, 16))
    torch.testing.assert_close(F.scaled_dot_product_attention(q, q, q), expected)
    decoder = loaded.sam_mask_decoder.transformer
    assert not any(isinstance(m, QuantAttention) for m in decoder.modules())


def test_a_context_of_floats(loaded):
    attention, x = quantized_attentions(loaded)[TRUNK], torch.randn(1, 8, 8, 16)
    integers = attention(x)
    with float_attention(loaded):
        assert attention.steps() is None
        floats = attention(x)
    assert not torch.equal(floats, integers)
    with pytest.raises(KeyError), float_attention(loaded):
        raise KeyError
    assert torch.equal(attention(x), integers)


def test_steps_for_export(loaded):
    quantized = quantized_attentions(loaded)
    step = np.float32(3.0) / np.float32(127)
    assert quantized[SELF].steps() == AttentionSteps(step, step, step)
    assert quantized[CROSS].steps() == AttentionSteps(step, step, None)
    damaged = copy.deepcopy(quantized[SELF])
    damaged.product.quantizers["k"].warm_start(*map(torch.tensor, (torch.nan, 1.0, 0.0)))
    with pytest.raises(Qsam2Error, match=f"the step of k of the attention {SELF} must be finite"):
        damaged.steps()


def test_an_unknown_attention_is_named(float_checkpoint):
    model = load_checkpoint(float_checkpoint, config=small_config()).model
    with pytest.raises(InputError, match=r"no attention layer 'image_encoder\.nothing'"):
        quantize_attentions(model, {"image_encoder.nothing": product_plan("lsc")})
    affine = QuantizerPlan("lsc", Grid(8, AFFINE))
    with pytest.raises(InputError, match="must have symmetric grids of 8 bits, but got affine"):
        quantize_attentions(model, {TRUNK: affine})
    assert quantized_attentions(model) == {}


# ------------------------------------------------------------------------------ the entry
def entry_of(model: nn.Module) -> dict[str, Any]:
    return make_entry(model, recipe={}, scope="encoder", weight_bits=8, activation_bits=8)


def test_reloading_gives_the_same_numbers(loaded, tmp_path):
    path = tmp_path / "quantized.pt"
    save_checkpoint(path, float_state(loaded), config=small_config(), quantization=entry_of(loaded))
    again: Any = load_checkpoint(path).model
    assert list(quantized_attentions(again)) == list(quantized_attentions(loaded))
    assert not any(p.requires_grad for p in again.parameters())
    image = torch.randn(1, 3, 128, 128)
    expected = loaded.image_encoder(image)["vision_features"]
    assert torch.equal(again.image_encoder(image)["vision_features"], expected)
    memory = cross_inputs()
    for name in (CROSS, "memory_attention.layers.1.cross_attn_image"):
        found, wanted = (
            quantized_attentions(m)[name](**memory, num_k_exclude_rope=8) for m in (again, loaded)
        )
        assert torch.isfinite(wanted).all()
        assert torch.equal(found, wanted)


@pytest.mark.parametrize("method", ["lsq+", "pact", "sawb", "minmax", "lsc"])
def test_products_of_every_quantizer_of_activations(method, float_checkpoint):
    """Beside a layer with an affine input, and with what a method can be told."""
    checkpoint = load_checkpoint(float_checkpoint, config=small_config())
    model: Any = checkpoint.model
    options = {"learn_alpha": False} if method == "lsc" else {}
    plan = {TRUNK: product_plan(method, options)}
    for layer in quantize_layers(model, {f"{TRUNK}.qkv": LayerPlan(4, 8, "lsq+")}).values():
        rows = layer.weight_rows()
        layer.weight_quantizer.warm_start(rows.abs().amax(1), rows.std(1), rows.mean(1))
        layer.input_quantizer.warm_start(*map(torch.tensor, (3.0, 1.0, 0.0, -1.0)))
    set_steps(quantize_attentions(model.eval(), plan)[TRUNK])
    again: Any = load_checkpoint(float_checkpoint, config=small_config()).model
    apply_entry(again, entry_of(model), "here")
    found, wanted = (quantized_attentions(m)[TRUNK] for m in (again, model))
    assert found.steps() == wanted.steps() is not None
    for quantizer in found.product.quantizers.values():
        assert (quantizer.method, quantizer.grid) == (method, Grid(8))
        assert quantizer.options == wanted.product.quantizers["q"].options
    assert found.qkv.input_quantizer.zero_point is not None
    x = torch.randn(3, 8, 8, 16)
    assert torch.equal(found(x), wanted(x))


def test_official_tools_find_the_official_names(loaded, float_checkpoint):
    official = torch.load(float_checkpoint, weights_only=True)["model"]
    assert float_state(loaded).keys() == official.keys()


def test_damaged_entries_are_refused(loaded):
    entry = entry_of(loaded)
    assert entry["format_version"] == 4
    other_weights, contradiction, one_too_many, too_few, mixed, unknown, odd = (
        copy.deepcopy(entry) for _ in range(7)
    )
    other_weights["attention"][TRUNK]["weight_sha256"] = "0" * 64
    contradiction["attention"][TRUNK]["k"]["scale"] *= 2
    one_too_many["attention"][CROSS]["v"] = entry["attention"][SELF]["v"]
    del too_few["attention"][SELF]["v"]
    mixed["attention"][SELF]["v"]["bits"] = 4
    unknown["attention"]["image_encoder.nothing"] = entry["attention"][SELF]
    odd["attention"] = ["q", "k", "v"]
    cases = [
        (other_weights, f"the weights of {TRUNK} are not those"),
        (contradiction, f"the steps of {TRUNK} contradict"),
        (one_too_many, f"the attention {CROSS} has the parts q, k, weight_sha256, v"),
        (too_few, f"the attention {SELF} has the parts q, k, weight_sha256"),
        (mixed, "are quantized in different ways"),
        (unknown, "no attention layer"),
        (odd, "does not fit its model"),
    ]
    for damaged, message in cases:
        model = build_model(small_config())
        model.load_state_dict(float_state(loaded))
        with pytest.raises(CheckpointError, match=message):
            apply_entry(model, damaged, "model.pt")


def test_the_second_version_had_none(loaded):
    entry = entry_of(loaded)
    entry["format_version"] = 2
    del entry["attention"]
    model = build_model(small_config())
    model.load_state_dict(float_state(loaded))
    apply_entry(model, entry, "model.pt")
    assert quantized_attentions(model) == {}
