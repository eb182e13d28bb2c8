"""Calibration images from an image, a folder or a video, prepared as the official predictor does.

The folder is searched recursively and sorted naturally, so that ``2.jpg`` comes before
``10.jpg``. Where there are more images than wanted, they are spread evenly.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from .._common.progress import progress
from .._common.requirements import check_imported
from .._common.spread import spread_indices
from ..errors import InputError, MissingDependencyError, VideoError

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
DEFAULT_LIMIT = 50
"""Number of images of the Q-SAM2 paper's calibration batch."""

_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_STD = np.array([0.229, 0.224, 0.225], np.float32)


class Images(Protocol):
    """Images ``[1, 3, S, S]`` that can be iterated over again, such as a list."""

    def __len__(self) -> int:
        """Return their number."""

    def __iter__(self) -> Iterator[torch.Tensor]:
        """Yield one after another."""

    def __getitem__(self, index: int, /) -> torch.Tensor:
        """Return one of them."""


class CalibrationImages:
    """A sequence of images that can be iterated over again and again, one in memory at a time.

    Each is float32 ``[1, 3, S, S]``: RGB, resized with Pillow's default filter, divided by 255,
    normalised with ImageNet's mean and standard deviation (``load_video_frames`` of ``sam2``).
    """

    def __init__(
        self,
        sources: Sequence[Path | npt.NDArray[np.uint8]],
        image_size: int,
        names: Sequence[str] = (),
    ) -> None:
        """Take the images.

        Args:
            sources: files, or pixels that are resized already.
            image_size: ``S``.
            names: what messages call them; default: their paths, or their numbers.
        """
        self._sources = tuple(sources)
        self._image_size = image_size
        self._names = tuple(names)

    def name(self, index: int) -> str:
        """Return where image ``index`` comes from, for messages."""
        if self._names:
            return self._names[index]
        source = self._sources[index]
        return str(source) if isinstance(source, Path) else f"number {index + 1}"

    def __len__(self) -> int:
        return len(self._sources)

    def __iter__(self) -> Iterator[torch.Tensor]:
        for index in range(len(self)):
            yield self[index]

    def __getitem__(self, index: int) -> torch.Tensor:
        source = self._sources[index]
        pixels = _read_image(source, self._image_size) if isinstance(source, Path) else source
        return normalise(pixels)


def calibration_images(
    path: str | os.PathLike[str], image_size: int, limit: int = DEFAULT_LIMIT
) -> CalibrationImages:
    """Return up to ``limit`` images from ``path``, for a model of side ``image_size`` pixels.

    Args:
        path: an image, a folder of images (with subfolders), or a video.
        image_size: ``S``, the side of the model's input.
        limit: most images to take, spread evenly over what is there.

    Raises:
        InputError: ``limit`` is not positive.
        VideoError: nothing usable is at ``path``, or (while iterating) an image is damaged.
        MissingDependencyError: ``path`` is a video and PyAV is not installed.
    """
    if limit < 1:
        raise InputError(f"the number of calibration images must be at least 1, but got {limit}")
    source = Path(path)
    if source.is_dir():
        return CalibrationImages(_spread(_images_below(source), limit), image_size)
    if not source.exists():
        raise VideoError(f"there is no calibration data at {source}; check the path")
    if source.suffix.lower() in IMAGE_SUFFIXES:
        return CalibrationImages([source], image_size)
    frames = _read_video(source, image_size, limit)
    names = [f"frame {index} of {source}" for index in frames]
    return CalibrationImages(list(frames.values()), image_size, names)


def normalise(pixels: npt.NDArray[np.uint8]) -> torch.Tensor:
    """Turn RGB ``[S, S, 3]`` uint8 into the model's input, float32 ``[1, 3, S, S]``."""
    scaled = (pixels / 255.0).astype(np.float32)
    channels_first = ((scaled - _MEAN) / _STD).transpose(2, 0, 1)
    return torch.from_numpy(np.ascontiguousarray(channels_first))[None]


def _spread(paths: Sequence[Path], limit: int) -> list[Path]:
    return [paths[i] for i in spread_indices(len(paths), limit)]


def _images_below(folder: Path) -> list[Path]:
    found = [
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
    ]
    if not found:
        raise VideoError(
            f"no images found in {folder}; expected files ending in {', '.join(IMAGE_SUFFIXES)}"
        )
    return sorted(found, key=lambda path: _natural_key(path.relative_to(folder)))


def _natural_key(path: Path) -> list[tuple[tuple[bool, int, str], ...]]:
    return [
        tuple((not piece.isdigit(), int(piece) if piece.isdigit() else 0, piece) for piece in parts)
        for parts in (re.split(r"([0-9]+)", part) for part in path.parts)
    ]


def _read_image(path: Path, size: int) -> npt.NDArray[np.uint8]:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB").resize((size, size)))
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError) as error:
        raise VideoError(
            f"cannot read the calibration image {path}: {error}; remove or replace it"
        ) from error


def _read_video(path: Path, size: int, limit: int) -> dict[int, npt.NDArray[np.uint8]]:
    """Return the wanted frames by their number in the video, from 0."""
    try:
        import av
    except ModuleNotFoundError as error:
        raise MissingDependencyError("av", "video", "reading a video") from error
    check_imported(av, "av", "video", "reading a video")
    try:
        with av.open(os.fspath(path)) as container:
            count = sum(packet.size > 0 for packet in container.demux(video=0))
        with av.open(os.fspath(path)) as container:
            frames = _pick_frames(container, spread_indices(count, limit), size)
    except (av.FFmpegError, IndexError, OSError) as error:
        raise VideoError(
            f"cannot read {path} as a video ({error}); expected a video, an image or a folder of "
            "images"
        ) from error
    if not frames:
        raise VideoError(f"the video {path} has no frames; give another one")
    return frames


def _pick_frames(
    container: Any, wanted: Sequence[int], size: int
) -> dict[int, npt.NDArray[np.uint8]]:
    """Decode up to the last wanted frame and keep the wanted ones, resized."""
    container.streams.video[0].thread_type = "AUTO"
    remaining, last = set(wanted), max(wanted, default=-1)
    kept = {}
    frames = progress(container.decode(video=0), "decoding", total=last + 1, unit="frame")
    for index, frame in enumerate(frames):
        if index in remaining:
            kept[index] = np.asarray(frame.to_image().convert("RGB").resize((size, size)))
        if index >= last:
            break
    return kept
