"""Objects in a file: what one video taught about them, to find them again in the next.

The file is one of safetensors, written and read here because the runtime has no more than numpy. It
holds numbers alone; nothing in it can run. Of object 7 there are, for ``N`` frames of which ``M``
have a memory:

============================  ===========================================================
``7.frames`` I64 ``[N]``      -1 is the last frame of the video, -2 the one before it
``7.conditioning`` BOOL       whether the frame had prompts, ``[N]``
``7.has_memory`` BOOL         whether its memory is here, ``[N]``
``7.scores`` F64              object scores, ``[N]``
``7.pointers`` F32            object pointers, ``[N, C]``
``7.mask_logits`` F32         chosen masks, ``[N, S / 4, S / 4]``
``7.memories`` BF16           memory features, ``[M, D, H, W]``
============================  ===========================================================

``__metadata__`` has the form, its version and the digest of the model.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .._common.files import atomic_open, read_bounded
from .._common.json import loads_bounded
from ..errors import InputError
from ..spec import ModelSpec
from .bfloat16 import from_bfloat16_bits, to_bfloat16_bits
from .memory import MemoryBank, MemoryEntry, MemoryStore

Arrays = dict[str, npt.NDArray[Any]]

_FORM, _VERSION = "qsam2-objects", "1"
_TYPES = {"I64": "<i8", "BOOL": "|b1", "F64": "<f8", "F32": "<f4", "BF16": "<u2"}
_NAMES = {np.dtype(dtype): name for name, dtype in _TYPES.items()}
_MAX_BYTES = 4 << 30
_MAX_HEADER = 16 << 20
_LENGTH = 8


def model_digest(spec: ModelSpec) -> str:
    """Return SHA-256 of what a model says of itself: its checkpoint, its widths, its constants.

    It is the same for a ``model.onnx`` and engines that were built of it, whose memories are alike,
    and for exports of the same checkpoint by different versions.
    """
    return hashlib.sha256(replace(spec, producer="").to_json().encode()).hexdigest()


def write_objects(
    path: str | os.PathLike[str],
    banks: Mapping[int, MemoryBank],
    newest: int,
    spec: ModelSpec,
    store: MemoryStore,
) -> None:
    """Write the memories of objects; the file appears when it is complete.

    Args:
        path: of the file.
        banks: by object number.
        newest: number of the last frame.
        spec: of the model.
        store: which keeps the memory features.

    Raises:
        InputError: the file cannot be written.
    """
    arrays: Arrays = {}
    for object_id, bank in banks.items():
        described = _described(bank, newest, store, spec)
        arrays |= {f"{object_id}.{name}": array for name, array in described.items()}
    header: dict[str, Any] = {
        "__metadata__": {
            "format": _FORM,
            "version": _VERSION,
            "model": model_digest(spec),
            "model_name": spec.name,
        }
    }
    end = 0
    for name, array in arrays.items():
        begin, end = end, end + array.nbytes
        shape = list(array.shape)
        header[name] = {"dtype": _NAMES[array.dtype], "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % _LENGTH)
    with atomic_open(path) as stream:
        stream.write(len(text).to_bytes(_LENGTH, "little") + text)
        for array in arrays.values():
            stream.write(array.tobytes())


def read_objects(
    path: str | os.PathLike[str], newest: int, spec: ModelSpec, store: MemoryStore
) -> dict[int, MemoryBank]:
    """Return the memories of the objects in a file, as if its video had ended just now.

    Args:
        path: of the file.
        newest: number of the last frame, -1 before the first; that of the file's last frame.
        spec: of the model.
        store: which is to keep the memory features.

    Raises:
        InputError: there is no such file, it is damaged, or was written with another model.
    """
    try:
        arrays, about = _read(Path(path))
    except FileNotFoundError as error:
        raise InputError(f"there is no file {path}") from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise _damaged(path, error) from error
    if about.get("model") != model_digest(spec):
        raise InputError(
            f"the objects in {path} are of another model ({about.get('model_name')!r:.80}), whose "
            f"memories this one ({spec.name}) cannot read; give the model they were saved with"
        )
    grouped: dict[int, Arrays] = {}
    try:
        for name, array in arrays.items():
            number, _, part = name.partition(".")
            grouped.setdefault(_object_id(number), {})[part] = array
        return {i: _bank(parts, newest, spec, store) for i, parts in grouped.items()}
    except (ValueError, KeyError, OverflowError) as error:
        raise _damaged(path, error) from error


def _damaged(path: str | os.PathLike[str], error: Exception) -> InputError:
    return InputError(
        f"{path} is no file of objects, or a damaged one ({error!s:.200}); save the objects again"
    )


def _described(bank: MemoryBank, newest: int, store: MemoryStore, spec: ModelSpec) -> Arrays:
    rows = [(i, entry, True) for i, entry in sorted(bank.conditioning.items())]
    rows += [(i, entry, False) for i, entry in sorted(bank.tracked.items())]
    entries = [entry for _, entry, _ in rows]
    memories = [_bits(store.to_host(e.memory)) for e in entries if e.memory is not None]
    count = len(rows)
    shapes = _shapes(spec, count, len(memories))
    return {
        "frames": np.array([index - newest - 1 for index, _, _ in rows], "<i8"),
        "conditioning": np.array([kind for _, _, kind in rows], bool),
        "has_memory": np.array([entry.memory is not None for entry in entries], bool),
        "scores": np.array([entry.object_score for entry in entries], "<f8"),
        "pointers": np.array([e.pointer for e in entries], "<f4").reshape(shapes["pointers"][1]),
        "mask_logits": np.array([entry.mask_logits for entry in entries], "<f4"),
        "memories": np.array(memories, "<u2").reshape(shapes["memories"][1]),
    }


def _bits(memory: npt.NDArray[Any]) -> npt.NDArray[np.uint16]:
    return memory if memory.dtype == np.uint16 else to_bfloat16_bits(memory)


def _shapes(spec: ModelSpec, frames: int, memories: int) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return the type and shape of each part of an object."""
    mask, side = spec.mask_size, spec.feature_size
    return {
        "frames": ("I64", (frames,)),
        "conditioning": ("BOOL", (frames,)),
        "has_memory": ("BOOL", (frames,)),
        "scores": ("F64", (frames,)),
        "pointers": ("F32", (frames, spec.d_model)),
        "mask_logits": ("F32", (frames, mask, mask)),
        "memories": ("BF16", (memories, spec.memory_dim, side, side)),
    }


def _read(path: Path) -> tuple[Arrays, dict[str, Any]]:
    """Return the arrays of a file, which share its bytes, and what it says of itself."""
    data = memoryview(read_bounded(path, _MAX_BYTES))
    length = int.from_bytes(data[:_LENGTH], "little")
    if not 2 <= length <= min(_MAX_HEADER, len(data) - _LENGTH):
        raise ValueError("its header is cut off or too long")
    header = loads_bounded(data[_LENGTH : _LENGTH + length], _MAX_HEADER)
    about = header.pop("__metadata__")
    if (about["format"], about["version"]) != (_FORM, _VERSION):
        raise ValueError(f"it is of the form {about['format']!r:.40} {about['version']!r:.20}")
    rest = data[_LENGTH + length :]
    return {name: _array(rest, entry) for name, entry in header.items()}, about


def _array(data: memoryview, entry: Mapping[str, Any]) -> npt.NDArray[Any]:
    dtype = np.dtype(_TYPES[entry["dtype"]])
    begin, end = entry["data_offsets"]
    shape = entry["shape"]
    numbers = (*shape, begin, end)
    if not all(isinstance(n, int) and n >= 0 for n in numbers) or not begin <= end <= len(data):
        raise ValueError("a tensor is outside of the file")
    if math.prod(shape) * dtype.itemsize != end - begin:
        raise ValueError("a tensor has another size than it says")
    part = data[begin:end]
    if dtype.kind == "b" and not set(part) <= {0, 1}:
        raise ValueError("a truth value is neither 0 nor 1")
    array: npt.NDArray[Any] = np.frombuffer(part, dtype).reshape(shape)
    return array


def _object_id(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise ValueError(f"an object has the number {text!r:.40}")
    return int(text)


def _bank(parts: Arrays, newest: int, spec: ModelSpec, store: MemoryStore) -> MemoryBank:
    frames, prompted, has_memory = (
        parts[name].tolist() for name in ("frames", "conditioning", "has_memory")
    )
    for name, (dtype, shape) in _shapes(spec, len(frames), len(parts["memories"])).items():
        if parts[name].shape != shape or parts[name].dtype != np.dtype(_TYPES[dtype]):
            raise ValueError(f"{name} is not of the shape and type that the model has")
    memories = from_bfloat16_bits(parts["memories"])
    for array in (memories, parts["scores"], parts["pointers"], parts["mask_logits"]):
        if not np.isfinite(array).all():
            raise ValueError("numbers are not finite")
    if len(set(frames)) < len(frames) or sum(has_memory) != len(memories):
        raise ValueError("frames and memories do not fit together")
    if not any(prompted) or min(frames) < -(1 << 31) or max(frames) >= 0:
        raise ValueError("an object has no frame with a prompt, or one that is not in the past")
    if not all(kept for kept, prompt in zip(has_memory, prompted, strict=True) if prompt):
        raise ValueError("a frame with a prompt has no memory")
    bank, left = MemoryBank(), iter(memories)
    for row, frame in enumerate(frames):
        entry = MemoryEntry(
            np.array(parts["mask_logits"][row]),
            np.array(parts["pointers"][row]),
            float(parts["scores"][row]),
            store.from_host(next(left)) if has_memory[row] else None,
        )
        (bank.conditioning if prompted[row] else bank.tracked)[frame + newest + 1] = entry
    return bank
