"""Half precision where it is enough, and the same results but for rounding."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from qsam2_deploy.engines.onnxruntime.cpu import run_session, session_from_lowered
from qsam2_deploy.errors import UnsupportedModelError
from qsam2_deploy.lowering import (
    TENSORRT_PRECISIONS,
    lower_for_tensorrt,
    lower_for_tensorrt_int4,
    lower_for_tensorrt_int8,
)
from qsam2_deploy.lowering.half_precision import half_precision
from qsam2_deploy.model_file.bundle import read_bundle
from qsam2_deploy.onnx_graph.index import GraphIndex, value_of
from qsam2_deploy.onnx_graph.tensors import copy_of
from qsam2_deploy.spec import COMPONENTS, MASK_DECODER, MEMORY_ATTENTION, MEMORY_ENCODER
from tests.support.components import random_inputs
from tests.support.graphs import model_of

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16


def run(model: onnx.ModelProto, inputs: dict[str, Any]) -> dict[str, Any]:
    return run_session(session_from_lowered(model.SerializeToString(), "m", 1), "m", inputs)


def types_of(model: onnx.ModelProto) -> dict[str, int]:
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    infos = (*inferred.value_info, *inferred.input, *inferred.output)
    types = {info.name: info.type.tensor_type.elem_type for info in infos}
    return types | {tensor.name: tensor.data_type for tensor in model.graph.initializer}


def distance(wanted: np.ndarray, found: np.ndarray) -> float:
    """Return the largest difference as a share of the largest value."""
    return float(np.abs(wanted - found).max() / np.abs(wanted).max())


@pytest.mark.parametrize("component", COMPONENTS)
def test_it_computes_the_same_but_for_rounding(model_path, component):
    bundle = read_bundle(model_path)
    reference = bundle.components[component]
    inputs = random_inputs(bundle.spec, component)
    wanted = run(reference, inputs)
    model = copy_of(reference)
    assert half_precision(model) > 0
    onnx.checker.check_model(model, full_check=True)
    found = run(model, inputs)
    distances = [distance(wanted[name], found[name]) for name in wanted]
    assert max(distances) < 5e-3
    assert max(distances) > 1e-6, "nothing was rounded"
    for before, after in (
        (reference.graph.input, model.graph.input),
        (reference.graph.output, model.graph.output),
    ):
        assert [t.SerializeToString() for t in before] == [t.SerializeToString() for t in after]


@pytest.mark.parametrize("component", COMPONENTS)
def test_what_needs_it_stays_in_single_precision(model_path, component):
    model = read_bundle(model_path).components[component]
    half_precision(model)
    types = types_of(model)
    seen = set()
    for node in model.graph.node:
        if node.op_type in ("LayerNormalization", "Softmax", "Sin", "Cos", "Greater"):
            seen.add(node.op_type)
            assert types[node.input[0]] == FLOAT, node.name
    assert "LayerNormalization" in seen
    products = {n.name: types[n.output[0]] for n in model.graph.node if n.op_type == "MatMul"}
    halves = [name for name, kind in products.items() if kind == HALF]
    single = set(products) - set(halves)
    expected = {
        MASK_DECODER: {"points:4", "mask_logits", "iou_prediction_head.layers.2",
                       "pred_obj_score_head.layers.2"},
    }  # fmt: skip
    assert single == {f"{component}/{name}" for name in expected.get(component, ())}
    assert len(halves) >= 4


def test_thresholds_see_what_they_would_in_single_precision(model_path):
    """Mask logits too small for half precision are still on the object."""
    bundle = read_bundle(model_path)
    inputs = random_inputs(bundle.spec, MEMORY_ENCODER) | {"from_points": np.array([True, True])}
    inputs["mask_logits"] = np.where(inputs["mask_logits"] > 0, 1e-9, -1e-9).astype(np.float32)
    wanted = run(bundle.components[MEMORY_ENCODER], inputs)["memory"]
    model = copy_of(bundle.components[MEMORY_ENCODER])
    half_precision(model)
    assert distance(wanted, run(model, inputs)["memory"]) < 5e-3
    empty = inputs | {"mask_logits": np.full_like(inputs["mask_logits"], -1)}
    assert distance(wanted, run(model, empty)["memory"]) > 5e-2


def test_far_distances_keep_their_phase(model_path):
    bundle = read_bundle(model_path)
    inputs = random_inputs(bundle.spec, MEMORY_ATTENTION)
    inputs["pointer_tpos"] = np.array([4000.3, 4001.1, 4002.7], np.float32)
    wanted = run(bundle.components[MEMORY_ATTENTION], inputs)["conditioned"]
    model = copy_of(bundle.components[MEMORY_ATTENTION])
    half_precision(model)
    assert distance(wanted, run(model, inputs)["conditioned"]) < 5e-3


@pytest.mark.parametrize("component", COMPONENTS)
def test_integers_meet_their_products_without_a_cast(quantized_path, component):
    """A Cast between DequantizeLinear and the product would keep the engine from fusing them."""
    model = read_bundle(quantized_path).components[component]
    plain = copy_of(model)
    lower_for_tensorrt_int8(plain)
    count = lower_for_tensorrt(model, "int8")
    onnx.checker.check_model(model, full_check=True)
    assert model.opset_import[0].version == 19
    index, before = GraphIndex(model), GraphIndex(plain)
    assert count == sum(before.quantized_product(n) is not None for n in _binary(plain)) > 0
    assert count == sum(index.quantized_product(n) is not None for n in _binary(model))
    types = types_of(model)
    scales = {types[n.input[1]] for n in model.graph.node if n.op_type == "DequantizeLinear"}
    assert HALF in scales
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            users = index.users[node.output[0]]
            assert {types[user.input[1]] for user in users} == {types[node.input[1]]}, node.name


def _binary(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if len(node.input) > 1]


@pytest.mark.parametrize("component", COMPONENTS)
def test_int4_weights_have_steps_in_half_precision(quantized_path, component):
    bundle = read_bundle(quantized_path)
    model, plain = bundle.components[component], copy_of(bundle.components[component])
    assert lower_for_tensorrt_int4(plain) == lower_for_tensorrt(model, "int4") > 0
    onnx.checker.check_model(model, full_check=True)
    assert model.opset_import[0].version == 21
    inputs = random_inputs(bundle.spec, component)
    wanted, found = run(plain, inputs), run(model, inputs)
    assert max(distance(wanted[name], found[name]) for name in wanted) < 2e-2


def test_fp16_of_a_quantized_model_has_no_integers(quantized_path):
    model = read_bundle(quantized_path).components[MASK_DECODER]
    assert lower_for_tensorrt(model, "fp16") > 50
    kinds = {node.op_type for node in model.graph.node}
    assert not kinds & {"QuantizeLinear", "DequantizeLinear"}
    assert {t.data_type for t in model.graph.initializer} <= {FLOAT, HALF, 6, 7}


def test_every_precision_is_one_that_lowers(model_path):
    counts = {}
    for precision in TENSORRT_PRECISIONS:
        model = read_bundle(model_path).components[MEMORY_ENCODER]
        counts[precision] = lower_for_tensorrt(model, precision)
    assert counts == {"fp16": 13, "int8": 0, "int4": 0}


def linear(weight: np.ndarray, scale: np.ndarray | None = None) -> onnx.ModelProto:
    """Return ``y = x w``, with ``w`` a float constant or codes with steps."""
    constants = {"w": weight}
    nodes = []
    if scale is not None:
        constants["s"] = scale
        nodes.append(helper.make_node("DequantizeLinear", ["w", "s"], ["v"], "weight", axis=1))
    used = "w" if scale is None else "v"
    nodes.append(helper.make_node("MatMul", ["x", used], ["z"], "product"))
    nodes.append(helper.make_node("Identity", ["z"], ["y"], "output"))
    depth, outputs = weight.shape
    return model_of(nodes, {"x": [2, depth]}, {"y": [2, outputs]}, constants)


def test_steps_stay_positive():
    model = linear(np.zeros((4, 2), np.int8), np.array([1e-30, 0.5], np.float32))
    assert half_precision(model) == 1
    steps = next(value_of(t) for t in model.graph.initializer if t.name == "s/half")
    assert steps.dtype == np.float16
    assert steps[0] > 0
    assert steps[1] == 0.5


def test_constants_that_are_too_large_are_refused():
    with pytest.raises(UnsupportedModelError, match="constant w has values up to 7e"):
        half_precision(linear(np.full((4, 2), 7e4, np.float32)))


def test_casts_are_at_the_borders_alone():
    model = linear(np.ones((4, 2), np.float32))
    half_precision(model)
    kinds = [node.op_type for node in model.graph.node]
    assert kinds == ["Cast", "MatMul", "Cast", "Identity"]
    assert run(model, {"x": np.ones((2, 4), np.float32)})["y"].tolist() == [[4, 4], [4, 4]]
