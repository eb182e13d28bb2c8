"""Small values: shapes, host memory, sizes of types, flags."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

from .arguments import described
from .objects import state
from .registry import method, reads

if TYPE_CHECKING:
    from .library import TensorRTDouble

_BITS = {"FLOAT": 32, "HALF": 16, "BF16": 16, "INT8": 8, "INT32": 32, "INT64": 64, "BOOL": 8,
         "UINT8": 8, "FP8": 8, "INT4": 4, "FP4": 4}  # fmt: skip
_NUMPY = {"FLOAT": "float32", "HALF": "float16", "INT8": "int8", "INT32": "int32",
          "INT64": "int64", "BOOL": "bool_", "UINT8": "uint8"}  # fmt: skip


@method("*.__init__")
def _construct(library: TensorRTDouble, this: Any, arguments: dict[str, Any]) -> None:
    state(this).update(arguments, constructed=True)


@method("Dims.__len__")
def _length(library: TensorRTDouble, this: Any, arguments: dict[str, Any]) -> int:
    return len(state(this).get("shape", ()))


@method("Dims.__getitem__")
def _element(library: TensorRTDouble, this: Any, arguments: dict[str, Any]) -> Any:
    sizes = tuple(state(this).get("shape", ()))
    return sizes[arguments["arg0"]]


@method("Dims.__setitem__")
def _set_element(library: TensorRTDouble, this: Any, arguments: dict[str, Any]) -> None:
    state(this)["shape"][arguments["arg0"]] = arguments["arg1"]


@method("Dims.__eq__")
def _equal(library: TensorRTDouble, this: Any, arguments: dict[str, Any]) -> bool:
    return list(state(this).get("shape", ())) == list(arguments["arg0"])


@method("Dims.__str__")
def _text(library: TensorRTDouble, this: Any, arguments: dict[str, Any]) -> str:
    return str(tuple(state(this).get("shape", ())))


@reads("IHostMemory.dtype")
def _type_of_bytes(library: TensorRTDouble, this: Any) -> Any:
    return library.member("DataType", "INT8")


@reads("DataType.itemsize")
def _item_size(library: TensorRTDouble, this: Any) -> float | None:
    bits = _BITS.get(this.name)
    return None if bits is None else bits // 8 or bits / 8


@method("nptype")
def _numpy_type(library: TensorRTDouble, this: Any, arguments: dict[str, Any]) -> Any:
    import numpy as np

    name = _NUMPY.get(arguments["trt_type"].name)
    if name is None:
        raise TypeError("Could not resolve TensorRT datatype to an equivalent numpy datatype.")
    return getattr(np, name)


@method("volume")
def _volume(library: TensorRTDouble, this: Any, arguments: dict[str, Any]) -> int:
    return math.prod(arguments["iterable"])


@method("*.__enter__")
def _enter(library: TensorRTDouble, this: Any, arguments: dict[str, Any]) -> Any:
    warnings.warn("Context managers for TensorRT types are deprecated.", DeprecationWarning, 4)
    return this


@method("*.set_flag")
def _set_flag(library: TensorRTDouble, this: Any, arguments: dict[str, Any]) -> bool:
    state(this)["flags"] = flags(this) | 1 << int(arguments["flag"])
    return True


@method("*.clear_flag")
def _clear_flag(library: TensorRTDouble, this: Any, arguments: dict[str, Any]) -> bool:
    state(this)["flags"] = flags(this) & ~(1 << int(arguments["flag"]))
    return True


@method("*.get_flag")
def _get_flag(library: TensorRTDouble, this: Any, arguments: dict[str, Any]) -> bool:
    return bool(flags(this) >> int(arguments["flag"]) & 1)


def flags(this: Any) -> int:
    """Return the bits that are set in the flags of ``this``."""
    return described(state(this).get("flags", 0))
