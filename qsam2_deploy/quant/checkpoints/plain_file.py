"""Files of ``torch.save`` from anybody: tensors and plain values, and no more memory than bytes.

What the pickle of such a file asks for is not bounded by its size: archives can be deflated,
tensors can repeat one number a billion times by a stride of 0, and lists can hold each other.
"""

from __future__ import annotations

import math
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_MAX_PICKLE = 64 << 20
_MAX_VALUES = 1_000_000
_MAX_DEPTH = 32
_SHARED = 4
"""How many times the size of the file all its tensors may take; some share their numbers."""

_SPARE_ELEMENTS = 1 << 26
_ELEMENTS_PER_BYTE = 8
"""Codes of 2 bits become floats, and a model has buffers that no file holds."""


def load_plain(path: Path) -> Any:
    """Return what ``torch.save`` wrote, on the CPU: tensors and plain values.

    Raises:
        ValueError: it would take more memory than its size can account for, or is no tree.
        MemoryError: there is not enough memory.
        pickle.UnpicklingError: it holds other objects.
        Exception: of many kinds: it is no such file.
    """
    size = path.stat().st_size
    _check_archive(path, size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about foreign formats, which raise below anyway
        with path.open("rb") as stream:
            # By its content: torch takes names that end in .safetensors for something else.
            source = stream if path.suffix == ".safetensors" else path
            content = torch.load(source, map_location="cpu", weights_only=True)
    _check_tree(content, size)
    return content


def _check_archive(path: Path, size: int) -> None:
    if not zipfile.is_zipfile(path):
        return  # older than torch 1.6, or no such file
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise ValueError("its archive is deflated")
    if sum(entry.file_size for entry in entries) > size:
        raise ValueError("its archive has more content than bytes")
    if any(e.filename.endswith(".pkl") and e.file_size > _MAX_PICKLE for e in entries):
        raise ValueError("the description of its tensors is too long")


def _check_tree(content: Any, size: int) -> None:
    """Check depth, number of values, and what the tensors take together."""
    level, values, taken = [content], 0, 0
    for _ in range(_MAX_DEPTH):
        inner: list[Any] = []
        for value in level:
            if isinstance(value, torch.Tensor):
                taken += _checked_bytes(value)
            else:
                inner += _items(value)
        values += len(inner)
        if values > _MAX_VALUES or taken > _SHARED * size:
            raise ValueError("its tensors and values take more memory than its size accounts for")
        if not inner:
            return
        level = inner
    raise ValueError(f"it is nested more than {_MAX_DEPTH} deep")


def _items(value: Any) -> Sequence[Any]:
    if isinstance(value, Mapping):
        return [*value.keys(), *value.values()]
    return list(value) if isinstance(value, (list, tuple, set, frozenset)) else ()


def _checked_bytes(tensor: torch.Tensor) -> int:
    """Return the bytes of a tensor that has each of its numbers in the file."""
    if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
        raise ValueError("it holds a tensor that is not dense and on the CPU")
    taken = tensor.numel() * tensor.element_size()
    if taken > tensor.untyped_storage().nbytes():
        raise ValueError(f"a tensor of the shape {tuple(tensor.shape)} repeats its numbers")
    return taken


@contextmanager
def memory_of_file(size: int) -> Iterator[None]:
    """Let the block make no more tensors than the model in a file of ``size`` bytes can have.

    Raises:
        ValueError: in the block, before memory is taken.
    """
    with _Budget(size * _ELEMENTS_PER_BYTE + _SPARE_ELEMENTS):
        yield


_FACTORIES = {
    torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn, torch.full, torch.arange,
    torch.linspace, torch.eye,
}  # fmt: skip


_COPIES = {torch.clone, torch.Tensor.clone}


class _Budget(TorchFunctionMode):
    """Counts the elements that are asked for."""

    def __init__(self, elements: int) -> None:
        super().__init__()
        self._left = elements

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        options = dict(kwargs or {})
        if func in _FACTORIES:
            self._left -= _elements([*args, options.get("size", ())])
        elif func in _COPIES:  # layers are copied, instead of being made one after the other
            self._left -= args[0].numel()
        if self._left < 0:
            raise ValueError("the model is larger than the file that its weights are in")
        return func(*args, **options)


def _elements(values: Sequence[Any]) -> int:
    """Return at most how many elements these arguments ask for."""
    flat = [
        size
        for value in values
        for size in (value if isinstance(value, (list, tuple)) else [value])
        if isinstance(size, (int, float)) and math.isfinite(size)
    ]
    return math.prod(max(1, abs(int(size))) for size in flat)
