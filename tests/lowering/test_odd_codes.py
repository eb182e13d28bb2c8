"""Mid-rise weights as odd integers are the same floats, to the bit."""

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto

from qsam2_deploy.engines.onnxruntime.cpu import lower_here
from qsam2_deploy.lowering import (
    integers_of_constants,
    lower_for_tensorrt_int4,
    lower_for_tensorrt_int8,
    lower_to_float,
)
from qsam2_deploy.lowering.odd_codes import odd_codes
from qsam2_deploy.lowering.widen_constants import widen_constants
from qsam2_deploy.onnx_graph.index import GraphIndex, attribute, value_of
from qsam2_deploy.quant.quantizers.grid import MIDRISE, MIN_SCALE, Grid, dequantize
from tests.support.quantized_layers import KINDS, graph_of, make_layer, run


@pytest.mark.parametrize("width", range(2, 8))
def test_odd_codes_are_exact_at_every_step(width):
    """All levels at steps of every magnitude, next to the smallest half and float numbers too."""
    grid, rng = Grid(width, MIDRISE), np.random.default_rng(width)
    mantissas = np.concatenate([rng.random(2000) + 1, [1.0, np.nextafter(2, 1), 1 + 2.0**-23]])
    scales = np.concatenate([mantissas * 2.0**e for e in (-24, -15, -14, -3, 0, 20)])
    scales = np.concatenate([scales, [MIN_SCALE, 2.0**-125, 2.0**-124 * (1 + 2.0**-23)]])
    scales = scales.astype(np.float32)[:, None]
    codes = np.arange(grid.qmin, grid.qmax + 1)[None]
    levels = (codes + np.float32(0.5)).astype(np.float32)
    trained = dequantize(torch.from_numpy(levels), torch.from_numpy(scales)).numpy()
    odd = (2 * codes + 1).astype(np.int8)
    np.testing.assert_array_equal(odd, 2 * codes + 1)
    np.testing.assert_array_equal(odd.astype(np.float32) * (scales * np.float32(0.5)), trained)
    # Why the file does not simply add half a step to what DequantizeLinear gives.
    twice_rounded = codes.astype(np.float32) * scales + scales * np.float32(0.5)
    assert (twice_rounded != trained).any() == (width > 2)


def weight_of(model: onnx.ModelProto) -> Any:
    """Return the weight that the only product of ``model`` multiplies with, as ONNX has it."""
    index = GraphIndex(model)
    kinds = ("MatMul", "Conv", "ConvTranspose")
    product = next(node for node in model.graph.node if node.op_type in kinds)
    node = index.quantized_constant(product.input[1])
    assert node is not None
    codes, scale = (value_of(index.constants[name]) for name in node.input[:2])
    shape = [1] * codes.ndim
    shape[attribute(node, "axis", 1)] = -1
    return codes.astype(np.float32) * scale.reshape(shape)


@pytest.mark.parametrize("bits", [2, 3, 4, 7])
@pytest.mark.parametrize("kind", KINDS)
def test_a_layer(kind, bits):
    layer, _ = make_layer(kind, bits, weight_grid=MIDRISE)
    model = graph_of(kind, layer)
    onnx.checker.check_model(model, full_check=True)
    stored = next(t for t in model.graph.initializer if t.name == "c/layer.weight")
    codes = layer.export_form().weight_codes
    assert len(stored.raw_data) == -(-codes.size * {2: 2, 3: 4, 4: 4, 7: 8}[bits] // 8)
    widen_constants(model)
    assert odd_codes(model) == 1
    assert odd_codes(model) == 0
    with torch.no_grad():
        expected = layer.quantized_weight().numpy()
    if kind == "linear":
        expected = expected.T
    elif kind == "pointwise":
        expected = expected.reshape(24, 48, 1, 1)
    np.testing.assert_array_equal(weight_of(model), expected)


def test_other_layers_are_left_alone():
    model = graph_of("linear", make_layer("linear", 4)[0])
    widen_constants(model)
    before = model.SerializeToString()
    assert odd_codes(model) == 0
    assert model.SerializeToString() == before


@pytest.mark.parametrize(("bits", "blocked"), [(2, 1), (3, 1), (4, 0)])
def test_tensorrt_gets_odd_integers(bits, blocked):
    """INT4 holds those of 2 and 3 bits; wider ones become floats there."""
    layer, _ = make_layer("linear", bits, weight_grid=MIDRISE)
    for lower, data_type in (
        (lower_for_tensorrt_int8, TensorProto.INT8),
        (lower_for_tensorrt_int4, TensorProto.INT4),
    ):
        model = graph_of("linear", layer)
        count = lower(model)
        types = {t.data_type for t in model.graph.initializer}
        assert (data_type in types) == (count is None or blocked == 1)
        assert count in (None, blocked)
        if count != 0:
            index = GraphIndex(model)
            nodes = [n for n in model.graph.node if n.op_type == "DequantizeLinear"]
            weight = next(n for n in nodes if n.input[0] in index.constants)
            codes = value_of(index.constants[weight.input[0]]).astype(np.int8)
            assert (codes % 2 == 1).all()
            assert 2**bits - 4 < abs(codes).max() < 2**bits


@pytest.mark.parametrize("lower", [lower_to_float, lower_here])
def test_a_layer_with_one_output(lower):
    """Its scale has no axis that tells where channels are."""
    torch.manual_seed(0)
    from qsam2_deploy.quant.layers.modules import LayerPlan, quantize_layers

    model = torch.nn.Sequential(torch.nn.Linear(128, 1))
    layer = quantize_layers(model, {"0": LayerPlan(3, 8, weight_grid=MIDRISE)})["0"]
    layer.train()
    x = torch.randn(64, 128)
    layer(x)
    layer.eval().requires_grad_(False)
    graph = graph_of("linear", layer)
    lower(graph)
    np.testing.assert_allclose(run(graph, x), layer(x).numpy(), rtol=1e-5, atol=1e-5)


def test_both_passes_together_leave_no_packed_integers():
    model = graph_of("conv", make_layer("conv", 2, weight_grid=MIDRISE, half_steps=True)[0])
    integers_of_constants(model)
    types = {t.data_type for t in model.graph.initializer}
    assert types == {TensorProto.FLOAT, TensorProto.INT8}
