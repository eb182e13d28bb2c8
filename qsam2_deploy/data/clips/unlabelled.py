"""Videos and folders of images without labels, for training that follows a teacher."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..._common.rgb import RgbDecoder
from ...errors import MissingDependencyError, VideoError
from .._checks import require_least
from ..changes.regions import RegionsConfig, random_rectangle
from ..datasets.image_files import FRAME_SUFFIXES, image_size, list_folder, read_frame_of
from ..sample import Clip, Frames, Masks, VideoSequence
from .windows import SequenceWindows, SequenceWindowsConfig

_MOST_FRAMES = 300  # of a video; longer ones are thinned out
_CHOICES = 13  # keeps the rectangles apart from what other sources draw from the same seed


class _Unlabelled:
    """What readers of frames without labels share; all of a frame counts as one object."""

    name: str
    frame_count: int
    size: tuple[int, int]
    object_ids = (1,)

    @property
    def annotated(self) -> tuple[int, ...]:
        """Indices of the frames to use, ascending."""
        stride = -(-self.frame_count // _MOST_FRAMES)
        return tuple(range(0, self.frame_count, stride))

    def masks(self, index: int) -> dict[int, Masks]:  # noqa: ARG002
        """Return one mask [H, W] with everything in it."""
        return {1: np.ones(self.size, np.bool_)}


class ImageFolder(_Unlabelled):
    """The images of a folder as the frames of a video, in the order of their names.

    Raises:
        VideoError: the folder holds no image, or the first one is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.name = folder.name
        files = [path for path in list_folder(folder) if path.suffix.lower() in FRAME_SUFFIXES]
        if not files:
            raise VideoError(
                f"no images found in {folder}; expected files ending in "
                f"{', '.join(sorted(FRAME_SUFFIXES))}"
            )
        self._files = sorted(files)
        self.frame_count = len(files)
        self.size = image_size(self._files[0])

    def frame(self, index: int) -> Frames:
        """Return frame ``index``: [H, W, 3] uint8, RGB."""
        return read_frame_of(self._files[index], self.size)


class VideoFile(_Unlabelled):
    """The frames of a video file; fast to read in ascending order.

    Raises:
        VideoError: the file cannot be read as a video.
        MissingDependencyError: PyAV is not installed.
    """

    def __init__(self, path: Path) -> None:
        self.name, self._path = path.name, path
        self._frames: Iterator[Frames] = iter(())
        self._position = 0
        count, self.size = self._header
        self.frame_count = count

    def frame(self, index: int) -> Frames:
        """Return frame ``index``: [H, W, 3] uint8, RGB."""
        if index < self._position or self._position == 0:
            self._frames, self._position = self._decode(), 0
        frame = next(itertools.islice(self._frames, index - self._position, None), None)
        if frame is None:
            raise VideoError(f"{self._path} ends before its frame {index}; it may be damaged")
        self._position = index + 1
        return frame

    @cached_property
    def _header(self) -> tuple[int, tuple[int, int]]:
        av = _load_av()
        try:
            with av.open(os.fspath(self._path)) as container:
                stream = container.streams.video[0]
                size = (int(stream.height), int(stream.width))
                count = sum(packet.size > 0 for packet in container.demux(stream))
        except (av.FFmpegError, IndexError, OSError) as error:
            raise VideoError(_unreadable(self._path, error)) from error
        if not count or not min(size):
            raise VideoError(f"the video {self._path} has no frames; give another one")
        return count, size

    def _decode(self) -> Iterator[Frames]:
        av = _load_av()
        try:
            with av.open(os.fspath(self._path)) as container:
                to_rgb = RgbDecoder()
                for frame in container.decode(video=0):
                    yield to_rgb(frame, self.size)
        except (av.FFmpegError, OSError) as error:
            raise VideoError(_unreadable(self._path, error)) from error


def unlabelled_sequence(path: str | os.PathLike[str]) -> VideoSequence:
    """Open a video file, or a folder with the frames of one.

    Raises:
        VideoError: there is nothing usable at ``path``.
        MissingDependencyError: it is a video file and PyAV is not installed.
    """
    source = Path(path)
    if source.is_dir():
        return ImageFolder(source)
    if not source.exists():
        raise VideoError(f"there is no video {source}; expected a video or a folder of images")
    return VideoFile(source)


def _load_av() -> Any:
    try:
        import av
    except ModuleNotFoundError as error:
        raise MissingDependencyError("av", "video", "reading a video") from error
    return av


def _unreadable(path: Path, error: Exception) -> str:
    return f"cannot read {path} as a video ({error}); expected a video or a folder of images"


@dataclass(frozen=True)
class UnlabelledConfig(RegionsConfig):
    """How windows, and the rectangles that prompts are drawn from, are chosen.

    Attributes:
        max_stride: largest step between frames; clips of more than 8 frames have step 1.
        short_side: frames are kept in memory with at most this many pixels on the shorter side.
    """

    max_objects: int = 3
    max_stride: int = 3
    short_side: int = 360

    def __post_init__(self) -> None:
        super().__post_init__()
        require_least(self, 1, "max_stride", "short_side")


class UnlabelledClips:
    """A ``ClipSource`` of windows of unlabelled videos.

    Their masks are rectangles, the same in all frames, which only tell where to prompt.
    """

    def __init__(
        self, sequences: Sequence[VideoSequence], config: UnlabelledConfig | None = None
    ) -> None:
        """Read nothing yet.

        Raises:
            InputError: there is no sequence.
        """
        self.config = config or UnlabelledConfig()
        windows = SequenceWindowsConfig(
            seed=self.config.seed,
            max_stride=self.config.max_stride,
            short_side=self.config.short_side,
            min_area=0.0,
        )
        self._windows = SequenceWindows(sequences, windows)

    def clip(self, index: int, *, frames: int, size: int) -> Clip:
        """Return clip ``index``: ``frames`` frames of ``size`` x ``size`` pixels."""
        window = self._windows.clip(index, frames=frames, size=size)
        rng = np.random.default_rng((self.config.seed, _CHOICES, index))
        count = self.config.max_objects
        boxes = np.stack([random_rectangle(rng, self.config, size) for _ in range(count)])
        masks = np.repeat(boxes[None], frames, axis=0)
        return Clip(window.frames, masks, f"unlabelled {window.name}", labelled=False)
