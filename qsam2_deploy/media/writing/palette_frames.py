"""Frames of at most 256 colours, each with a palette of its own."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, cast

import numpy as np

from ..protocols import RgbImage

if TYPE_CHECKING:
    from av import VideoFrame
    from av.filter import Graph


class PaletteEncoder:
    """Turns RGB images into paletted frames for a GIF."""

    def __init__(self) -> None:
        """Prepare nothing yet."""
        self._graph: Graph | None = None
        self._count = 0

    def __call__(self, image: RgbImage) -> VideoFrame:
        """Return uint8 RGB ``[height, width, 3]`` as a ``pal8`` frame without a time."""
        from av import VideoFrame

        frame = VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        if self._graph is None:
            self._graph = _graph(frame)
        # The filters that join picture and palette go by the time.
        frame.pts, frame.time_base = self._count, Fraction(1, 1000)
        self._count += 1
        self._graph.push(frame)
        picture = cast("VideoFrame", self._graph.pull())
        picture.pts, picture.time_base = None, Fraction(0, 1)
        return picture


def _graph(like: VideoFrame) -> Graph:
    from av.filter import Graph

    graph = Graph()
    source = graph.add_buffer(
        width=like.width, height=like.height, format=like.format, time_base=Fraction(1, 1000)
    )
    both = graph.add("split")
    palette = graph.add("palettegen", "stats_mode=single")
    # An ordered pattern stands still from frame to frame, and packs well.
    use = graph.add("paletteuse", "new=1:dither=bayer:bayer_scale=4")
    end = graph.add("buffersink")
    source.link_to(both)
    both.link_to(use, 0, 0)
    both.link_to(palette, 1, 0)
    palette.link_to(use, 0, 1)
    use.link_to(end)
    graph.configure()
    return graph
