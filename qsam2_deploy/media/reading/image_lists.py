"""Which image files are the frames of a folder or a pattern, and in what order."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import VideoError
from .image_formats import AVIF_SUFFIXES, HEIF_SUFFIXES

JPEG_SUFFIXES = frozenset({".jpg", ".jpeg"})
PNG_SUFFIXES = frozenset({".png"})
IMAGE_SUFFIXES = (
    JPEG_SUFFIXES
    | PNG_SUFFIXES
    | AVIF_SUFFIXES
    | HEIF_SUFFIXES
    | {".bmp", ".tif", ".tiff", ".webp"}
)

_NUMBER = re.compile(r"%(?:0?(?P<digits>[0-9]+))?d")


@dataclass(frozen=True)
class FrameFiles:
    """Image files in order, and a sentence about those that were left out.

    Attributes:
        files: the frames.
        warning: how many images are no frames and why, None if all are.
    """

    files: list[Path]
    warning: str | None = None


def list_frames(folder: Path, *, official: bool = False) -> FrameFiles:
    """Return the images in ``folder`` in order.

    Names that are whole numbers (``00000.jpg``) are sorted by number, as the official predictor
    does, others naturally (``shot2`` before ``shot10``). Two kinds of images are no frames: one
    that is named like another but for its type (a mask ``0.png`` beside ``0.jpg``), and beside
    numbered JPEG files those of another type that have no number.

    Args:
        folder: where they lie.
        official: take JPEG files alone where there are any, as the official predictor does.

    Raises:
        VideoError: there is no such file, or the folder cannot be read.
    """
    try:
        images = [p for p in folder.iterdir() if _is_image(p)]
    except OSError as error:
        raise VideoError(f"cannot read the folder {folder}: {error.strerror or error}") from error
    if not images:
        raise VideoError(
            f"the folder {folder} holds no frames; expected images such as 00000.jpg or 00000.png"
        )
    jpegs = [p for p in images if p.suffix.lower() in JPEG_SUFFIXES]
    frames = jpegs if official and jpegs else _without_companions(images, jpegs)
    return _described(str(folder), frames, images, "are named like frames of another type or "
                      "are no JPEG files beside numbered ones")  # fmt: skip


def is_pattern(path: Path) -> bool:
    """Say whether a name that no file has stands for several: ``*.png``, or ``%05d.png``."""
    text = str(path)
    return not path.exists() and (glob.has_magic(text) or _NUMBER.search(path.name) is not None)


def match_frames(pattern: Path) -> FrameFiles:
    """Return the images that a pattern stands for, in order.

    ``%d`` and ``%05d`` in the last part of the name stand for a whole number (of so many digits
    at least); all numbers that exist are taken. Else ``*``, ``?`` and ``[0-9]`` are those of a
    shell, and ``**`` any folders.

    Raises:
        VideoError: no image matches.
    """
    found = _numbered(pattern) if _NUMBER.search(pattern.name) else _globbed(pattern)
    images = [p for p in found if _is_image(p)]
    if not images:
        what = f"; the {len(found)} files that do are no images" if found else ""
        raise VideoError(
            f"there is no file {pattern}, and no image matches it as a pattern{what}; "
            "give a pattern of existing frames"
        )
    return _described(str(pattern), images, found, "are no images")


def _globbed(pattern: Path) -> list[Path]:
    # Path.glob refuses absolute patterns.
    found = glob.glob(str(pattern), recursive=True)  # noqa: PTH207
    return [path for path in map(Path, found) if not path.is_dir()]


def _numbered(pattern: Path) -> list[Path]:
    place = _NUMBER.search(pattern.name)
    assert place is not None
    before, after = pattern.name[: place.start()], pattern.name[place.end() :]
    digits = int(place["digits"] or 1)
    name = re.compile(rf"{re.escape(before)}(?:[0-9]{{{digits},}}){re.escape(after)}")
    try:
        return [p for p in pattern.parent.iterdir() if name.fullmatch(p.name)]
    except OSError as error:
        what = error.strerror or error
        raise VideoError(f"cannot read the folder {pattern.parent}: {what}") from error


def _without_companions(images: Sequence[Path], jpegs: Sequence[Path]) -> list[Path]:
    numbered = bool(jpegs) and all(_is_number(p.stem) for p in jpegs)
    first: dict[str, Path] = {}
    for path in sorted(images, key=lambda p: (_rank(p), p.name)):
        # 1.jpg and 1.JPEG are both frames: the official predictor takes both.
        key = path.name if path in jpegs else path.stem
        if path not in jpegs and (path.stem in first or (numbered and not _is_number(path.stem))):
            continue
        first[key] = first[path.stem] = path
    chosen = set(first.values()) | set(jpegs)
    return [p for p in images if p in chosen]


def _rank(path: Path) -> int:
    for rank, suffixes in enumerate((JPEG_SUFFIXES, PNG_SUFFIXES)):
        if path.suffix.lower() in suffixes:
            return rank
    return 2


def _described(name: str, frames: Sequence[Path], found: Sequence[Path], reason: str) -> FrameFiles:
    frames = sorted(frames, key=_sort_key(frames))
    left = sorted(set(found) - set(frames), key=_natural_key)
    if not left:
        return FrameFiles(frames)
    shown = ", ".join(p.name for p in left[:3]) + (", …" if len(left) > 3 else "")
    return FrameFiles(
        frames, f"{len(left)} of {len(found)} files of {name} are left out ({shown}): they {reason}"
    )


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def _sort_key(frames: Iterable[Path]) -> Any:
    if all(_is_number(p.stem) for p in frames):
        return lambda p: (int(p.stem), p.name)
    return _natural_key


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[0-9]+", text) is not None


def _natural_key(path: Path) -> list[tuple[int, int, str]]:
    # Tuples of one shape, because numbers and texts cannot be compared with each other.
    parts = re.split(r"([0-9]+)", os.fspath(path))
    return [(0, int(p), "") if _is_number(p) else (1, 0, p) for p in parts]
