"""Frames of a video file by number."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..._common.rgb import RgbDecoder
from ...errors import VideoError
from .._optional import load_av
from ..protocols import RgbImage
from .decoder import Decoder, open_video, rgb_from_frame
from .frame_cache import FrameCache
from .images import normalize_index
from .video_index import index_video

if TYPE_CHECKING:
    from av import VideoFrame


class IndexedVideo:
    """An :class:`IndexedFrames` over a video file, equal to decoding it in order.

    Going forward decodes each frame once. Going back decodes from the keyframe before the wanted
    frame, and keeps the last frames on the way, so that the next steps back cost nothing. Where
    a damaged frame cannot be decoded, the good one before it stands in, as in players, and
    ``warning`` says so.
    """

    def __init__(self, path: Path, *, cache_frames: int = 16) -> None:
        """Index the file and decode its first frame.

        Raises:
            VideoError: the file is no video, or has no frame that can be decoded.
        """
        self.name = str(path)
        self._path = path
        self._index = index_video(path)
        self.warning = self._missing(self._index.length, self._index.expected)
        self._number = {pts: i for i, pts in enumerate(self._index.pts or ())}
        self._cache = FrameCache(cache_frames)
        self._position = -1  # number of the frame decoded last
        self._exact_from = 0  # frames before this one may be wrong since the last seek
        self._video = open_video(path)
        self._to_rgb = RgbDecoder()
        self._frames = Decoder(self._video).frames()
        self.fps = self._video.fps
        first = self._first_frame()
        self.height, self.width = first.shape[:2]

    def __len__(self) -> int:
        return self._index.length

    def __getitem__(self, index: int) -> RgbImage:
        """Return frame ``index`` as uint8 ``[height, width, 3]``.

        Raises:
            IndexError: there is no such frame.
            VideoError: its size is another than the first frame's.
        """
        index = normalize_index(index, len(self))
        frame = self._cache.get(index)
        if frame is None:
            frame = self._decode(index)
            self._cache.put(index, frame)
        if frame.shape[:2] != (self.height, self.width):
            height, width = frame.shape[:2]
            raise VideoError(
                f"frame {index} of {self.name} is {width}x{height} pixels, but the first frame "
                f"is {self.width}x{self.height}; all frames must have the same size"
            )
        return frame

    def close(self) -> None:
        """Close the file."""
        self._frames.close()
        self._video.close()

    def __enter__(self) -> IndexedVideo:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _first_frame(self) -> RgbImage:
        if len(self) == 0:
            self.close()
            raise VideoError(f"{self.name} holds no frame that can be decoded; it may be damaged")
        return self._decode(0)

    def _decode(self, target: int) -> RgbImage:
        key = self._index.keyframe_before(target)
        if self._position >= target or key > self._position + 1:
            self._go_to(key)
        if not self._advance(target):
            self._restart()
            self._advance(target)
        return self._stand_in(target)

    def _advance(self, target: int) -> bool:
        """Decode up to ``target`` into the cache; False if the last seek went too far."""
        for number, frame in self._numbered():
            if 0 < self._exact_from < number and self._position < self._exact_from:
                return False
            self._position = number
            # Frames before the keyframe lack what they refer to.
            if number >= self._exact_from and number > target - self._cache.capacity:
                self._cache.put(number, rgb_from_frame(frame, self._to_rgb))
            if number >= target:
                break
        return True

    def _stand_in(self, target: int) -> RgbImage:
        """Return ``target`` from the cache, or else the nearest good frame."""
        frame = self._cache.get(target)
        if frame is not None:
            return frame
        for number in (*range(target - 1, -1, -1), self._position):
            frame = self._cache.get(number)
            if frame is not None:
                self.warning = f"{self.name} is damaged: frame {number} stands in for {target}"
                return frame
        raise VideoError(f"frame {target} of {self.name} cannot be decoded; it is damaged")

    def _numbered(self) -> Iterator[tuple[int, VideoFrame]]:
        """Go on decoding, and give every frame its number."""
        for frame in self._frames:
            if self._index.pts is None:
                yield self._position + 1, frame
            elif frame.pts in self._number:
                yield self._number[frame.pts], frame

    def _go_to(self, key: int) -> None:
        av = load_av()
        if self._index.pts is None or key == 0:
            self._restart()
            return
        try:
            self._video.container.seek(self._index.pts[key], stream=self._video.stream)
        except (av.FFmpegError, OSError):
            self._restart()
            return
        self._frames.close()
        self._frames = Decoder(self._video).frames()
        self._position, self._exact_from = -1, key

    def _restart(self) -> None:
        self.close()
        self._video = open_video(self._path)
        self._frames = Decoder(self._video).frames()
        self._position, self._exact_from = -1, 0

    def _missing(self, length: int, expected: int) -> str | None:
        if length >= expected:
            return None
        return f"{self.name} is damaged: it holds {length} of {expected} frames"
