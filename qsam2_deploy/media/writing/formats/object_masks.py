"""Folder with a folder of PNG masks for each object, which may overlap, as SA-V has them.

``003/00012.png`` is the mask of object 3 on frame 12: 1 on the object, 0 elsewhere. ``qsam2-eval``
and the evaluator of SA-V read the folder. A frame before an object's first prompt has no file of
it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..image_writer import write_indexed_png
from ..output_folder import OutputFolder
from ..result_format import About, FrameRecord, ResultWriter


class Writer(ResultWriter):
    """Writes a file for each object and frame, each complete or not at all."""

    def __init__(self, path: Path, about: About) -> None:
        """See the base; the folder is made if only its last part is missing."""
        self._folder = OutputFolder(path, "masks", about.taken)

    def write(self, record: FrameRecord) -> None:
        """See the base."""
        for item in record.result.objects:
            name = f"{item.object_id:03d}"
            self._folder.inner(name)
            path = self._folder.file(f"{name}/{record.index:05d}.png")
            write_indexed_png(path, item.mask.astype(np.uint8))

    def close(self, *, complete: bool) -> None:  # noqa: ARG002
        """See the base."""
        self._folder.close()
