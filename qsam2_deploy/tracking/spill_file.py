"""Arrays that wait on disk, compressed without loss, in files that no other process can open.

The files have no name: nothing is left behind, however the process ends. What is written once is
never changed, and a file goes when the last of its records is given up.
"""

from __future__ import annotations

import os
import tempfile
import threading
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from ..errors import EngineError

_FIRST_BYTES = 64 << 20
_GROWTH = 8
"""Each file holds an eighth of all that there is, so there are few of them in hours of video."""


class _File:
    """One file, written at its end; a copy of a state goes on in the same one."""

    def __init__(self, file: IO[bytes], limit: int) -> None:
        self.end, self.limit, self.process = 0, limit, os.getpid()
        self._file, self._lock = file, threading.Lock()

    def __del__(self) -> None:
        self._file.close()

    def __deepcopy__(self, memo: Any) -> _File:
        return self

    def append(self, data: bytes) -> int:
        """Write ``data``; return where it begins."""
        with self._lock:  # two copies of a state may be tracked in two threads
            begin, view = self.end, memoryview(data)
            while view:
                written = os.pwrite(self._file.fileno(), view, self.end)
                self.end, view = self.end + written, view[written:]
            return begin

    def read(self, begin: int, length: int) -> bytes:
        """Return what was written there."""
        return os.pread(self._file.fileno(), length, begin)


_Form = tuple[tuple[tuple[int, ...], str], ...]
"""Shape and type of each array."""


@dataclass(frozen=True, slots=True)
class Record:
    """Where arrays are; while anybody has it, they stay on disk."""

    file: _File
    begin: int
    length: int
    form: _Form


class SpillFile:
    """Writes arrays to disk and reads them back, equal to the bit."""

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        """Write into ``folder``.

        Args:
            folder: default: ``$TMPDIR``, or else ``/var/tmp`` and what ``tempfile`` takes, because
                ``/tmp`` is in memory on many machines.
        """
        self._folder = _usual_folder() if folder is None else os.fspath(folder)
        self._file: _File | None = None
        self._written = 0
        self._forms: dict[_Form, _Form] = {}  # one object for thousands of equal ones

    def write(self, arrays: Sequence[npt.NDArray[Any]]) -> Record:
        """Write arrays of any shapes and types.

        Raises:
            EngineError: the disk is full, or cannot be written to.
        """
        form: _Form = tuple((array.shape, array.dtype.str) for array in arrays)
        form = self._forms.setdefault(form, form)
        data = b"".join(map(_packed, arrays))
        try:
            # After a fork both processes would write to the same place.
            file = self._file
            if file is None or file.end >= file.limit or file.process != os.getpid():
                limit = max(_FIRST_BYTES, self._written // _GROWTH)
                opened = tempfile.TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115
                file = self._file = _File(opened, limit)
            record = Record(file, file.append(data), len(data), form)
        except OSError as error:
            where = self._folder or tempfile.gettempdir()
            raise EngineError(
                f"cannot keep the memories of tracked frames in {where}: "
                f"{error.strerror or error}; free some space, or set TMPDIR to another folder"
            ) from error
        self._written += len(data)
        return record

    @staticmethod
    def read(record: Record) -> list[npt.NDArray[Any]]:
        """Return the arrays of a record.

        Raises:
            EngineError: the disk cannot be read.
        """
        try:
            data = record.file.read(record.begin, record.length)
        except OSError as error:
            raise EngineError(
                f"cannot read the memories of tracked frames back: {error.strerror or error}"
            ) from error
        arrays, begin = [], 0
        for shape, dtype in record.form:
            array = np.empty(shape, dtype)
            begin = _unpack(data, begin, array)
            arrays.append(array)
        return arrays


def _usual_folder() -> str | None:
    if os.environ.get("TMPDIR") or not os.access("/var/tmp", os.W_OK | os.X_OK):  # noqa: S108
        return None
    return "/var/tmp"  # noqa: S108


# ------------------------------------------------------------------ one array
# Neighbours have like signs and exponents, but not like digits: bytes of the same place go
# together, and only those of the upper half are worth compressing, unless many of the others repeat
# as well, as in the logits of an absent object.
_LENGTH = 4
_RUNS = 0.125


def _packed(array: npt.NDArray[Any]) -> bytes:
    width = array.itemsize
    planes = np.ascontiguousarray(array).reshape(-1).view(np.uint8).reshape(-1, width).T
    parts = []
    for place, plane in enumerate(planes):
        raw = plane.tobytes()
        regular = place * 2 >= width or np.count_nonzero(plane[1:] == plane[:-1]) > _RUNS * len(raw)
        kept = _compressed(raw) if regular else raw
        kept = kept if len(kept) < len(raw) else raw
        parts += [len(kept).to_bytes(_LENGTH, "little"), kept]
    return b"".join(parts)


def _compressed(raw: bytes) -> bytes:
    # Runs and frequencies alone: three times as fast as looking for repetitions, and as small.
    press = zlib.compressobj(1, zlib.DEFLATED, -15, 9, zlib.Z_RLE)
    return press.compress(raw) + press.flush()


def _unpack(data: bytes, begin: int, array: npt.NDArray[Any]) -> int:
    """Fill an array from where it begins; return where it ends."""
    planes = array.reshape(-1).view(np.uint8).reshape(-1, array.itemsize)
    for place in range(array.itemsize):
        end = begin + _LENGTH
        length = int.from_bytes(data[begin:end], "little")
        kept = data[end : end + length]
        raw = kept if length == array.size else zlib.decompress(kept, -15)
        planes[:, place] = np.frombuffer(raw, np.uint8)
        begin = end + length
    return begin
