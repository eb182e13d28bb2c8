"""The form that quantized models are written in: valid, packed, small, and true to its metadata."""

import dataclasses
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, numpy_helper
from torch import nn

from qsam2_deploy.errors import InputError, Qsam2Error, UnsupportedModelError
from qsam2_deploy.export import onnx_from_checkpoint
from qsam2_deploy.export.graph import model_from_graphs, needed_opset
from qsam2_deploy.export.linear_weights import LinearWeights
from qsam2_deploy.model_file.bundle import read_bundle
from qsam2_deploy.quant.checkpoints.checkpoint import Checkpoint
from qsam2_deploy.quant.layers.modules import SCOPES, LayerPlan, layers_in_scope, quantize_layers
from qsam2_deploy.quant.quantizers.grid import MIN_SCALE
from tests.support.quantized_layers import KINDS, builder_for, graph_of, make_layer
from tests.support.quantized_model import quantize_model
from tests.support.weights import load_written

PACKED = {TensorProto.INT2: 2, TensorProto.INT4: 4, TensorProto.INT8: 8}


def weight_of(model: onnx.ModelProto) -> onnx.TensorProto:
    return next(t for t in model.graph.initializer if t.name.endswith("layer.weight"))


@pytest.mark.parametrize(
    ("bits", "data_type", "opset", "version"),
    [
        (2, TensorProto.INT2, 25, 13),
        (3, TensorProto.INT4, 21, 10),
        (4, TensorProto.INT4, 21, 10),
        (5, TensorProto.INT8, 17, 8),
        (7, TensorProto.INT8, 17, 8),
        (8, TensorProto.INT8, 17, 8),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_weights_have_the_narrowest_type(kind, bits, data_type, opset, version):
    layer, _ = make_layer(kind, bits)
    model = graph_of(kind, layer)
    onnx.checker.check_model(model, full_check=True)
    assert (model.opset_import[0].version, model.ir_version) == (opset, version)
    weight = weight_of(model)
    assert weight.data_type == data_type
    codes = layer.export_form().weight_codes
    assert len(weight.raw_data) == -(-codes.size * PACKED[data_type] // 8)
    expected = codes.T if kind == "linear" else codes
    np.testing.assert_array_equal(numpy_helper.to_array(weight).astype(np.int8), expected)


@pytest.mark.parametrize("bits", [8, 5, 2])
def test_narrow_inputs_are_clipped_to_their_grid(bits):
    layer, _ = make_layer("linear", bits)
    graph = graph_of("linear", layer).graph
    clips = [node for node in graph.node if node.op_type == "Clip"]
    assert len(clips) == (bits < 8)
    stored = {t.name: t for t in graph.initializer}
    step = np.float32(layer.export_form().input_scale)
    np.testing.assert_array_equal(numpy_helper.to_array(stored["c/layer.input_scale"]), step)
    for node in clips:
        limits = [float(numpy_helper.to_array(stored[name])) for name in node.input[1:]]
        wanted = step * np.float32([-(2 ** (bits - 1)), 2 ** (bits - 1) - 1])
        assert limits == wanted.tolist()


def test_the_opset_can_be_raised_but_not_lowered():
    layer, _ = make_layer("linear", 2)
    message = r"opset 21 has no INT2, in which c/layer\.weight is stored; give at least 25"
    with pytest.raises(InputError, match=message):
        graph_of("linear", layer, opset=21)
    wide, _ = make_layer("linear", 8)
    for opset in (17, 19, 21, 25):
        model = graph_of("linear", wide, opset=opset)
        assert model.opset_import[0].version == opset
        onnx.checker.check_model(model, full_check=True)
    for opset in (16, 26):
        with pytest.raises(InputError, match=f"must be 17 to 25, but got {opset}"):
            graph_of("linear", wide, opset=opset)


def test_an_onnx_that_is_too_old_is_named(monkeypatch):
    class OldTensorProto:
        FLOAT = TensorProto.FLOAT

    layer, _ = make_layer("linear", 2)
    monkeypatch.setattr("qsam2_deploy.export.graph.TensorProto", OldTensorProto)
    with pytest.raises(UnsupportedModelError, match="2 bits need a newer version of onnx than"):
        graph_of("linear", layer)


def test_float_numbers_are_halved_where_nothing_is_lost():
    values = np.linspace(-2, 2, 257).astype(np.float32)
    for array, halved in (
        (values.astype(np.float16).astype(np.float32), True),
        (values / 3, False),
        (np.full(64, 1e6, np.float32), False),
        (np.full(64, np.nan, np.float32), False),
        (np.zeros(63, np.float32), False),  # a Cast would be larger
    ):
        g = builder_for((array.size,), (array.size,))
        g.output("y", g.add(g.input("x"), g.constant("table", array), name="sum"))
        model = model_from_graphs([g], {}, "test")
        onnx.checker.check_model(model, full_check=True)
        stored = model.graph.initializer[0]
        assert (stored.data_type == TensorProto.FLOAT16) == halved
        np.testing.assert_array_equal(numpy_helper.to_array(stored).astype(np.float32), array)
        assert [n.op_type for n in model.graph.node].count("Cast") == halved


def test_needed_opset_of_a_float_model():
    assert needed_opset([builder_for((1,), (1,))]) == 17


# ------------------------------------------------------------------------------ whole models
@pytest.fixture
def loaded(checkpoint) -> Checkpoint:
    return load_written(checkpoint)


@pytest.mark.parametrize(("bits", "opset"), [(2, 25), (3, 21), (8, 17)])
def test_a_whole_model(loaded, tmp_path, bits, opset):
    path = tmp_path / "model.onnx"
    spec = onnx_from_checkpoint(quantize_model(loaded, bits), path)
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert model.opset_import[0].version == opset
    types = {t.name: t.data_type for t in model.graph.initializer}
    stored = {name for name, kind in types.items() if kind in PACKED and name.endswith("weight")}
    assert spec.quantization is not None
    assert len(stored) == spec.quantization.weights > spec.quantization.layers
    assert spec.quantization.widths == {}
    assert spec.quantization.usual_widths == f"w{bits}a{bits}"
    assert read_bundle(path).spec.to_json() == spec.to_json()  # it compares graph and metadata
    # No layer is left that multiplies floats with a constant.
    floats = {n for n, kind in types.items() if kind in (1, 10)}
    for node in model.graph.node:
        if node.op_type in ("MatMul", "Conv", "ConvTranspose"):
            left = [n for n in node.input[:2] if n in floats]
            assert all(name.endswith("gaussian_matrix") for name in left)


QUICK = {(2, "all"), (3, "encoder"), (5, "all"), (8, "encoder")}
"""Codes of whole and of parts of bytes, and both scopes."""


@pytest.mark.parametrize(
    ("bits", "scope"),
    [
        pytest.param(bits, scope, marks=() if (bits, scope) in QUICK else pytest.mark.slow)
        for bits in range(2, 9)
        for scope in SCOPES
    ],
)
def test_every_width_and_scope_passes_the_checker(loaded, tmp_path, bits, scope):
    path, activations = tmp_path / "model.onnx", 8 if bits % 2 else bits
    quantized = quantize_model(loaded, bits, activation_bits=activations, scope=scope)
    onnx_from_checkpoint(quantized, path, show_progress=False)
    onnx.checker.check_model(onnx.load(path), full_check=True)
    bundle = read_bundle(path)
    assert bundle.spec.quantization is not None
    assert bundle.spec.quantization.scope == scope
    assert bundle.spec.quantization.usual_widths == f"w{bits}a{activations}"
    for component in bundle.components.values():
        onnx.checker.check_model(component, full_check=True)


def test_mixed_widths_are_in_the_metadata(loaded, tmp_path):
    path = tmp_path / "model.onnx"
    spec = onnx_from_checkpoint(
        quantize_model(loaded, 8, memory_encoder=3, memory_attention=2), path
    )
    assert spec.quantization is not None
    widths = spec.quantization.widths
    assert widths["memory_encoder/out_proj.weight"] == "w3a8"
    assert widths["memory_attention/layers.0.linear1.weight"] == "w2a8"
    assert "image_encoder/trunk.blocks.0.attn.qkv/1.weight" not in widths
    assert spec.quantization.usual_widths == "w8a8"
    types = {t.name: t.data_type for t in onnx.load(path).graph.initializer}
    assert types["memory_encoder/out_proj.weight"] == TensorProto.INT4
    assert types["memory_attention/layers.0.linear1.weight"] == TensorProto.INT2


def test_grids_are_in_the_metadata(loaded, tmp_path):
    path = tmp_path / "model.onnx"
    model = loaded.model
    names = list(layers_in_scope(model, "all"))
    plan = {
        name: LayerPlan(2 if "fuser" in name else 8, 4, weight_grid="midrise", input_grid="affine")
        for name in names
    }
    layers = quantize_layers(model, plan)
    one = torch.tensor(1.0)
    for layer in layers.values():
        rows = layer.weight_rows()
        layer.weight_quantizer.warm_start(2 * rows.std(1), rows.std(1), rows.mean(1))
        layer.input_quantizer.warm_start(one, one, 0 * one, -0.5 * one)
    model.eval().requires_grad_(False)
    entry = {"scope": "all", "weight_bits": 8, "activation_bits": 4}
    spec = onnx_from_checkpoint(dataclasses.replace(loaded, quantization=entry), path)
    assert spec.quantization is not None
    assert spec.quantization.usual_grids == "symmetric/affine"
    assert spec.quantization.grids["memory_encoder/fuser.layers.0.pwconv1.weight"] == (
        "midrise/affine"
    )
    assert len(spec.quantization.grids) < spec.quantization.weights
    assert read_bundle(path).spec.to_json() == spec.to_json()
    stored = {t.name: t for t in onnx.load(path).graph.initializer}
    assert stored["memory_encoder/fuser.layers.0.pwconv1.weight"].data_type == TensorProto.INT2
    zero_point = numpy_helper.to_array(stored["memory_encoder/out_proj.input_zero_point"])
    assert (zero_point.dtype, int(zero_point)) == (np.int8, -3)


def test_a_step_that_is_no_number_is_named(loaded, tmp_path):
    model: Any = quantize_model(loaded, 4).model
    layer = model.memory_encoder.fuser.layers[0].pwconv1
    for value, what in ((torch.nan, "weight"), (torch.inf, "input")):
        quantizer = getattr(layer, f"{what}_quantizer")
        before = quantizer.sigma.clone()
        quantizer.sigma.fill_(value)
        message = rf"the {what} step of the layer memory_encoder\.fuser\.layers\.0\.pwconv1 must be"
        with pytest.raises(Qsam2Error, match=message):
            onnx_from_checkpoint(loaded, tmp_path / "model.onnx")
        quantizer.sigma.copy_(before)
    assert list(tmp_path.iterdir()) == []


def test_dead_channels_are_counted_and_have_a_step(loaded, tmp_path):
    with torch.no_grad():
        loaded.model.memory_encoder.out_proj.weight[3] = 0
        loaded.model.memory_attention.layers[0].self_attn.q_proj.weight[[0, 5]] = 0
    path = tmp_path / "model.onnx"
    spec = onnx_from_checkpoint(quantize_model(loaded, 4), path)
    assert spec.quantization is not None
    assert spec.quantization.dead_channels == 3
    stored = {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    scales = [v for n, v in stored.items() if n.endswith(("weight_scale", "input_scale"))]
    assert min(float(s.min()) for s in scales) == MIN_SCALE


def test_a_factor_does_not_make_the_step_of_a_dead_channel_too_small():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 4))
    with torch.no_grad():
        model[0].weight[1] = 0
    layer = quantize_layers(model, {"0": LayerPlan(4, 8)})["0"]
    layer.train()
    layer(torch.randn(5, 8))
    layer.eval()
    before = layer.export_form().weight_scale
    scaled = LinearWeights(model[0]).scale_outputs(np.full(4, 0.25, np.float32)).quantized
    assert scaled is not None
    expected = before * np.float32(0.25)
    expected[1] = MIN_SCALE
    np.testing.assert_array_equal(scaled.weight_scale, expected)
