"""Every kind of change to a valid model is refused in one sentence that names what is wrong."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from qsam2_deploy._common.contradictions import contradictions  # noqa: E402
from qsam2_deploy.errors import EngineError, ModelFileError  # noqa: E402
from qsam2_deploy.model_file.bundle import read_bundle  # noqa: E402
from qsam2_deploy.model_file.gate import limits  # noqa: E402
from qsam2_deploy.spec import SPEC_KEY  # noqa: E402
from tests.model_file.test_bundle import refused  # noqa: E402
from tests.support.tiny_model import sealed, tiny_model  # noqa: E402


def _node(model: Any, op_type: str = "ReduceSum") -> Any:
    return next(node for node in model.graph.node if node.op_type == op_type)


def _tensor(model: Any, ending: str = "features/shape") -> Any:
    return next(t for t in model.graph.initializer if t.name.endswith(ending))


def _add(model: Any, op_type: str, inputs: list[str], **more: Any) -> Any:
    node = helper.make_node(op_type, inputs, ["ie.1"], name="image_encoder/added", **more)
    model.graph.node.append(node)
    return node


def _constant(model: Any, values: Any, dtype: Any = np.int64) -> str:
    name = "image_encoder/added_constant"
    model.graph.initializer.append(numpy_helper.from_array(np.array(values, dtype), name))
    return name


def _external(model: Any) -> None:
    tensor = _tensor(model)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../../etc/passwd"


def _subgraph(model: Any) -> None:
    body = onnx.GraphProto(name="body")
    _add(model, "If", ["image_encoder/features/sum"], then_branch=body, else_branch=body)


def _hidden_subgraph(model: Any) -> None:
    node = _node(model)
    attribute = node.attribute.add()
    attribute.name, attribute.type, attribute.i = "keepdims", onnx.AttributeProto.INT, 1
    attribute.g.name = "body"


def _custom(model: Any) -> None:
    _add(model, "QuantizedLinear", ["image_encoder/features/sum"], domain="qsam2")


def _function(model: Any) -> None:
    model.functions.add().name = "f"


def _sparse(model: Any) -> None:
    model.graph.sparse_initializer.add()


def _training(model: Any) -> None:
    model.training_info.add()


def _cycle(model: Any) -> None:
    _node(model).input[0] = "image_encoder/features/flat"


def _other_component(model: Any) -> None:
    _node(model).input[0] = "mask_decoder/high_res_0"


def _twice(model: Any) -> None:
    model.graph.node.append(_node(model, "Expand"))


def _made_twice(model: Any) -> None:
    model.graph.node.append(_node(model, "Expand"))
    model.graph.node[-1].name = "image_encoder/again"


def _removed(model: Any) -> None:
    model.graph.node.remove(_node(model, "Reshape"))


def _truncated(model: Any) -> None:
    _tensor(model).raw_data = _tensor(model).raw_data[:-1]


def _other_type(model: Any) -> None:
    _tensor(model).data_type = TensorProto.DOUBLE


def _negative(model: Any) -> None:
    _tensor(model).dims[0] = -4


def _in_another_form(model: Any) -> None:
    _tensor(model).int64_data.append(1)


def _not_finite(model: Any) -> None:
    _constant(model, [1, np.nan], np.float32)


def _giant(model: Any) -> None:
    _add(model, "Reshape", ["image_encoder/features/flat", _constant(model, [1 << 40])])


def _bad_step(model: Any) -> None:
    x = numpy_helper.from_array(np.ones(2, np.int8), "image_encoder/codes")
    model.graph.initializer.append(x)
    _add(model, "DequantizeLinear", [x.name, _constant(model, 0, np.float32)])


def _large(model: Any) -> None:
    _add(model, "Tile", ["image_encoder/features/flat", _constant(model, [1, 1 << 20, 1 << 20, 1])])


def _large_pad(model: Any) -> None:
    pads = _constant(model, [0, 0, 0, 0, 0, 0, 1 << 22, 1 << 22])
    _add(model, "Pad", ["image_encoder/features/flat", pads])


def _size_from_data(model: Any) -> None:
    _add(model, "Shape", ["image_encoder/image"])
    node = helper.make_node("Tile", ["image_encoder/features/flat", "ie.1"], ["ie.2"])
    node.name = "image_encoder/more"
    model.graph.node.append(node)


def _sizes_added(model: Any) -> None:
    name = _constant(model, [1 << 20])
    _add(model, "Add", [name, name])


def _attribute(model: Any) -> None:
    _node(model).attribute.append(helper.make_attribute("keepdims", 1 << 40))


def _unknown_attribute(model: Any) -> None:
    _node(model).attribute.append(helper.make_attribute("surprise", 1))


def _inputs(model: Any) -> None:
    _node(model).input.append("image_encoder/image")


def _shapes_contradict(model: Any) -> None:
    _tensor(model).raw_data = np.array([1, 3, 5, 7], np.int64).tobytes()


def _opset(model: Any) -> None:
    model.opset_import[0].version = 99


def _second_domain(model: Any) -> None:
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))


def _ir_version(model: Any) -> None:
    model.ir_version = 99


def _input(model: Any) -> None:
    model.graph.input.add().name = "image_encoder/more"


def _input_of_another_kind(model: Any) -> None:
    info = model.graph.input[0]
    info.type.sequence_type.elem_type.tensor_type.elem_type = 1


def _metadata(model: Any) -> None:
    entry = model.metadata_props.add()
    entry.key, entry.value = "more", "x" * (limits.MAX_METADATA_BYTES + 1)


def _long_name(model: Any) -> None:
    _node(model).name = "image_encoder/" + "x" * 300


def _two_lines(model: Any) -> None:
    _node(model).name = "image_encoder/\n"


def _no_prefix(model: Any) -> None:
    _node(model).name = "features"


def _documented(model: Any) -> None:
    _node(model).doc_string = "x"


CHANGES: dict[Callable[[Any], None], str] = {
    _external: "in another file",
    _subgraph: r"\(If\) has another operator than those",
    _hidden_subgraph: "attribute keepdims .* a whole number from 0 to 1",
    _custom: r"\(QuantizedLinear\) has an operator of the domain 'qsam2'",
    _function: "its model has the part functions",
    _sparse: "its graph has the part sparse_initializer",
    _training: "its model has the part training_info",
    _cycle: "reads 'image_encoder/features/flat', which nothing before it makes",
    _other_component: "of another component, mask_decoder",
    _twice: "two nodes are called",
    _made_twice: "two tensors are called",
    _removed: "reads 'image_encoder/features/flat', which nothing before it makes",
    _truncated: "has 31 bytes, but its type and dimensions ask for 32",
    _other_type: "has the type 11",
    _negative: r"has the dimensions '?\(-4,\)",
    _in_another_form: "more than its content in raw form",
    _not_finite: "numbers that are not finite",
    _giant: "whole numbers beyond",
    _bad_step: "must be of positive floats",
    _large: "elements",
    _large_pad: "elements",
    _size_from_data: "input 1 of the node .* must be a constant",
    _sizes_added: "makes the type 7",
    _attribute: "attribute keepdims",
    _unknown_attribute: "attribute 'surprise'",
    _inputs: "has 3 inputs, expected 2 to 2",
    _shapes_contradict: "contradict each other",
    _opset: "imports the operator sets",
    _second_domain: "imports the operator sets",
    _ir_version: "IR version 99",
    _input: "has the input 'image_encoder/more'",
    _input_of_another_kind: "has the part sequence_type",
    _metadata: "entries of metadata",
    _long_name: "expected up to 256 ASCII letters",
    _two_lines: "cannot be the name of the node",
    _no_prefix: "does not begin with one of its components",
    _documented: "more than inputs and attributes",
}


def _message(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    return refused(path, longest=500)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_sealed_change_is_refused(tmp_path, change):
    model = tiny_model()
    change(model)
    path = tmp_path / "m.onnx"
    with pytest.raises(ModelFileError, match=CHANGES[change]):
        raise ModelFileError(_message(path, sealed(model)))


def test_names_that_are_no_utf8(tmp_path):
    body = tiny_model().SerializeToString()
    for good in (b"image_encoder/features/node", b"image_encoder/features/shape", b"ReduceSum",
                 b"image_encoder/image", b"qsam2.spec", b"fake"):  # fmt: skip
        assert good in body
        bad = good[:-1] + b"\xff"
        assert _message(tmp_path / "m.onnx", _sealed_bytes(body.replace(good, bad)))


def test_metadata_that_is_nested_deeply(tmp_path):
    for depth in (100, 2_000, 200_000):
        text = '{"schema_version": 2, "name": ' + "[" * depth + "]" * depth + "}"
        message = _message(tmp_path / "m.onnx", sealed(tiny_model({SPEC_KEY: text})))
        assert "nested more than 64 deep" in message


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("image_size", 1 << 40), ("image_size", 33), ("image_size", "64"), ("d_model", -1),
        ("std", [0, 1, 1]), ("mean", [1e999, 0, 0]), ("memory_pooling", 0), ("constants", {}),
        ("name", 7), ("name", "\ud800"), ("rules", {"num_maskmem": True}),
        ("rules", {"dynamic_multimask_stability_thresh": "x"}),
        ("quantization", {"scope": "all", "weight_bits": 8, "activation_bits": 8, "layers": []}),
    ],
)  # fmt: skip
def test_metadata_out_of_range(tmp_path, entry, value):
    model = tiny_model()
    told = json.loads(model.metadata_props[0].value)
    told[entry] = {**told["rules"], **value} if entry == "rules" else value
    message = _message(tmp_path / "m.onnx", sealed(tiny_model({SPEC_KEY: json.dumps(told)})))
    assert "damaged" in message or "in its metadata" in message


def test_parts_that_onnx_does_not_know_are_dropped(tmp_path):
    unknown = b"\xfa\x3f\x04evil"  # field 1023
    path = tmp_path / "m.onnx"
    path.write_bytes(_sealed_bytes(tiny_model().SerializeToString() + unknown))
    for component in read_bundle(path).components.values():
        assert b"evil" not in component.SerializeToString()


def test_a_file_that_is_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr("qsam2_deploy.model_file.bundle.MAX_FILE_BYTES", 1000)
    assert "more than the 1000 bytes" in _message(tmp_path / "m.onnx", sealed(tiny_model()))


@pytest.mark.parametrize("limit", ["MAX_NODES", "MAX_INITIALIZERS"])
def test_a_graph_that_is_too_large(tmp_path, monkeypatch, limit):
    where = {"MAX_NODES": "nodes", "MAX_INITIALIZERS": "constants"}[limit]
    monkeypatch.setattr(f"qsam2_deploy.model_file.gate.{where}.{limit}", 3)
    assert "but may have 3" in _message(tmp_path / "m.onnx", sealed(tiny_model()))


def test_only_unexpected_errors_are_contradictions():
    with pytest.raises(ModelFileError, match=r"^m\.onnx: it fails \(KeyError: 'x'\); export"):
        _raise_within(KeyError("x"))
    with pytest.raises(ModelFileError, match="it fails, because that takes more memory"):
        _raise_within(MemoryError())
    with pytest.raises(EngineError) as caught:
        _raise_within(EngineError("as it was"))
    assert str(caught.value) == "as it was"


def _raise_within(error: BaseException) -> None:
    with contradictions("m.onnx", "it fails"):
        raise error


def _sealed_bytes(body: bytes) -> bytes:
    from qsam2_deploy._common.seal import seal

    return body + seal(body)
