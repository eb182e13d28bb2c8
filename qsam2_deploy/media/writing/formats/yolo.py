"""YOLO segmentation data set in a folder: images, labels, data.yaml.

``images/00012.jpg`` is frame 12, and ``labels/00012.txt`` has a line ``0 x1 y1 x2 y2 ...`` for each
visible object: its class and one polygon in shares of width and height. Parts of a mask are joined
by lines there and back, as Ultralytics does with COCO's: readers draw them a pixel wide. The form
has no numbers and no scores of objects. A frame without objects has an empty file.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...._common.files import atomic_open
from ..drawing import Mask
from ..image_writer import write_image
from ..output_folder import OutputFolder
from ..polygons import joined, pixel_polygons
from ..result_format import About, FrameRecord, ResultWriter

_DATA = """\
# Paths are relative to this file.
train: images
val: images
names:
  0: object
"""
_QUALITY = 95

# Readers cut a coordinate off or round it: a quarter of a pixel from its upper left corner, both
# give the pixel.
_INSIDE_PIXEL = 0.25


class Writer(ResultWriter):
    """Writes image and labels of each frame at once; ``data.yaml`` comes last."""

    def __init__(self, path: Path, about: About) -> None:
        """See the base."""
        self._folder = OutputFolder(path, "the data set", about.taken)
        self._folder.inner("images")
        self._folder.inner("labels")
        self._size = np.array([about.width, about.height])
        self._empty = True

    def write(self, record: FrameRecord) -> None:
        """See the base."""
        visible = [item.mask for item in record.result.objects if item.mask.any()]
        text = "".join(self._line(mask) for mask in visible)
        image = self._folder.file(f"images/{record.index:05d}.jpg")
        write_image(image, record.image, quality=_QUALITY)
        self._write_text(f"labels/{record.index:05d}.txt", text)
        self._empty = False

    def close(self, *, complete: bool) -> None:
        """See the base."""
        if not self._empty:
            early = "" if complete else "# The run ended early.\n"
            self._write_text("data.yaml", early + _DATA)
        self._folder.close()

    def _line(self, mask: Mask) -> str:
        polygon = joined(pixel_polygons(mask))
        # Readers want three points at least.
        polygon = np.concatenate([polygon, *[polygon[-1:]] * max(0, 3 - len(polygon))])
        shares = (polygon + _INSIDE_PIXEL) / self._size
        return "0 " + " ".join(f"{value:.6f}" for value in shares.ravel()) + "\n"

    def _write_text(self, name: str, text: str) -> None:
        with atomic_open(self._folder.file(name)) as stream:
            stream.write(text.encode())
