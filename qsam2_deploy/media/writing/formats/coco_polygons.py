"""COCO annotations in JSON, with polygons.

As ``coco``, with masks as lists of polygons along the edges of pixels. COCO has no holes in
polygons: a part with holes becomes several polygons side by side. ``pycocotools``, which fills what
is inside, gives the same pixels back; readers that colour the outline, too, such as OpenCV, add a
row below and a column to the right.
"""

from __future__ import annotations

from ..drawing import Mask
from ..polygons import edge_polygons
from . import coco


class Writer(coco.Writer):
    """As the base, with polygons for masks."""

    def segmentation(self, mask: Mask) -> list[list[int]]:
        """See the base."""
        return [polygon.ravel().tolist() for polygon in edge_polygons(mask)]
