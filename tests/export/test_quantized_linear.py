"""Quantized layers in the graph compute what the fake-quantized torch layers compute."""

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from qsam2_deploy.export.graph import GraphBuilder, model_from_graphs
from qsam2_deploy.export.layers import linear, linear_parts
from qsam2_deploy.export.linear_weights import LinearWeights
from qsam2_deploy.lowering.integer_matmul import FUSED, integer_matmul
from qsam2_deploy.lowering.widen_constants import widen_constants
from qsam2_deploy.quant.layers.modules import LayerPlan, QuantLinear, quantize_layers
from qsam2_deploy.spec import ComponentSpec, TensorSpec
from tests.support.plain_engine import run_plainly

IN, OUT, ROWS = 24, 18, 64


def quantized_layer(bits: int) -> tuple[QuantLinear, torch.Tensor]:
    torch.manual_seed(bits)
    model = nn.Sequential(nn.Linear(IN, OUT))
    x = torch.randn(ROWS, IN) * 3
    quantize_layers(model, {"0": LayerPlan(weight_bits=bits, input_bits=bits)})
    layer = model[0]
    assert isinstance(layer, QuantLinear)
    rows = layer.weight.detach()
    layer.weight_quantizer.warm_start(2 * rows.std(1), rows.std(1), rows.mean(1))
    layer.input_quantizer.warm_start(2 * x.std(), x.std(), x.mean())
    return layer.eval(), x


def graph_of(layer: nn.Linear | LinearWeights, parts: int = 1) -> onnx.ModelProto:
    shape = ("B", IN)
    outputs = tuple(TensorSpec(f"y{i}", "float32", ("B", OUT // parts)) for i in range(parts))
    g = GraphBuilder(ComponentSpec("c", (TensorSpec("x", "float32", shape),), outputs))
    if parts == 1:
        results = [linear(g, g.input("x"), layer, name="layer")]
    else:
        results = linear_parts(g, g.input("x"), layer, parts, name="layer")
    for i, result in enumerate(results):
        g.output(f"y{i}", result)
    return model_from_graphs([g], {}, "test")


def run(model: onnx.ModelProto, x: torch.Tensor) -> list[np.ndarray]:
    return run_plainly(model, {"c/x": x.numpy()})


@pytest.mark.parametrize("bits", [8, 6, 4, 3, 2])
@pytest.mark.parametrize("lowered", [False, True])
def test_equals_the_torch_layer(bits, lowered):
    layer, x = quantized_layer(bits)
    model = graph_of(layer)
    widen_constants(model)
    if lowered:
        assert integer_matmul(model, unsigned=True) == 1
        assert [n.op_type for n in model.graph.node].count(FUSED) == 1
        assert "DequantizeLinear" not in {n.op_type for n in model.graph.node}
    with torch.inference_mode():
        expected = layer(x).numpy()
    found = run(model, x)[0]
    assert np.ptp(expected) > 1
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_codes_and_scales_are_stored_as_trained():
    layer, _ = quantized_layer(4)
    form = layer.export_form()
    stored = {t.name: numpy_helper.to_array(t) for t in graph_of(layer).graph.initializer}
    np.testing.assert_array_equal(stored["c/layer.weight"].T, form.weight_codes)
    np.testing.assert_array_equal(stored["c/layer.weight_scale"], form.weight_scale)
    np.testing.assert_array_equal(stored["c/layer.input_scale"], form.input_scale)


def test_parts_share_one_quantized_input():
    layer, x = quantized_layer(8)
    model = graph_of(layer, parts=3)
    kinds = [n.op_type for n in model.graph.node]
    assert kinds.count("QuantizeLinear") == 1
    assert integer_matmul(model, unsigned=True) == 3
    with torch.inference_mode():
        expected = layer(x).numpy()
    np.testing.assert_allclose(np.concatenate(run(model, x), axis=1), expected, atol=1e-5)


def test_rewrites_keep_the_codes():
    """Scaling outputs goes into the scales, permuting them moves the codes."""
    layer, x = quantized_layer(4)
    order = np.random.default_rng(0).permutation(OUT)
    factors = np.linspace(0.5, 2, OUT).astype(np.float32)
    weights = LinearWeights(layer).permute_outputs(order).scale_outputs(factors)
    assert weights.quantized is not None
    np.testing.assert_array_equal(
        weights.quantized.weight_codes, layer.export_form().weight_codes[order]
    )
    with torch.inference_mode():
        expected = layer(x).numpy()[:, order] * factors
    np.testing.assert_allclose(run(graph_of(weights), x)[0], expected, rtol=1e-4, atol=1e-5)


def test_float_layer_is_untouched_by_the_pass(tmp_path):
    torch.manual_seed(0)
    model = graph_of(nn.Linear(IN, OUT).requires_grad_(False))
    before = model.SerializeToString()
    assert integer_matmul(model) == 0
    assert model.SerializeToString() == before
