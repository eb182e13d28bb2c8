"""The passes that put the kernels in: what they match, what they leave, and the same numbers."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from qsam2_deploy.engines.onnxruntime.cpu import run_session, session_from_lowered
from qsam2_deploy.lowering import lower_for_ort
from qsam2_deploy.lowering.attention_codes import attention_codes
from qsam2_deploy.lowering.fused_attention import fused_attention
from qsam2_deploy.lowering.fused_linear import fused_linear
from qsam2_deploy.lowering.integer_attention import integer_attention
from qsam2_deploy.lowering.integer_matmul import integer_matmul
from qsam2_deploy.lowering.lift_quantize import lift_quantize
from qsam2_deploy.model_file.bundle import read_bundle
from tests.lowering.attention_graph import (
    VALUES,
    WIDTH,
    assert_same,
    attention_graph,
    expected,
    random_factors,
)
from tests.support.components import random_inputs
from tests.support.graphs import model_of


def run(model: onnx.ModelProto, inputs: dict[str, np.ndarray], kernels: Path | None) -> Any:
    made = session_from_lowered(model.SerializeToString(), "c", 1, kernels=kernels)
    return run_session(made, "c", inputs)["y"]


def kinds_of(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


@pytest.mark.parametrize("heads", [0, 3])
@pytest.mark.parametrize("zero_point", [0, -128, 127])
@pytest.mark.parametrize("transposed", [True, False])
def test_attention(library, heads, zero_point, transposed):
    factors = random_factors(40, 90, heads)
    model = attention_graph(40, 90, heads, zero_point=zero_point, transposed=transposed)
    shapes = {i.name: i for i in onnx.shape_inference.infer_shapes(model).graph.output}
    assert fused_attention(model) == 1
    kinds = kinds_of(model)
    assert kinds["QuantizedAttention"] == 1
    assert kinds["Transpose"] == (0 if transposed else 1)
    assert not {"MatMul", "Exp", "QuantizeLinear", "DequantizeLinear"} & kinds.keys()
    assert {i.name: i for i in onnx.shape_inference.infer_shapes(model).graph.output} == shapes
    k = factors["k"] if transposed else np.swapaxes(factors["k"], -1, -2)
    found = run(model, factors | {"k": k}, library)
    assert_same(found, expected(factors, zero_point=zero_point))


def test_any_number_of_keys(library):
    model = attention_graph(30, "keys")
    assert fused_attention(model) == 1
    for keys in (1, 7, 300):
        factors = random_factors(30, keys)
        assert_same(run(model, factors, library), expected(factors))


@pytest.mark.parametrize("missing", ["total", "largest", "p_codes", "q_codes"])
def test_other_attention_is_left_alone(missing):
    model = attention_graph(8, 20)
    node = next(n for n in model.graph.node if n.name == missing)
    node.op_type = {"largest": "ReduceMin", "total": "ReduceL1"}.get(missing, "Floor")
    before = model.SerializeToString()
    assert fused_attention(model) == 0
    assert model.SerializeToString() == before


def test_other_steps_of_the_weights_are_left_alone():
    model = attention_graph(8, 20)
    scale = next(t for t in model.graph.initializer if t.name == "p_scale")
    scale.CopyFrom(numpy_helper.from_array(np.float32(1 / 127), "p_scale"))
    assert fused_attention(model) == 0
    assert integer_attention(model, 64, unsigned=True) == 1


def _gelu(x: str) -> list[onnx.NodeProto]:
    make = helper.make_node
    return [
        make("Div", [x, "sqrt2"], ["g1"], "g1"),
        make("Erf", ["g1"], ["g2"], "g2"),
        make("Add", ["g2", "one"], ["g3"], "g3"),
        make("Mul", [x, "g3"], ["g4"], "g4"),
        make("Mul", ["g4", "half"], ["a"], "a"),
    ]


def two_layers(activation: str, *, between: bool = True, clipped: bool = False) -> onnx.ModelProto:
    """Return two quantized layers with an activation, and, if asked for, codes between them.

    ``clipped`` inputs have 2 bits: four codes from -2, or from -128 where the zero-point is there.
    """
    make, rng = helper.make_node, np.random.default_rng(0)
    constants: dict[str, Any] = {"zero": np.int8(0), "low": np.int8(-128)}
    constants |= {"sqrt2": np.float32(2**0.5), "one": np.float32(1), "half": np.float32(0.5)}
    nodes: list[onnx.NodeProto] = []
    for i, (name, depth, outputs, zero) in enumerate((("a", 24, 50, "zero"), ("b", 50, 20, "low"))):
        constants[f"{name}_step"] = np.float32(0.02 + 0.03 * i)
        constants[f"{name}_codes"] = rng.integers(-128, 128, (depth, outputs)).astype(np.int8)
        constants[f"{name}_scales"] = rng.uniform(1e-3, 3e-3, outputs).astype(np.float32)
        constants[f"{name}_bias"] = rng.normal(size=outputs).astype(np.float32)
        grid = [f"{name}_step", zero]
        weight = [f"{name}_codes", f"{name}_scales"]
        source = "x" if i == 0 else "a"
        if clipped:
            first = 0 if zero == "low" else -2
            for n, bound in (("least", first), ("most", first + 3)):
                constants[f"{name}_{n}"] = np.float32(bound) * constants[f"{name}_step"]
            bounds = [source, f"{name}_least", f"{name}_most"]
            source = f"{name}c"
            nodes.append(make("Clip", bounds, [source], source))
        nodes += [
            make("QuantizeLinear", [source, *grid], [f"{name}q"], f"{name}q"),
            make("DequantizeLinear", [f"{name}q", *grid], [f"{name}d"], f"{name}d"),
            make("DequantizeLinear", weight, [f"{name}w"], f"{name}w", axis=1),
            make("MatMul", [f"{name}d", f"{name}w"], [f"{name}m"], f"{name}m"),
            make("Add", [f"{name}m", f"{name}_bias"], [f"{name}y"], f"{name}y"),
        ]
        if i == 0:
            if activation == "gelu":
                nodes += _gelu("ay")
            else:
                nodes.append(make("Relu" if activation else "Identity", ["ay"], ["a"], "a"))
    nodes.append(make("Identity", ["by" if between else "a"], ["y"], "end"))
    nodes = nodes if between else [n for n in nodes if n.name[0] != "b"]
    return model_of(nodes, {"x": [2, 30, 24]}, {"y": None}, constants)


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_codes_go_from_layer_to_layer(library, activation):
    x = np.random.default_rng(1).normal(size=(2, 30, 24)).astype(np.float32)
    model, other = two_layers(activation), two_layers(activation)
    assert fused_linear(model) == 2
    kinds = {k: n for k, n in kinds_of(model).items() if k != "Identity"}
    assert kinds == {"QuantizedLinearCodes": 1, "QuantizedLinear": 1}
    assert integer_matmul(other, unsigned=True) == 2
    found, wanted = run(model, {"x": x}, library), run(other, {"x": x}, None)
    if activation == "relu":
        np.testing.assert_array_equal(found, wanted)
    assert np.mean(found != wanted) <= 0.02
    np.testing.assert_allclose(found, wanted, atol=0.02 * np.ptp(wanted))
    assert np.ptp(wanted) > 1


@pytest.mark.parametrize("activation", ["relu", "gelu", ""])
def test_limits_of_codes_are_taken_in(library, activation):
    x = np.random.default_rng(5).normal(size=(2, 30, 24)).astype(np.float32)
    model, other = (two_layers(activation, clipped=True) for _ in range(2))
    assert kinds_of(model)["Clip"] == 2
    assert fused_linear(model) == 2
    kinds = kinds_of(model)
    # An Identity is no activation, so the second layer quantizes its own input behind it.
    assert kinds["QuantizedLinearCodes"] == (1 if activation else 0)
    assert not {"Clip", "QuantizeLinear"} & kinds.keys()
    assert integer_matmul(other, unsigned=True) == 2
    found, wanted = run(model, {"x": x}, library), run(other, {"x": x}, None)
    if activation == "gelu":
        assert np.mean(found != wanted) <= 0.02
    else:
        np.testing.assert_array_equal(found, wanted)
    assert np.ptp(wanted) > 0.1


@pytest.mark.parametrize(("activation", "left"), [("relu", set()), ("gelu", {"Erf"})])
def test_a_gelu_without_codes_after_it_stays(library, activation, left):
    x = np.random.default_rng(2).normal(size=(2, 30, 24)).astype(np.float32)
    model, other = (two_layers(activation, between=False) for _ in range(2))
    assert fused_linear(model) == 1
    assert {"Erf", "Relu"} & kinds_of(model).keys() == left
    integer_matmul(other, unsigned=True)
    np.testing.assert_array_equal(run(model, {"x": x}, library), run(other, {"x": x}, None))


def test_codes_that_are_used_twice_stay(library):
    model = two_layers("")
    again = helper.make_node("DequantizeLinear", ["aq", "a_step", "zero"], ["more"], "more")
    model.graph.node.insert(1, again)
    model.graph.output.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, None))
    assert fused_linear(model) == 2
    assert kinds_of(model)["QuantizeLinear"] == 1
    x = np.random.default_rng(3).normal(size=(2, 30, 24)).astype(np.float32)
    other = two_layers("")
    integer_matmul(other, unsigned=True)
    np.testing.assert_array_equal(run(model, {"x": x}, library), run(other, {"x": x}, None))


def rotated_attention() -> onnx.ModelProto:
    """Return attention whose keys are rotated, reshaped and joined with others."""
    model = attention_graph(12, 24)
    make, half = helper.make_node, WIDTH // 2
    nodes = [
        make("Split", ["k", "halves"], ["ka", "kb"], "split", axis=-1),
        make("Mul", ["ka", "cos"], ["r1"], "r1"),
        make("Mul", ["kb", "sin"], ["r2"], "r2"),
        make("Sub", ["r1", "r2"], ["r3"], "r3"),
        make("Mul", ["ka", "sin"], ["r4"], "r4"),
        make("Mul", ["kb", "cos"], ["r5"], "r5"),
        make("Add", ["r4", "r5"], ["r6"], "r6"),
        make("Concat", ["r3", "r6"], ["rotated"], "rotated", axis=-1),
        make("Reshape", ["rotated", "flat"], ["rows"], "rows"),
        make("Concat", ["rows", "more"], ["joined"], "joined", axis=1),
    ]
    keys = next(n for n in model.graph.node if n.name == "keys")
    keys.input[0] = "joined"
    rest = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *rest])
    angles = np.random.default_rng(0).uniform(0, 6, (10, half)).astype(np.float32)
    constants = {"cos": np.cos(angles), "sin": np.sin(angles), "halves": np.array([half, half])}
    constants["flat"] = np.array([2, 20, WIDTH])
    model.graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in constants.items())
    info = helper.make_tensor_value_info
    shapes = {"q": [2, 12, WIDTH], "k": [2, 2, 10, WIDTH], "v": [2, 24, VALUES]}
    shapes["more"] = [2, 4, WIDTH]
    del model.graph.input[:]
    model.graph.input.extend(info(n, TensorProto.FLOAT, s) for n, s in shapes.items())
    return model


def test_codes_are_made_where_keys_are_rotated(library):
    model, plain = rotated_attention(), rotated_attention()
    assert fused_attention(model) == fused_attention(plain) == 1
    assert attention_codes(model) == 1
    kinds = kinds_of(model)
    assert kinds["RotaryCodes"] == 1
    assert kinds["QuantizeLinear"] == 1  # of the other keys
    assert not {"Mul", "Sub", "Split"} & kinds.keys()
    rng = np.random.default_rng(1)
    shapes = {
        i.name: [d.dim_value for d in i.type.tensor_type.shape.dim] for i in model.graph.input
    }
    inputs = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    found = run(model, inputs, library)
    np.testing.assert_array_equal(found, run(plain, inputs, library))
    integers = rotated_attention()
    assert integer_attention(integers, 64, unsigned=True) == 1
    assert_same(found, run(integers, inputs, None))


def test_sines_in_another_order_are_no_rotation():
    model = rotated_attention()
    node = next(n for n in model.graph.node if n.name == "r5")
    node.input[1] = "sin"
    fused_attention(model)
    assert attention_codes(model) == 0


@pytest.mark.parametrize("others", [False, True])
def test_codes_are_made_before_numbers_are_moved(library, others):
    """Unless somebody else needs the floats in their new order."""
    make = helper.make_node
    nodes = [
        make("Identity", ["x"], ["a"], "a"),
        make("Reshape", ["a", "shape"], ["b"], "b"),
        make("Transpose", ["b"], ["c"], "c", perm=[0, 2, 1, 3]),
        make("QuantizeLinear", ["c", "step", "zero"], ["y"], "codes"),
    ]
    constants = {"shape": np.array([2, 3, 4, 5]), "step": np.float32(0.1), "zero": np.int8(3)}
    outputs = {"y": [2, 4, 3, 5]}
    if others:
        nodes.append(make("Relu", ["c"], ["z"], "z"))
        outputs["z"] = outputs["y"]
    model = model_of(nodes, {"x": [6, 20]}, outputs, constants, types={"y": TensorProto.INT8})
    x = np.random.default_rng(0).normal(0, 5, (6, 20)).astype(np.float32)
    wanted = run(model, {"x": x}, None)
    assert lift_quantize(model) == (not others)
    kinds = [node.op_type for node in model.graph.node]
    assert (kinds.index("QuantizeLinear") < kinds.index("Transpose")) == (not others)
    np.testing.assert_array_equal(run(model, {"x": x}, library), wanted)
    assert np.ptp(wanted.astype(int)) > 50


def test_whole_components(library, integer_attention_path):
    """Every quantized product of a model is in the kernels, but for depthwise convolutions."""
    bundle = read_bundle(integer_attention_path)
    kinds: Counter[str] = Counter()
    for name, component in bundle.components.items():
        before = kinds_of(component)
        lower_for_ort(component, kernels=True)
        after = kinds_of(component)
        assert not {"MatMulIntegerToFloat", "ConvInteger"} & after.keys(), name
        assert before.keys() & {"Conv", "MatMul"}
        made = session_from_lowered(component.SerializeToString(), name, 1, kernels=library)
        outputs = run_session(made, name, random_inputs(bundle.spec, name))
        assert all(np.isfinite(value).all() for value in outputs.values())
        kinds += after
    wanted = {"QuantizedAttention", "QuantizedConv", "QuantizedLinear", "QuantizedLinearCodes"}
    assert wanted | {"RotaryCodes"} <= kinds.keys()
