"""Packed weights and halves come out as the numbers that they are."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from qsam2_deploy._common.packing import pack
from qsam2_deploy.errors import ModelFileError
from qsam2_deploy.lowering.widen_constants import widen_constants
from qsam2_deploy.onnx_graph.index import value_of
from tests.support.graphs import model_of
from tests.support.plain_engine import run_plainly

CODES = np.array([[-2, 1, 0], [1, -1, -2]], np.int8)
SCALE = np.linspace(0.5, 1.5, 3).astype(np.float16)


def packed_model(data_type: int, width: int, opset: int) -> onnx.ModelProto:
    """``y = x + dequantized weight``, with the scale in half precision behind a Cast."""
    codes = TensorProto(name="w", data_type=data_type, dims=(2, 3), raw_data=pack(CODES, width))
    make = helper.make_node
    nodes = [
        make("Cast", ["s"], ["s32"], "cast", to=TensorProto.FLOAT),
        make("DequantizeLinear", ["w", "s32"], ["wd"], "weight", axis=1),
        make("Add", ["x", "wd"], ["y"], "add"),
    ]
    return model_of(nodes, {"x": [2, 3]}, {"y": [2, 3]}, {"w": codes, "s": SCALE}, opset=opset)


@pytest.mark.parametrize(
    ("data_type", "width", "opset"),
    [(TensorProto.INT2, 2, 25), (TensorProto.INT4, 4, 21), (TensorProto.INT8, 8, 17)],
)
def test_same_numbers_in_old_types(data_type, width, opset):
    model = packed_model(data_type, width, opset)
    assert widen_constants(model) == (1 if width == 8 else 2)
    assert (model.opset_import[0].version, model.ir_version) == (17, 8)
    stored = {tensor.name: value_of(tensor) for tensor in model.graph.initializer}
    np.testing.assert_array_equal(stored["w"], CODES)
    assert stored["w"].dtype == np.int8
    assert stored["s"].dtype == np.float32
    assert [node.op_type for node in model.graph.node] == ["DequantizeLinear", "Add"]
    (found,) = run_plainly(model, {"x": np.ones((2, 3), np.float32)})
    np.testing.assert_array_equal(found, 1 + CODES * SCALE.astype(np.float32))


def test_a_second_time_changes_nothing():
    model = packed_model(TensorProto.INT2, 2, 25)
    widen_constants(model)
    before = model.SerializeToString()
    assert widen_constants(model) == 0
    assert model.SerializeToString() == before


@pytest.mark.parametrize("length", [0, 1, 3])
def test_a_weight_of_the_wrong_size_is_named(length):
    model = packed_model(TensorProto.INT2, 2, 25)
    model.graph.initializer[0].raw_data = bytes(length)
    message = f"the weight w is damaged: 6 integers of 2 bits take 2 bytes, but there are {length}"
    with pytest.raises(ModelFileError, match=message):
        widen_constants(model)
