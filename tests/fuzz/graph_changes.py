"""Changes of an ONNX graph; each takes a model and random numbers, and changes the model."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from qsam2_deploy._common.packing import packed_size

Change = Callable[[Any, random.Random], None]

CHANGES: list[Change] = []

_BITS = {1: 32, 2: 8, 3: 8, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 16: 16, 21: 4, 22: 4, 25: 2, 26: 2}
_ODD_INTS = (0, -1, 1, 2, 3, 1 << 16, 1 << 31, -(1 << 31), (1 << 62), -(1 << 63), (1 << 63) - 1)
_ODD_NAMES = ("", " ", "x", "image_encoder/", "image_encoder/x", "a\nb", "é", "mask_decoder/ious",
              "x" * 5000, "qsam2", "/", "\0")  # fmt: skip
_OPERATORS = (
    "Loop", "If", "Scan", "ConstantOfShape", "Range", "NonZero", "Constant", "Identity", "Add",
    "MatMul", "Conv", "Softmax", "Reshape", "Expand", "Tile", "Resize", "Pad", "Gather", "Slice",
    "DequantizeLinear", "QuantizeLinear", "Div", "Concat", "Transpose", "Split", "Where", "Clip",
    "Unsqueeze", "Flatten", "ReduceSum", "ReduceMax", "LayerNormalization", "Shape", "Cast",
    "QuantizedLinear", "QuantizedAttention", "MatMulIntegerToFloat", "Einsum", "StringNormalizer",
)  # fmt: skip


def change(function: Change) -> Change:
    """Add a function to the changes."""
    CHANGES.append(function)
    return function


def _tensor(model: Any, rng: random.Random) -> Any:
    return rng.choice(model.graph.initializer)


def _node(model: Any, rng: random.Random) -> Any:
    return rng.choice(model.graph.node)


def _any_tensor_name(model: Any, rng: random.Random) -> str:
    kind = rng.randrange(5)
    if kind == 0:
        return str(_tensor(model, rng).name)
    if kind == 1:
        return str(rng.choice(model.graph.input).name)
    if kind == 2:
        return str(rng.choice(_ODD_NAMES))
    return str(_node(model, rng).output[0])


# ------------------------------------------------------------------ initializers
@change
def raw_length(model: Any, rng: random.Random) -> None:
    tensor = _tensor(model, rng)
    raw = tensor.raw_data
    tensor.raw_data = rng.choice((b"", raw[:-1], raw + b"\0", raw[: len(raw) // 2], raw * 2))


@change
def dims(model: Any, rng: random.Random) -> None:
    tensor = _tensor(model, rng)
    found = list(tensor.dims)
    kind = rng.randrange(4)
    if kind == 0 and found:
        found[rng.randrange(len(found))] = rng.choice(_ODD_INTS)
    elif kind == 1:
        found = [rng.choice(_ODD_INTS) for _ in range(rng.choice((0, 1, 2, 5, 100)))]
    elif kind == 2:
        found.append(1)
    else:
        found.reverse()
    tensor.dims[:] = found


@change
def same_size_other_dims(model: Any, rng: random.Random) -> None:
    """Dimensions that agree with the bytes, and with nothing else."""
    tensor = _tensor(model, rng)
    count = int(np.prod(list(tensor.dims), dtype=np.int64))
    shapes = ([count], [1, count], [count, 1], [1, 1, 1, count], [1] * 7 + [count])
    tensor.dims[:] = rng.choice(shapes)


@change
def data_type(model: Any, rng: random.Random) -> None:
    _tensor(model, rng).data_type = rng.choice((*range(30), 99, -1, 1 << 30))


@change
def other_tensor(model: Any, rng: random.Random) -> None:
    """A tensor of another type and size that agrees with itself."""
    tensor = _tensor(model, rng)
    shape = rng.choice(([], [1], [2], [3, 3], [1, 1, 4], [7, 5, 3, 2], [0], [64]))
    tensor.data_type = rng.choice(list(_BITS))
    tensor.dims[:] = shape
    count = int(np.prod(shape, dtype=np.int64))
    tensor.raw_data = rng.randbytes(packed_size(count, _BITS[tensor.data_type]))


@change
def random_numbers(model: Any, rng: random.Random) -> None:
    tensor = _tensor(model, rng)
    tensor.raw_data = rng.randbytes(len(tensor.raw_data))


@change
def odd_numbers(model: Any, rng: random.Random) -> None:
    """Numbers that are valid in their type: large, negative, zero, not finite."""
    tensor = _tensor(model, rng)
    if tensor.data_type not in (1, 3, 6, 7):
        return
    array = numpy_helper.to_array(tensor).copy()
    floats = (0.0, -1.0, 1e-45, 1e30, 3e38, -3e38, float("nan"), float("inf"))
    odd = rng.choice(floats if array.dtype.kind == "f" else _ODD_INTS)
    if array.dtype.kind == "i":
        limits = np.iinfo(array.dtype)
        odd = max(limits.min, min(limits.max, int(odd)))
    if array.ndim and rng.random() < 0.5:
        array.reshape(-1)[rng.randrange(array.size)] = odd
    else:
        array[...] = odd
    tensor.raw_data = array.tobytes()


@change
def sizes(model: Any, rng: random.Random) -> None:
    """Other integers where shapes, axes and repeats are."""
    integers = [t for t in model.graph.initializer if t.data_type == 7 and t.raw_data]
    if not integers:
        return
    tensor = rng.choice(integers)
    array = numpy_helper.to_array(tensor).copy().reshape(-1)
    if not array.size:
        return
    at = rng.randrange(array.size)
    array[at] = rng.choice((*_ODD_INTS, array[at] + 1, array[at] - 1))
    tensor.raw_data = array.tobytes()


@change
def remove_initializer(model: Any, rng: random.Random) -> None:
    model.graph.initializer.remove(_tensor(model, rng))


@change
def duplicate_initializer(model: Any, rng: random.Random) -> None:
    model.graph.initializer.add().CopyFrom(_tensor(model, rng))


@change
def swap_initializers(model: Any, rng: random.Random) -> None:
    first, second = _tensor(model, rng), _tensor(model, rng)
    first.name, second.name = second.name, first.name


@change
def external_data(model: Any, rng: random.Random) -> None:
    tensor = _tensor(model, rng)
    tensor.data_location = 1
    places = ("/etc/passwd", "../x", "weights.bin", "/dev/zero", "")
    for key, value in (("location", rng.choice(places)), ("length", "99999999999")):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    if rng.random() < 0.5:
        tensor.ClearField("raw_data")


@change
def another_form(model: Any, rng: random.Random) -> None:
    tensor = _tensor(model, rng)
    form = rng.choice(("float_data", "int32_data", "int64_data", "double_data", "uint64_data"))
    getattr(tensor, form).extend([1] * rng.choice((1, 100)))
    if rng.random() < 0.5:
        tensor.ClearField("raw_data")


@change
def no_name(model: Any, rng: random.Random) -> None:
    _tensor(model, rng).name = rng.choice(_ODD_NAMES)


# ------------------------------------------------------------------ nodes
@change
def remove_node(model: Any, rng: random.Random) -> None:
    model.graph.node.remove(_node(model, rng))


@change
def bypass_node(model: Any, rng: random.Random) -> None:
    """Remove a node and let its users read what it read: often still a valid graph."""
    node = _node(model, rng)
    _rename_uses(model, node.output[0], node.input[0])
    model.graph.node.remove(node)


@change
def duplicate_node(model: Any, rng: random.Random) -> None:
    copy = onnx.NodeProto()
    copy.CopyFrom(_node(model, rng))
    if rng.random() < 0.5:
        copy.name += "/again"
        copy.output[0] += ".again"
    at = rng.randrange(len(model.graph.node))
    _insert(model, at, copy)


@change
def move_node(model: Any, rng: random.Random) -> None:
    node = onnx.NodeProto()
    node.CopyFrom(_node(model, rng))
    model.graph.node.remove(node)
    _insert(model, rng.randrange(len(model.graph.node)), node)


def _insert(model: Any, at: int, node: Any) -> None:
    nodes = list(model.graph.node)
    nodes.insert(at, node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


@change
def rewire(model: Any, rng: random.Random) -> None:
    node = _node(model, rng)
    node.input[rng.randrange(len(node.input))] = _any_tensor_name(model, rng)


@change
def rewire_nearby(model: Any, rng: random.Random) -> None:
    """Read what a node a little earlier makes: often of a fitting type, and of the component."""
    at = rng.randrange(1, len(model.graph.node))
    node = model.graph.node[at]
    source = model.graph.node[max(0, at - rng.randrange(1, 12))]
    node.input[rng.randrange(len(node.input))] = source.output[0]


@change
def swap_inputs(model: Any, rng: random.Random) -> None:
    node = _node(model, rng)
    reversed_inputs = list(reversed(node.input))
    node.input[:] = reversed_inputs


@change
def number_of_inputs(model: Any, rng: random.Random) -> None:
    node = _node(model, rng)
    if rng.random() < 0.5:
        del node.input[-1:]
    else:
        node.input.append(_any_tensor_name(model, rng))


@change
def number_of_outputs(model: Any, rng: random.Random) -> None:
    node = _node(model, rng)
    if rng.random() < 0.5:
        del node.output[:]
    else:
        node.output.append(rng.choice(("x.1", "", node.output[0])))


@change
def rename_output(model: Any, rng: random.Random) -> None:
    _node(model, rng).output[0] = rng.choice((*_ODD_NAMES, _any_tensor_name(model, rng)))


@change
def rename_everywhere(model: Any, rng: random.Random) -> None:
    node = _node(model, rng)
    before, after = node.output[0], rng.choice((*_ODD_NAMES, "ie.99999", "md.1"))
    node.output[0] = after
    _rename_uses(model, before, after)


def _rename_uses(model: Any, before: str, after: str) -> None:
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            if name == before:
                node.input[i] = after


@change
def rename_node(model: Any, rng: random.Random) -> None:
    _node(model, rng).name = rng.choice((*_ODD_NAMES, _node(model, rng).name))


@change
def operator(model: Any, rng: random.Random) -> None:
    node = _node(model, rng)
    node.op_type = rng.choice(_OPERATORS)
    if rng.random() < 0.3:
        node.domain = rng.choice(("qsam2", "com.microsoft", "ai.onnx.ml", "ai.onnx"))


@change
def subgraph(model: Any, rng: random.Random) -> None:
    node, body = _node(model, rng), onnx.GraphProto(name="body")
    body.node.add().CopyFrom(node)
    attribute = node.attribute.add()
    attribute.name, attribute.type = rng.choice(("body", "then_branch", "axis")), 5
    attribute.g.CopyFrom(body)
    if rng.random() < 0.5:
        node.op_type = rng.choice(("Loop", "If", "Scan"))


@change
def attribute_value(model: Any, rng: random.Random) -> None:
    nodes = [node for node in model.graph.node if node.attribute]
    attribute = rng.choice(rng.choice(nodes).attribute)
    odd = rng.choice((*_ODD_INTS, -3, 4, 5))
    if attribute.type == 2:
        attribute.i = odd
    elif attribute.type == 7:
        values = list(attribute.ints)
        kind = rng.randrange(3)
        if kind == 0 and values:
            values[rng.randrange(len(values))] = odd
        elif kind == 1:
            values = values * rng.choice((0, 2, 50))
        else:
            rng.shuffle(values)
        attribute.ints[:] = values
    elif attribute.type == 1:
        attribute.f = rng.choice((0.0, -1.0, 1e38, float("nan"), float("inf"), 1e-38))
    else:
        attribute.s = rng.choice((b"", b"\xff", b"linear", b"cubic", b"x" * 1000))


@change
def attribute_kind(model: Any, rng: random.Random) -> None:
    nodes = [node for node in model.graph.node if node.attribute]
    attribute = rng.choice(rng.choice(nodes).attribute)
    kind = rng.randrange(4)
    if kind == 0:
        attribute.type = rng.randrange(15)
    elif kind == 1:
        attribute.name = rng.choice(("axis", "perm", "x", "", "to", "axes"))
    elif kind == 2:
        attribute.ref_attr_name = "x"
    else:
        attribute.t.dims.append(1 << 60)


@change
def remove_attribute(model: Any, rng: random.Random) -> None:
    nodes = [node for node in model.graph.node if node.attribute]
    node = rng.choice(nodes)
    del node.attribute[rng.randrange(len(node.attribute))]


@change
def add_attribute(model: Any, rng: random.Random) -> None:
    names = (
        "axis",
        "axes",
        "perm",
        "keepdims",
        "pads",
        "group",
        "to",
        "x",
        "block_size",
        "saturate",
    )
    value = rng.choice((*_ODD_INTS, 1.5, "text", [1, 2, 3], [-5] * 9))
    _node(model, rng).attribute.append(helper.make_attribute(rng.choice(names), value))


@change
def giant(model: Any, rng: random.Random) -> None:
    """An operator with a constant that asks for far more memory than there is."""
    node = _node(model, rng)
    if not node.input:
        return
    name = f"{node.name}/giant"
    size = rng.choice((1 << 12, 1 << 20, 1 << 31, 1 << 40, 1 << 62))
    rank = rng.choice((1, 2, 3, 4))
    shape = [1] * (rank - 1) + [size]
    tensor = numpy_helper.from_array(np.array(shape, np.int64), name)
    model.graph.initializer.append(tensor)
    kind = rng.choice(("Tile", "Expand", "Reshape", "ConstantOfShape", "Pad", "Resize", "Range"))
    inputs = {
        "ConstantOfShape": [name],
        "Range": [name, name, name],
        "Resize": [node.input[0], "", "", name],
    }.get(kind, [node.input[0], name])
    added = helper.make_node(kind, inputs, [f"{node.output[0]}.giant"], name=f"{node.name}/node")
    at = list(model.graph.node).index(node)
    _insert(model, at, added)
    if rng.random() < 0.7:
        model.graph.node[at + 1].input[0] = added.output[0]


@change
def insert_identity(model: Any, rng: random.Random) -> None:
    """A node that changes nothing, between two that passes expect to be neighbours."""
    at = rng.randrange(len(model.graph.node))
    node = model.graph.node[at]
    position = rng.randrange(len(node.input))
    name = f"{node.output[0]}.same"
    kind = rng.choice(("Identity", "Relu", "Sigmoid", "Softmax", "Exp"))
    added = helper.make_node(kind, [node.input[position]], [name], name=f"{node.name}/same")
    node.input[position] = name
    _insert(model, at, added)


@change
def share(model: Any, rng: random.Random) -> None:
    """Let two nodes read the same constant, or one that was another's."""
    nodes = [node for node in model.graph.node if len(node.input) > 1]
    first, second = rng.choice(nodes), rng.choice(nodes)
    first.input[1] = second.input[1]


@change
def signs(model: Any, rng: random.Random) -> None:
    """Signed codes or zero-points become unsigned ones, or the other way."""
    bytes_ = [t for t in model.graph.initializer if t.data_type in (2, 3)]
    if bytes_:
        tensor = rng.choice(bytes_)
        tensor.data_type = 5 - tensor.data_type


@change
def constant_of_another(model: Any, rng: random.Random) -> None:
    """A constant gets the numbers, type and dimensions of another one of its component."""
    tensor = _tensor(model, rng)
    prefix = tensor.name.partition("/")[0]
    near = [t for t in model.graph.initializer if t.name.startswith(f"{prefix}/")]
    name = tensor.name
    tensor.CopyFrom(rng.choice(near))
    tensor.name = name


@change
def quantized_again(model: Any, rng: random.Random) -> None:
    """A pair of QuantizeLinear and DequantizeLinear once more, somewhere else."""
    pairs = [n for n in model.graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    if not pairs:
        return
    added = onnx.NodeProto()
    added.CopyFrom(rng.choice(pairs))
    at = rng.randrange(len(model.graph.node))
    node = model.graph.node[at]
    position = rng.randrange(len(node.input))
    added.name = f"{node.name}/again"
    added.output[0] = f"{node.output[0]}.again"
    if rng.random() < 0.7:
        added.input[0] = node.input[position]
    node.input[position] = added.output[0]
    _insert(model, at, added)


@change
def two_users(model: Any, rng: random.Random) -> None:
    """What passes expect to have one user gets a second one, which is an output's."""
    at = rng.randrange(1, len(model.graph.node))
    node = model.graph.node[at]
    prefix = node.name.partition("/")[0]
    ends = [n for n in model.graph.node if n.name.startswith(f"{prefix}/output/")]
    if ends:
        rng.choice(ends).input[0] = node.output[0]


DEEP: tuple[Change, ...] = (
    same_size_other_dims, random_numbers, odd_numbers, sizes, bypass_node, rewire_nearby,
    swap_inputs, insert_identity, share, attribute_value, remove_attribute, swap_initializers,
    signs, constant_of_another, quantized_again, two_users, move_node, duplicate_node,
)  # fmt: skip
"""Changes after which a file is often still one that could have been exported."""


# ------------------------------------------------------------------ around the graph
@change
def inputs_and_outputs(model: Any, rng: random.Random) -> None:
    infos = rng.choice((model.graph.input, model.graph.output))
    kind = rng.randrange(6)
    info = rng.choice(infos)
    if kind == 0:
        infos.remove(info)
    elif kind == 1:
        infos.add().CopyFrom(info)
    elif kind == 2:
        info.type.tensor_type.elem_type = rng.randrange(25)
    elif kind == 3 and info.type.tensor_type.shape.dim:
        rng.choice(info.type.tensor_type.shape.dim).dim_value = rng.choice(_ODD_INTS)
    elif kind == 4:
        info.type.sequence_type.elem_type.tensor_type.elem_type = 1
    else:
        info.name = rng.choice(_ODD_NAMES)


@change
def versions(model: Any, rng: random.Random) -> None:
    kind = rng.randrange(4)
    if kind == 0:
        model.opset_import[0].version = rng.choice((*_ODD_INTS, 7, 13, 17, 18, 21, 25, 26))
    elif kind == 1:
        model.opset_import.add().domain = rng.choice(("com.microsoft", "qsam2", ""))
    elif kind == 2:
        del model.opset_import[:]
    else:
        model.ir_version = rng.choice((*_ODD_INTS, 3, 7, 8, 10, 13, 14))


@change
def other_parts(model: Any, rng: random.Random) -> None:
    kind = rng.randrange(6)
    if kind == 0:
        model.functions.add().name = "f"
    elif kind == 1:
        model.training_info.add()
    elif kind == 2:
        sparse = model.graph.sparse_initializer.add()
        sparse.values.CopyFrom(_tensor(model, rng))
        sparse.dims.append(1 << 40)
    elif kind == 3:
        info = model.graph.value_info.add()
        info.name = _any_tensor_name(model, rng)
        info.type.tensor_type.elem_type = rng.randrange(20)
        info.type.tensor_type.shape.dim.add().dim_value = rng.choice(_ODD_INTS)
    elif kind == 4:
        _node(model, rng).doc_string = "x" * rng.choice((1, 100_000))
    else:
        model.graph.quantization_annotation.add().tensor_name = "x"


@change
def remove_component(model: Any, rng: random.Random) -> None:
    prefix = rng.choice(("image_encoder/", "memory_attention/", "mask_decoder/", "memory_encoder/"))
    for field in rng.choice((("node",), ("initializer",), ("node", "input", "output"))):
        items = getattr(model.graph, field)
        kept = [item for item in items if not item.name.startswith(prefix)]
        del items[:]
        items.extend(kept)
