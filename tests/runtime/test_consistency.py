"""Models that contradict themselves are refused, whatever their seal says."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from qsam2_deploy import _seal
from qsam2_deploy._packing import pack
from qsam2_deploy.errors import ModelFileError
from qsam2_deploy.runtime.bundle import read_bundle
from qsam2_deploy.runtime.consistency import check_quantization
from qsam2_deploy.spec import SPEC_KEY, ModelSpec, QuantizationInfo

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


def test_a_model_that_agrees() -> None:
    check_quantization(quantized_model(), spec_of(info()), "m.onnx")
    midrise = quantized_model()
    raise_to_the_middle(midrise)
    check_quantization(midrise, spec_of(grids("midrise/symmetric")), "m.onnx")


def weight(model: onnx.ModelProto) -> onnx.TensorProto:
    return model.graph.initializer[0]


def widen(model: onnx.ModelProto) -> None:
    weight(model).data_type = TensorProto.INT8


def shorten(model: onnx.ModelProto) -> None:
    weight(model).raw_data = bytes(3)


def lengthen(model: onnx.ModelProto) -> None:
    weight(model).raw_data = bytes(5)


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
        (nothing, info(**{NAME: 7}), "has the widths 7, but"),  # type: ignore[arg-type]
        (raise_to_the_middle, info(), "has the grids 'symmetric/symmetric' in the metadata only"),
        (nothing, grids("midrise/affine"), "has the grids 'midrise/affine' in the metadata only"),
        (nothing, grids("affine"), "has the grids 'affine' in the metadata only"),
        (nothing, grids("midrise/affine", "x.weight"), r"x\.weight is quantized in the metadata"),
        (widen, info(), "is of 2 bits, but is not stored as INT2"),
        (shorten, info(), "must have 4 bytes, but has 3"),
        (lengthen, info(), "must have 4 bytes, but has 5"),
    ],
)
def test_contradictions_are_named(
    damage: Callable[[onnx.ModelProto], None], quantization: QuantizationInfo | None, message: str
) -> None:
    model = quantized_model()
    damage(model)
    with pytest.raises(ModelFileError, match=message) as caught:
        check_quantization(model, spec_of(quantization), "m.onnx")
    assert "the metadata and the graph of m.onnx disagree: " in str(caught.value)
    assert str(caught.value).endswith("export the model again")


def test_a_crafted_file_with_a_good_seal_is_refused(tmp_path: Path) -> None:
    model = quantized_model()
    shorten(model)
    helper.set_model_props(model, {SPEC_KEY: spec_of(info()).to_json()})
    body = model.SerializeToString()
    path = tmp_path / "crafted.onnx"
    path.write_bytes(body + _seal.seal(body))
    with pytest.raises(ModelFileError, match="must have 4 bytes, but has 3"):
        read_bundle(path)
