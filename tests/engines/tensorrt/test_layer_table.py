"""Reading the builder's table of fused layers."""

import pytest

from qsam2_deploy.engines.tensorrt.layer_table import fused_layers, integer_share, quantized_weights
from qsam2_deploy.lowering import lower_for_tensorrt
from qsam2_deploy.model_file.bundle import read_bundle
from qsam2_deploy.spec import MEMORY_ENCODER


def tensor(name: str, kind: str) -> str:
    return f"{{ Name: {name}, Dimensions: [16,16], Datatype: {kind}, Format: (Linear) Row major }}"


def line(kind: str, inputs: str, constants: list[str], *origins: str) -> str:
    listed = ", ".join(tensor(f"c{i}", c) for i, c in enumerate(constants))
    metadata = "".join(f"[ONNX Layer: {origin}]" for origin in origins)
    return (
        f"Name: fused {kind}_myl0_4, LayerType: {kind}, Inputs: [ {tensor('x', inputs)}], "
        f"Constants: [ {listed}], Outputs: [ {tensor('y', 'Half')}], TacticName: t, StreamId: 0, "
        f"Metadata: {metadata}"
    )


TABLE = "\n".join(
    [
        "Layers:",
        line("gemm", "Int8", ["Int8", "Float"], "a", "a/weight"),
        line("kgen", "Int8", ["Int8"], "b/weight"),
        line("gemm", "Half", ["Half"], "b"),
        line("runtime_fusion", "Half", ["Int4", "Half"], "c/weight", "c:1"),
    ]
)
WEIGHTS = {"a/weight": "a", "b/weight": "b", "c/weight": "c"}


def test_each_line_is_a_layer():
    layers = fused_layers(["other text", TABLE, "LayerType without a line"])
    assert [layer.kind for layer in layers] == ["gemm", "kgen", "gemm", "runtime_fusion"]
    assert layers[0].inputs == ("Int8",)
    assert layers[0].constants == ("Int8", "Float")
    assert layers[3].origins == {"c/weight", "c:1"}


def test_only_products_of_integers_count():
    layers = fused_layers([TABLE])
    assert [layer.multiplies("int8") for layer in layers] == [True, False, False, False]
    assert [layer.multiplies("int4") for layer in layers] == [False, False, False, True]
    assert integer_share(layers, WEIGHTS, "int8") == pytest.approx(1 / 3)
    assert integer_share(layers, {"c/weight": "c"}, "int4") == 1
    assert integer_share(layers, {}, "int8") is None
    assert integer_share([], WEIGHTS, "int8") == 0


def test_weights_of_a_lowered_model_have_their_products(quantized_path):
    model = read_bundle(quantized_path).components[MEMORY_ENCODER]
    count = lower_for_tensorrt(model, "int8")
    weights = quantized_weights(model)
    assert len(weights) == count == 13
    kinds = {node.name: node.op_type for node in model.graph.node}
    assert {kinds[name] for name in weights} == {"DequantizeLinear"}
    assert {kinds[name] for name in weights.values()} == {"Conv", "MatMul"}
