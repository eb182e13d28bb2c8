"""The operators that qsam2-export writes, and how it writes them; a model file holds no others.

``tests/model_file/gate/test_operators.py`` compares the table with exported models of every kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .limits import MAX_RANK

# Numbers of onnx.TensorProto, some of which an old onnx has no names for.
FLOAT, UINT8, INT8, INT32, INT64, BOOL, FLOAT16, INT4, INT2 = 1, 2, 3, 6, 7, 9, 10, 22, 26

STORED_BITS = {
    FLOAT: 32, UINT8: 8, INT8: 8, INT32: 32, INT64: 64, FLOAT16: 16, INT4: 4, INT2: 2,
}  # fmt: skip
"""Bits of an element of each type that an initializer may have."""

# Numbers of onnx.AttributeProto.AttributeType.
_FLOAT, _INT, _STRING, _INTS = 1, 2, 3, 7


@dataclass(frozen=True)
class Attribute:
    """What an attribute may be.

    Attributes:
        kind: number of its ``AttributeType``.
        low: smallest number, in a list of numbers of each.
        high: largest number likewise.
        words: what a text may be.
    """

    kind: int
    low: float = 0
    high: float = 0
    words: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class Operator:
    """How an operator is written.

    Attributes:
        inputs: fewest and most inputs.
        outputs: fewest and most outputs.
        attributes: those that it may have.
        constants: positions of inputs that are constants; sizes never follow from data.
        absent: positions of inputs that may be left out with an empty name.
        makes: element types of its outputs.
    """

    inputs: tuple[int, int]
    outputs: tuple[int, int] = (1, 1)
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    constants: tuple[int, ...] = ()
    absent: tuple[int, ...] = ()
    makes: tuple[int, ...] = (FLOAT,)


_AXIS = Attribute(_INT, -MAX_RANK, MAX_RANK - 1)
_AXES = Attribute(_INTS, -MAX_RANK, MAX_RANK - 1)
_FLAG = Attribute(_INT, 0, 1)
_WINDOW = Attribute(_INTS, 1, 1024)
_PADS = Attribute(_INTS, 0, 1024)
_CHANNELS = Attribute(_INT, 1, 1 << 16)

_UNARY, _BINARY = Operator((1, 1)), Operator((2, 2))
_COMPARISON = Operator((2, 2), makes=(BOOL,))

OPERATORS: Mapping[str, Operator] = {
    "Add": Operator((2, 2), makes=(FLOAT, INT32)),
    "AveragePool": Operator((1, 1), attributes={"kernel_shape": _WINDOW, "strides": _WINDOW}),
    "Cast": Operator((1, 1), attributes={"to": Attribute(_INT, FLOAT, FLOAT)}),
    "Clip": Operator((3, 3), constants=(1, 2)),
    "Concat": Operator((2, 8), attributes={"axis": _AXIS}, makes=(FLOAT, INT64)),
    "Conv": Operator(
        (3, 3),
        attributes={
            "group": _CHANNELS, "kernel_shape": _WINDOW, "pads": _PADS, "strides": _WINDOW,
        },
    ),
    "ConvTranspose": Operator((3, 3), attributes={"kernel_shape": _WINDOW, "strides": _WINDOW}),
    "Cos": _UNARY,
    "DequantizeLinear": Operator((2, 3), attributes={"axis": _AXIS}, constants=(1, 2)),
    "Div": _BINARY,
    "Equal": _COMPARISON,
    "Erf": _UNARY,
    "Exp": _UNARY,
    "Expand": _BINARY,
    "Flatten": Operator((1, 1), attributes={"axis": _AXIS}),
    "Gather": Operator((2, 2), attributes={"axis": _AXIS}),
    "Greater": _COMPARISON,
    "Identity": Operator((1, 1), makes=(FLOAT, INT32, INT64, BOOL)),
    "LayerNormalization": Operator(
        (3, 3), attributes={"axis": _AXIS, "epsilon": Attribute(_FLOAT, 0, 1)}, constants=(1, 2)
    ),
    "LessOrEqual": _COMPARISON,
    "MatMul": _BINARY,
    "Max": _BINARY,
    "Mul": _BINARY,
    "Pad": Operator((2, 3), constants=(1, 2)),
    "QuantizeLinear": Operator((3, 3), constants=(1, 2), makes=(INT8, UINT8)),
    "ReduceMax": Operator((1, 2), attributes={"axes": _AXES, "keepdims": _FLAG}, constants=(1,)),
    "ReduceSum": Operator((2, 2), attributes={"keepdims": _FLAG}, constants=(1,)),
    "Relu": _UNARY,
    "Reshape": Operator((2, 2), constants=(1,), makes=(FLOAT, BOOL)),
    "Resize": Operator(
        (3, 4),
        attributes={
            "coordinate_transformation_mode": Attribute(
                _STRING, words=(b"half_pixel", b"asymmetric")
            ),
            "cubic_coeff_a": Attribute(_FLOAT, -1, 0),
            "mode": Attribute(_STRING, words=(b"nearest", b"linear", b"cubic")),
            "nearest_mode": Attribute(_STRING, words=(b"floor",)),
        },
        constants=(2, 3),
        absent=(1, 2),
    ),
    "Shape": Operator((1, 1), makes=(INT64,)),
    "Sigmoid": _UNARY,
    "Sin": _UNARY,
    "Slice": Operator((4, 5), constants=(1, 2, 3, 4)),
    "Softmax": Operator((1, 1), attributes={"axis": _AXIS}),
    "Split": Operator((2, 2), (2, 8), attributes={"axis": _AXIS}, constants=(1,)),
    "Sub": _BINARY,
    "Tile": Operator((2, 2), constants=(1,)),
    "Transpose": Operator((1, 1), attributes={"perm": _AXES}),
    "Unsqueeze": Operator((2, 2), constants=(1,), makes=(FLOAT, BOOL)),
    "Where": Operator((3, 3)),
}  # fmt: skip
"""By name. All are of ONNX's own domain, and none holds a graph of its own."""

OPSETS = range(17, 26)
"""The opsets in which every operator above means the same; see ``export/graph.py``."""

IR_VERSIONS = range(8, 14)
