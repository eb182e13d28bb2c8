"""Models that contradict themselves are refused, whatever their seal says."""

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from qsam2_deploy._common import seal as _seal
from qsam2_deploy._common.packing import pack
from qsam2_deploy.engines.onnxruntime.cpu import OrtBackend
from qsam2_deploy.errors import ModelFileError
from qsam2_deploy.inspection.report import inspect_model
from qsam2_deploy.model_file.bundle import read_bundle
from qsam2_deploy.model_file.consistency import check_interface, check_quantization
from qsam2_deploy.spec import SPEC_KEY, ModelSpec, QuantizationInfo
from tests.support.quantized_layers import graph_of, make_layer

NAME = "image_encoder/layer.weight"


def info(**widths: str) -> QuantizationInfo:
    table = widths or {NAME: "w2a4"}
    return QuantizationInfo("all", 4, 4, 1, weights=len(table), widths=table)


def grids(text: str, name: str = NAME) -> QuantizationInfo:
    return dataclasses.replace(info(), grids={name: text})


def quantized_model() -> onnx.ModelProto:
    codes = TensorProto(
        name=NAME,
        data_type=TensorProto.INT2,
        dims=(3, 5),
        raw_data=pack(np.ones((3, 5), np.int8), 2),
    )
    scale = numpy_helper.from_array(np.ones(5, np.float32), "image_encoder/layer.weight_scale")
    node = helper.make_node("DequantizeLinear", [NAME, scale.name], ["y"], "n", axis=1)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [3, 5])
    return helper.make_model(helper.make_graph([node], "g", [], [y], [codes, scale]))


def spec_of(quantization: QuantizationInfo | None) -> ModelSpec:
    return ModelSpec("test", 64, quantization=quantization)


def test_a_model_that_agrees():
    check_quantization(quantized_model(), spec_of(info()), "m.onnx")
    midrise = quantized_model()
    raise_to_the_middle(midrise)
    check_quantization(midrise, spec_of(grids("midrise/symmetric")), "m.onnx")


def weight(model: onnx.ModelProto) -> onnx.TensorProto:
    return model.graph.initializer[0]


def widen(model: onnx.ModelProto) -> None:
    weight(model).data_type = TensorProto.INT8


def raise_to_the_middle(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Add", ["y", "half"], ["z"], "add"))


def nothing(model: onnx.ModelProto) -> None:
    pass


@pytest.mark.parametrize(
    ("damage", "quantization", "message"),
    [
        (nothing, None, "1 weights are quantized in the graph, 0 in the metadata"),
        (nothing, info(**{NAME: "w2a4", "x.weight": "w8a8"}), "1 weights are .* 2 in the metadata"),
        (nothing, info(**{"x.weight": "w8a8"}), r"x\.weight is quantized in the metadata only"),
        (nothing, QuantizationInfo("all", 4, 4, 1, weights=1), "4 bits, but is not stored as INT4"),
        (nothing, info(**{NAME: "w3a4"}), "is of 3 bits, but is not stored as INT4"),
        (nothing, info(**{NAME: "w9a4"}), "has the widths 'w9a4', but they must be such as"),
        (nothing, info(**{NAME: 7}), "has the widths 7, but"),
        (raise_to_the_middle, info(), "has the grids 'symmetric/symmetric' in the metadata only"),
        (nothing, grids("midrise/affine"), "has the grids 'midrise/affine' in the metadata only"),
        (nothing, grids("affine"), "has the grids 'affine' in the metadata only"),
        (nothing, grids("midrise/affine", "x.weight"), r"x\.weight is quantized in the metadata"),
        (widen, info(), "is of 2 bits, but is not stored as INT2"),
    ],
)
def test_contradictions_are_named(damage, quantization, message):
    model = quantized_model()
    damage(model)
    with pytest.raises(ModelFileError, match=message) as caught:
        check_quantization(model, spec_of(quantization), "m.onnx")
    assert "the metadata and the graph of m.onnx disagree: " in str(caught.value)
    assert str(caught.value).endswith("export the model again")


def test_a_crafted_file_with_a_good_seal_is_refused(quantized_path, tmp_path):
    model = onnx.load(quantized_path)
    stored = next(t for t in model.graph.initializer if t.data_type == TensorProto.INT4)
    stored.raw_data = stored.raw_data[:-1]
    body = model.SerializeToString()
    path = tmp_path / "crafted.onnx"
    path.write_bytes(body + _seal.seal(body))
    expected = len(stored.raw_data) + 1
    for read in (read_bundle, inspect_model):
        with pytest.raises(ModelFileError, match=f"its type and dimensions ask for {expected};"):
            read(path)


# ------------------------------------------------------------------ inputs of quantized layers
@pytest.mark.parametrize("kind", ["linear", "depthwise", "transposed"])
@pytest.mark.parametrize("bits", [8, 5, 4, 3, 2])
def test_inputs_have_the_levels_of_their_width(bits, kind):
    model = graph_of(kind, make_layer(kind, bits)[0])
    told = QuantizationInfo("all", bits, bits, 1, weights=1)
    check_quantization(model, spec_of(told), "m.onnx")
    wrong = 8 if bits != 8 else 4
    other = QuantizationInfo("all", bits, wrong, 1, weights=1)
    message = f"inputs of {wrong} bits, which must have {2**wrong} levels, but have {2**bits};"
    with pytest.raises(ModelFileError, match=message):
        check_quantization(model, spec_of(other), "m.onnx")


@pytest.mark.parametrize("kind", ["linear", "conv", "transposed"])
@pytest.mark.parametrize("bits", [4, 7])
def test_inputs_have_the_grid_that_the_metadata_says(bits, kind):
    layer, _ = make_layer(kind, bits, weight_grid="midrise", input_grid="affine")
    assert layer.export_form().input_zero_point != 0
    model = graph_of(kind, layer)
    told = QuantizationInfo(
        "all", bits, bits, 1, weights=1, weight_grid="midrise", activation_grid="affine"
    )
    check_quantization(model, spec_of(told), "m.onnx")
    for change, message in (
        ({"activation_grid": "symmetric"}, "has the grids 'midrise/symmetric' in the metadata"),
        ({"weight_grid": "symmetric"}, "has the grids 'symmetric/affine' in the metadata only"),
        ({"activation_bits": bits - 1}, f"must have {2 ** (bits - 1)} levels, but have {2**bits}"),
    ):
        other = dataclasses.replace(told, **change)
        with pytest.raises(ModelFileError, match=re.escape(message)):
            check_quantization(model, spec_of(other), "m.onnx")


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf, -1.0])
def test_a_step_of_the_input_that_is_no_step_is_refused(value):
    model = graph_of("linear", make_layer("linear", 4)[0])
    [step] = [t for t in model.graph.initializer if t.name.endswith("input_scale")]
    step.CopyFrom(numpy_helper.from_array(np.float32(value), step.name))
    with pytest.raises(ModelFileError, match="must have 16 levels, but have"):
        check_quantization(model, spec_of(QuantizationInfo("all", 4, 4, 1, weights=1)), "m.onnx")


# ------------------------------------------------------------------ inputs and outputs of the model
def write_with(model_path: Path, target: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Write the model with other metadata and a good seal."""
    model = onnx.load(model_path)
    values = {entry.key: entry.value for entry in model.metadata_props}
    told = json.loads(values[SPEC_KEY])
    change(told)
    del model.metadata_props[:]
    helper.set_model_props(model, {SPEC_KEY: json.dumps(told)})
    body = model.SerializeToString()
    target.write_bytes(body + _seal.seal(body))
    return target


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": 128}, r"image is float32 \[1, 3, 64, 64\] in the graph, .*128, 128"),
        ({"d_model": 64}, r"features is float32 \[1, 32, 4, 4\] in the graph, .*\[1, 64, 4, 4\]"),
        ({"memory_dim": 16}, r"memory is float32 \['B', 'F', 8, 4, 4\] in the graph"),
    ],
)
def test_metadata_of_another_model_is_refused(model_path, tmp_path, change, message):
    unchanged = write_with(model_path, tmp_path / "same.onnx", lambda told: None)
    assert read_bundle(unchanged).spec.image_size == 64
    crafted = write_with(model_path, tmp_path / "crafted.onnx", lambda told: told.update(change))
    for read in (read_bundle, inspect_model, OrtBackend):
        with pytest.raises(ModelFileError, match=message):
            read(crafted)


def test_another_element_type_is_refused():
    spec = spec_of(None)
    image = helper.make_tensor_value_info("image_encoder/image", TensorProto.DOUBLE, [1, 3, 64, 64])
    model = helper.make_model(helper.make_graph([], "g", [image], []))
    with pytest.raises(ModelFileError, match="image_encoder/image is another type"):
        check_interface(model, spec, "m.onnx")
    image.type.tensor_type.elem_type = TensorProto.FLOAT
    check_interface(helper.make_model(helper.make_graph([], "g", [image], [])), spec, "m.onnx")


def test_the_number_of_attention_products_is_that_of_the_graph(integer_attention_path, tmp_path):
    products = read_bundle(integer_attention_path).spec.quantization
    assert products is not None
    assert products.attentions > 0
    for told in (products.attentions + 1, 0):
        crafted = write_with(
            integer_attention_path,
            tmp_path / "crafted.onnx",
            lambda spec, told=told: spec["quantization"].update(attentions=told),
        )
        message = f"{products.attentions} attention products are .* graph, {told} in the metadata"
        with pytest.raises(ModelFileError, match=message):
            read_bundle(crafted)
