"""Attention that no engine can fuse computes what it did."""

from collections import Counter

import numpy as np
import onnx
import pytest

from qsam2_deploy.lowering import lower_for_tensorrt
from qsam2_deploy.lowering.break_attention import break_attention
from qsam2_deploy.lowering.float_attention import float_attention
from qsam2_deploy.model_file.bundle import read_bundle
from qsam2_deploy.spec import COMPONENTS, MASK_DECODER, MEMORY_ENCODER
from tests.lowering.attention_graph import attention_graph, random_factors, run


@pytest.mark.parametrize("heads", [0, 3])
def test_results_stay(heads):
    factors = random_factors(20, 50, heads)
    model = attention_graph(20, 50, heads)
    float_attention(model)
    wanted = run(model, factors)
    assert break_attention(model) == 1
    onnx.checker.check_model(model, full_check=True)
    np.testing.assert_allclose(run(model, factors), wanted, rtol=1e-5, atol=1e-6)
    users = Counter(name for node in model.graph.node for name in node.input)
    weights = next(node.output[0] for node in model.graph.node if node.op_type == "Softmax")
    assert users[weights] == 2


@pytest.mark.parametrize("component", COMPONENTS)
def test_every_softmax_of_a_model(quantized_path, component):
    models = {}
    for fused in (True, False):
        models[fused] = read_bundle(quantized_path).components[component]
        lower_for_tensorrt(models[fused], "fp16", fused_attention=fused)
        onnx.checker.check_model(models[fused], full_check=True)
    before, after = (Counter(n.op_type for n in models[f].graph.node) for f in (True, False))
    attentions = before["Softmax"]
    assert (attentions == 0) == (component == MEMORY_ENCODER)
    assert after["ReduceSum"] - before["ReduceSum"] == attentions
    assert after["Div"] - before["Div"] == attentions
    if component == MEMORY_ENCODER:
        assert models[True] == models[False]


def test_the_sum_has_all_its_bits(quantized_path):
    model = read_bundle(quantized_path).components[MASK_DECODER]
    lower_for_tensorrt(model, "fp16", fused_attention=False)
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    types = {i.name: i.type.tensor_type.elem_type for i in inferred.graph.value_info}
    sums = [node for node in model.graph.node if node.op_type == "ReduceSum"]
    assert sums
    assert {types[node.input[0]] for node in sums} == {onnx.TensorProto.FLOAT}
