"""Which frame of a video has which time stamp, found without decoding."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .._optional import load_av
from .decoder import Decoder, OpenVideo, open_video


@dataclass(frozen=True)
class VideoIndex:
    """Frame numbers and time stamps.

    Attributes:
        length: number of frames.
        pts: presentation time stamp of every frame, ascending, in the stream's time base. None
            if the file has no usable stamps: then frames can only be counted from the start.
        keyframes: numbers of the frames that decoding can begin at, ascending.
        expected: frames that the file claims to have, 0 if it does not say.
    """

    length: int
    pts: tuple[int, ...] | None
    keyframes: tuple[int, ...]
    expected: int

    def keyframe_before(self, frame: int) -> int:
        """Return the last keyframe that is not after ``frame``; 0 if there is none."""
        place = bisect.bisect_right(self.keyframes, frame)
        return self.keyframes[place - 1] if place else 0


def index_video(path: Path) -> VideoIndex:
    """Read all packets of a video file and return its index.

    Raises:
        VideoError: the file is no video.
    """
    video = open_video(path)
    try:
        stamps, discarded = _read_stamps(video)
        expected = max(0, video.stream.frames - discarded)
        reordered = bool(video.stream.codec_context.has_b_frames)
    finally:
        video.close()
    pts = _presentation_order([stamp for stamp, _ in stamps], reordered)
    if pts is None:
        return VideoIndex(_count_frames(path), None, (), expected)
    number = {stamp: i for i, stamp in enumerate(pts)}
    keyframes = sorted(number[stamp] for stamp, key in stamps if key and stamp is not None)
    return VideoIndex(len(pts), pts, tuple(keyframes), expected)


def _read_stamps(video: OpenVideo) -> tuple[list[tuple[int | None, bool]], int]:
    """Return (pts, is keyframe) of every shown packet in file order, and how many are hidden."""
    av = load_av()
    stamps: list[tuple[int | None, bool]] = []
    discarded = 0
    try:
        for packet in video.container.demux(video.stream):
            if packet.size and not packet.is_discard:
                stamps.append((packet.pts, packet.is_keyframe))
            discarded += int(bool(packet.size) and packet.is_discard)
    except (av.FFmpegError, OSError):
        pass  # The file breaks off here; what was read is its index.
    return stamps, discarded


def _presentation_order(stamps: Sequence[int | None], reordered: bool) -> tuple[int, ...] | None:
    known = [s for s in stamps if s is not None]
    if not known or len(set(known)) != len(stamps):
        return None
    # Some formats (AVI) store the order of decoding alone. Where the codec shows frames in
    # another order and the stamps do not, they are not those of presentation.
    if reordered and known == sorted(known) and len(known) > 2:
        return None
    return tuple(sorted(known))


def _count_frames(path: Path) -> int:
    video = open_video(path)
    try:
        return sum(1 for _ in Decoder(video).frames())
    finally:
        video.close()
