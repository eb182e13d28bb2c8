"""COCO annotations in JSON, with run-length encoded masks.

Each processed frame is an image, ``00012.jpg`` for frame 12, and each visible object an annotation
with ``track_id``, its number; ``score`` is the probability that it is in the frame. The one
category is ``object``. The file loads in ``pycocotools`` and in what reads COCO's instances.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ....data.datasets.rle import encode_rle
from ....tracking.results import ObjectResult
from ..drawing import Mask, mask_box
from ..pending_file import PendingFile
from ..result_format import About, FrameRecord, ResultWriter


class Writer(ResultWriter):
    """Collects images and annotations; the file appears in :meth:`close`."""

    def __init__(self, path: Path, about: About) -> None:
        """See the base."""
        self._about = about
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []
        self._file = PendingFile(path)

    def write(self, record: FrameRecord) -> None:
        """See the base."""
        image_id = len(self._images) + 1
        self._images.append(
            {
                "id": image_id,
                "file_name": f"{record.index:05d}.jpg",
                "frame": record.index,
                "height": self._about.height,
                "width": self._about.width,
            }
        )
        for item in record.result.objects:
            if item.mask.any():
                annotation = {"id": len(self._annotations) + 1, "image_id": image_id}
                self._annotations.append({**annotation, **self._described(item)})

    def close(self, *, complete: bool) -> None:
        """See the base."""
        if not self._images:
            self._file.discard()
            return
        data = {
            "info": {**self._about.header, "complete": complete},
            "images": self._images,
            "annotations": self._annotations,
            "categories": [{"id": 1, "name": "object", "supercategory": ""}],
        }
        self._file.write_text(json.dumps(data, allow_nan=False))

    def segmentation(self, mask: Mask) -> Any:
        """Return a mask, which is not empty, as COCO has it."""
        return encode_rle(mask)

    def _described(self, item: ObjectResult) -> dict[str, Any]:
        box = mask_box(item.mask)
        assert box is not None
        x1, y1, x2, y2 = box
        return {
            "category_id": 1,
            "track_id": item.object_id,
            "score": round(item.probability, 6),
            "segmentation": self.segmentation(item.mask),
            "area": int(item.mask.sum()),
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "iscrowd": 0,
        }
