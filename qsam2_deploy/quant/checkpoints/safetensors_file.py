"""Files of safetensors from anybody: names and shapes first, tensors when they are wanted.

The library checks the header before it gives anything out: offsets follow each other without holes
or overlaps, end where the file ends, and fit types and shapes. So the tensors of a file take as
many bytes as it has. What is left to bound here is the header itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ..._common.requirements import check_imported
from ...errors import MissingDependencyError

MAX_HEADER = 16 << 20
"""Bytes of a header; that of the largest SAM 2 has 0.1 MB."""

_LENGTH = 8
_PURPOSE = "reading a file of safetensors"
_TYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8,
    "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip

StateDict = dict[str, torch.Tensor]


def is_safetensors(path: Path) -> bool:
    """Return whether a file says to be one of safetensors, by its first bytes or its name.

    It begins with the length of its header, which is JSON; archives and pickles of torch do not.
    """
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        start = stream.read(_LENGTH + 1)
    if start[:4] == b"PK\x03\x04":
        return False
    return path.suffix == ".safetensors" or start[_LENGTH:] == b"{"


def read_shapes(path: Path) -> StateDict:
    """Return the tensors of a file on torch's device ``meta``: shapes and types, no memory.

    Raises:
        ValueError: the header is too long, or has a type that no SAM 2 has.
        MissingDependencyError: ``safetensors`` is not installed.
        Exception: of many kinds: it is no such file, or a damaged one.
    """
    library = _library()
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(_LENGTH), "little")
    if length > MAX_HEADER:
        raise ValueError("the description of its tensors is too long")
    with library.safe_open(path, framework="pt", device="cpu") as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        return {name: _described(found) for name, found in slices.items()}


def read_tensors(path: Path) -> StateDict:
    """Return the tensors of a file whose shapes have been looked at.

    Raises:
        Exception: of many kinds: it has changed since, or there is not enough memory.
    """
    with _library().safe_open(path, framework="pt", device="cpu") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def _described(found: Any) -> torch.Tensor:
    kind = _TYPES.get(found.get_dtype())
    if kind is None:
        raise ValueError(f"it holds numbers of the type {found.get_dtype()}")
    return torch.empty(tuple(found.get_shape()), dtype=kind, device="meta")


def _library() -> Any:
    try:
        import safetensors
    except ImportError as error:
        raise MissingDependencyError("safetensors", "export", _PURPOSE) from error
    check_imported(safetensors, "safetensors", "export", _PURPOSE)
    return safetensors
