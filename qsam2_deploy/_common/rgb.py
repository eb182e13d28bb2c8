"""Video frames to RGB and back, with the same bytes on every processor.

PyAV's own conversions (``to_ndarray``, ``reformat``) leave rounding to what FFmpeg's code for each
processor does, which differs between x86 and Arm, and before version 17 they ignore the matrix and
the range that a frame names. A ``scale`` filter takes both, and flags for exact rounding, in every
version.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from av import VideoFrame

_EXACT = "accurate_rnd+bitexact"

# Numbers are those of ITU-T H.273. swscale takes all others as BT.601, as it does what is unknown.
_MATRICES = {1: "bt709", 4: "fcc", 7: "smpte240m", 9: "bt2020", 10: "bt2020"}
_UNKNOWN_MATRIX = "bt601"
_RANGES = {1: "limited", 2: "full"}


class RgbDecoder:
    """Turns decoded frames into RGB; keep one per video, as it prepares for their format once.

    Every pixel takes the colour of its block of a subsampled format, as decord does, which reads
    videos for the official predictor.
    """

    def __init__(self) -> None:
        """Prepare nothing yet."""
        self._key: tuple[object, ...] = ()
        self._convert: _Filter | None = None

    def __call__(
        self, frame: VideoFrame, size: tuple[int, int] | None = None
    ) -> npt.NDArray[np.uint8]:
        """Return ``frame`` as uint8 RGB ``[height, width, 3]``.

        Args:
            frame: of any pixel format that FFmpeg reads. Its matrix and range are honoured;
                without them BT.601 and, but for ``yuvj`` formats, limited range are assumed.
            size: height and width to resize to (bilinear), by default those of the frame.
        """
        size = size or (frame.height, frame.width)
        key = (
            (frame.height, frame.width, frame.format.name),
            (int(frame.colorspace), int(frame.color_range)),
            size,
        )
        if self._convert is None or key != self._key:
            self._convert, self._key = _to_rgb(frame, size), key
        return np.ascontiguousarray(self._convert(frame).to_ndarray(), dtype=np.uint8)


class RgbEncoder:
    """Turns RGB images into frames for an encoder: by default BT.709, limited range, 4:2:0."""

    def __init__(
        self, pixel_format: str = "yuv420p", *, matrix: int = 1, full_range: bool = False
    ) -> None:
        """Prepare nothing yet.

        Args:
            pixel_format: of the frames, by FFmpeg's name; both sides of what it has at half the
                size must be even.
            matrix: number of ITU-T H.273, such as 1 for BT.709. What :class:`RgbDecoder` does not
                know, it takes as BT.601, and so is it here: both are always inverse.
            full_range: whether brightness is from 0 to 255, not from 16 to 235.
        """
        self._format = pixel_format
        matrix_name = _MATRICES.get(matrix, _UNKNOWN_MATRIX)
        range_name = "full" if full_range else "limited"
        self._options = (
            f"out_color_matrix={matrix_name}:out_range={range_name}:flags=bilinear+{_EXACT}"
        )
        self._size: tuple[int, ...] = ()
        self._convert: _Filter | None = None

    def __call__(self, image: npt.NDArray[np.uint8]) -> VideoFrame:
        """Return uint8 RGB ``[height, width, 3]``, or RGBA with 4, as a frame of the format."""
        from av import VideoFrame

        name = "rgba" if image.shape[2] == 4 else "rgb24"
        frame = VideoFrame.from_ndarray(np.ascontiguousarray(image), format=name)
        if self._convert is None or image.shape != self._size:
            self._convert = _Filter(frame, self._options, self._format)
            self._size = image.shape
        return self._convert(frame)


def _to_rgb(frame: VideoFrame, size: tuple[int, int]) -> _Filter:
    height, width = size
    same = size == (frame.height, frame.width)
    matrix = _MATRICES.get(int(frame.colorspace), _UNKNOWN_MATRIX)
    # "auto" knows which pixel formats are of full range by their name.
    range_ = _RANGES.get(int(frame.color_range), "auto")
    flags = f"{'neighbor' if same else 'bilinear'}+{_EXACT}"
    return _Filter(
        frame,
        f"w={width}:h={height}:in_color_matrix={matrix}:in_range={range_}:flags={flags}",
        "rgb24",
    )


class _Filter:
    """A scale filter for frames like one of them."""

    def __init__(self, like: VideoFrame, options: str, pixel_format: str) -> None:
        from av.filter import Graph

        self._graph = graph = Graph()  # kept: its filters do not keep it alive
        self._source = graph.add_buffer(
            width=like.width,
            height=like.height,
            format=cast("Any", like.format.name),
            time_base=Fraction(1, 1000),  # has to be something; times are not looked at
        )
        scale, end = graph.add("scale", options), graph.add("format", pixel_format)
        self._sink = graph.add("buffersink")
        self._source.link_to(scale)
        scale.link_to(end)
        end.link_to(self._sink)
        graph.configure()

    def __call__(self, frame: VideoFrame) -> VideoFrame:
        """Return ``frame`` converted, without its time."""
        self._source.push(frame)
        picture = cast("VideoFrame", self._sink.pull())
        # An encoder would take the filter's times for the stream's.
        picture.pts, picture.time_base = None, Fraction(0, 1)
        return picture
