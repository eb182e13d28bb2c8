"""NumPy arrays in one .npz file.

With F frames and N objects, in the order in which they were added:

- ``masks``: uint8 ``[F, N, height, ceil(width / 8)]``, eight pixels to a byte, the first in the
  highest bit. ``np.unpackbits(a["masks"], axis=-1, count=int(a["width"])).astype(bool)`` is bool
  ``[F, N, height, width]``.
- ``width``: int64 of no dimensions, pixels.
- ``object_ids``: int64 ``[N]``, the objects' numbers.
- ``frames``: int64 ``[F]``, the frames' numbers.
- ``times``: float64 ``[F]``, seconds from the source's first frame, NaN where it does not tell.
- ``complete``: bool of no dimensions, False if the run ended early.
- ``scores``: float32 ``[F, N]``, the object score logits; NaN before an object's first frame.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np

from ...._common.files import describe_os_error
from ....errors import InputError
from ..pending_file import PendingFile
from ..result_format import About, FrameRecord, ResultWriter


class Writer(ResultWriter):
    """Collects compressed masks, since the file needs their number first."""

    def __init__(self, path: Path, about: About) -> None:
        """See the base."""
        if path.suffix.lower() != ".npz":
            raise InputError(f"cannot write arrays to {path}: its name must end in .npz")
        self._about = about
        self._path = path
        self._ids: dict[int, None] = {}
        self._frames: list[int] = []
        self._times: list[float] = []
        self._found: list[dict[int, tuple[float, bytes]]] = []
        self._file = PendingFile(path)

    def write(self, record: FrameRecord) -> None:
        """See the base."""
        objects = record.result.objects
        self._ids.update((item.object_id, None) for item in objects)
        self._frames.append(record.index)
        self._times.append(np.nan if record.shown is None else record.shown.time)
        self._found.append(
            {
                item.object_id: (
                    item.score,
                    zlib.compress(np.packbits(item.mask, axis=-1).tobytes(), 1),
                )
                for item in objects
            }
        )

    def close(self, *, complete: bool) -> None:
        """See the base."""
        if not self._frames:
            self._file.discard()
            return
        try:
            with zipfile.ZipFile(self._file.temporary, "w", zipfile.ZIP_DEFLATED) as archive:
                self._fill(archive, complete=complete)
        except OSError as error:
            self._file.discard()
            raise InputError(describe_os_error(error, self._path)) from error
        self._file.commit()

    def _fill(self, archive: zipfile.ZipFile, *, complete: bool) -> None:
        missing = (np.nan, b"")
        scores = [[found.get(i, missing)[0] for i in self._ids] for found in self._found]
        arrays: dict[str, Any] = {
            "width": np.int64(self._about.width),
            "complete": np.bool_(complete),
            "object_ids": np.array(list(self._ids), np.int64),
            "frames": np.array(self._frames, np.int64),
            "times": np.array(self._times, np.float64),
            "scores": np.array(scores, np.float32).reshape(len(self._frames), len(self._ids)),
        }
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w") as stream:
                np.lib.format.write_array(stream, np.asanyarray(array))
        with archive.open("masks.npy", "w", force_zip64=True) as stream:
            self._write_masks(stream)

    def _write_masks(self, stream: IO[bytes]) -> None:
        """Write the array one mask at a time: it may be larger than the memory."""
        row = -(-self._about.width // 8)
        shape = (len(self._frames), len(self._ids), self._about.height, row)
        described = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(stream, described)
        empty = bytes(self._about.height * row)
        for found in self._found:
            for object_id in self._ids:
                packed = found.get(object_id)
                stream.write(empty if packed is None else zlib.decompress(packed[1]))
