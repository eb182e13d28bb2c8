"""Checks of the initializers of a model file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from ...spec import ModelSpec
from .limits import MAX_INITIALIZERS, MAX_INTEGER, MAX_RANK
from .operators import FLOAT, FLOAT16, INT32, INT64, STORED_BITS
from .wording import refusal, shown

if TYPE_CHECKING:
    import onnx

_WRITTEN = frozenset({"dims", "data_type", "name", "raw_data"})
_ELSEWHERE = frozenset({"external_data", "data_location"})

_INTEGERS = {INT32: "<i4", INT64: "<i8"}
_HALF_EXPONENT = np.uint16(0x7C00)
_QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")


def check_constants(model: onnx.ModelProto, origin: str) -> int:
    """Check that every initializer is of a known type and holds what its dimensions say.

    Returns:
        The elements of the largest one.

    Raises:
        ModelFileError: one does not; names it.
    """
    tensors = model.graph.initializer
    if len(tensors) > MAX_INITIALIZERS:
        raise refusal(
            origin, f"it has {len(tensors)} initializers, but may have {MAX_INITIALIZERS}"
        )
    return max((_check(tensor, origin) for tensor in tensors), default=0)


def _check(tensor: onnx.TensorProto, origin: str) -> int:
    """Check one initializer and return its number of elements."""
    dims = tuple(tensor.dims)
    reason = _fault(tensor, dims)
    if reason:
        raise refusal(origin, f"the initializer {shown(tensor.name)} {reason}")
    return int(math.prod(dims))


def _fault(tensor: onnx.TensorProto, dims: tuple[int, ...]) -> str | None:
    fields = {field.name: value for field, value in tensor.ListFields()}  # one call for all
    others = {name for name in fields.keys() - _WRITTEN if fields[name]}
    if others & _ELSEWHERE:
        return "is in another file, but must be in this one"
    data_type = fields.get("data_type", 0)
    bits = STORED_BITS.get(data_type)
    if bits is None:
        return f"has the type {data_type}, expected {', '.join(map(str, STORED_BITS))}"
    if len(dims) > MAX_RANK or min(dims, default=1) < 1:
        return f"has the dimensions {shown(dims)}, expected up to {MAX_RANK}, from 1 on"
    raw, expected = fields.get("raw_data", b""), -(-math.prod(dims) * bits // 8)
    if len(raw) != expected:
        return f"has {len(raw)} bytes, but its type and dimensions ask for {expected}"
    if others or tensor.HasField("segment"):
        return "has more than its content in raw form"
    if not _is_finite(raw, data_type):
        return "holds numbers that are not finite"
    if data_type in _INTEGERS and _largest(raw, data_type) > MAX_INTEGER:
        return f"holds whole numbers beyond {MAX_INTEGER}"
    return None


def _is_finite(raw: bytes, data_type: int) -> bool:
    if data_type == FLOAT:
        return bool(np.isfinite(np.frombuffer(raw, "<f4")).all())
    if data_type == FLOAT16:  # numpy has no fast functions for it
        exponents = np.frombuffer(raw, "<u2") & _HALF_EXPONENT
        return not bool((exponents == _HALF_EXPONENT).any())
    return True


def _largest(raw: bytes, data_type: int) -> int:
    values = np.frombuffer(raw, _INTEGERS[data_type])
    return max(abs(int(values.max())), abs(int(values.min())))


def check_steps(
    nodes: Iterable[onnx.NodeProto],
    tensors: Mapping[str, onnx.TensorProto],
    casts: Mapping[str, str],
    origin: str,
) -> None:
    """Check that every step of a quantizer is positive.

    Args:
        nodes: of the graph.
        tensors: initializers by name.
        casts: the initializer behind each Cast of one, by the Cast's output.
        origin: the file.

    Raises:
        ModelFileError: one is zero or negative.
    """
    names = {node.input[1] for node in nodes if node.op_type in _QUANTIZERS}
    for name in sorted(names):
        tensor = tensors[casts.get(name, name)]
        dtype = {FLOAT: "<f4", FLOAT16: "<f2"}.get(tensor.data_type)
        if dtype is None or not (np.frombuffer(tensor.raw_data, dtype) > 0).all():
            raise refusal(
                origin, f"the step {shown(tensor.name)} must be of positive floats, but is not"
            )


def check_constants_of_runtime(spec: ModelSpec) -> None:
    """Check that the constants which the runtime adds are there, finite, and of the right shapes.

    Raises:
        ValueError: one is not; says which.
    """
    expected = {
        "no_mem_embed": (spec.d_model,),
        "no_obj_ptr": (spec.d_model,),
        "mask_downsample_weight": (4, 4),
        "mask_downsample_bias": (1,),
    }
    for name, shape in expected.items():
        array = spec.constants.get(name)
        if array is None or array.shape != shape or not np.isfinite(array).all():
            raise ValueError(f"the constant {name} must be {list(shape)} finite numbers")
