"""Reading the image files of datasets: frames, and masks whose pixels are object numbers."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from ...errors import VideoError
from ..sample import Frames, Masks

FRAME_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})
MASK_SUFFIXES = frozenset({".png"})

VOID = 255
"""Label of pixels that belong to nothing, where labels are object numbers."""

Labels = npt.NDArray[np.uint8]

_ORIENTATION = 0x0112
_TURNED = (5, 6, 7, 8)
_SHOWN_NAMES = 30


def read_frame(path: Path) -> Frames:
    """Return the image file as uint8 RGB [H, W, 3], upright.

    Raises:
        VideoError: the file is absent or no image.
    """
    try:
        with Image.open(path) as image:
            return np.array(ImageOps.exif_transpose(image).convert("RGB"), dtype=np.uint8)
    except (OSError, ValueError, SyntaxError) as error:
        raise VideoError(_unreadable(path, error)) from error


def read_labels(path: Path) -> Labels:
    """Return the pixels of a mask file as uint8 [H, W]: palette indices or grey values.

    A mask that holds nothing but 0 and 255 and has no palette is binary: its 255 becomes 1.

    Raises:
        VideoError: the file is absent, no image, or a picture in colours.
    """
    try:
        with Image.open(path) as image:
            mode = image.mode
            pixels = np.array(image)
    except (OSError, ValueError, SyntaxError) as error:
        raise VideoError(_unreadable(path, error)) from error
    labels = _single_channel(pixels, mode, path)
    if mode != "P" and labels.max(initial=0) == VOID and not np.any((labels > 0) & (labels < VOID)):
        labels = labels // VOID
    return labels


def read_mask(path: Path) -> Masks:
    """Return the mask file of a single object as bool [H, W]: whatever is not 0.

    Raises:
        VideoError: the file is absent, no image, or a picture in colours.
    """
    return read_labels(path) > 0


def read_frame_of(path: Path, size: tuple[int, int]) -> Frames:
    """Return the frame in ``path``, of a video whose frames are of ``size`` (H, W).

    Raises:
        VideoError: the file is damaged, or of another size.
    """
    frame = read_frame(path)
    if frame.shape[:2] != size:
        raise VideoError(
            f"the frame {path} is {frame.shape[1]}x{frame.shape[0]} pixels, but the first one "
            f"is {size[1]}x{size[0]}; all frames must have the same size"
        )
    return frame


def check_mask_size(path: Path, mask: npt.NDArray[np.generic], size: tuple[int, int]) -> None:
    """Check that ``mask`` [H, W] of the file ``path`` has the frame's ``size`` (H, W).

    Raises:
        VideoError: it has another one.
    """
    if mask.shape != size:
        raise VideoError(
            f"the mask {path} is {mask.shape[1]}x{mask.shape[0]} pixels, but its frame is "
            f"{size[1]}x{size[0]}; both must have the same size"
        )


def image_size(path: Path) -> tuple[int, int]:
    """Return (height, width) of the upright image without decoding its pixels.

    Raises:
        VideoError: the file is absent or no image.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            turned = image.getexif().get(_ORIENTATION) in _TURNED
    except (OSError, ValueError, SyntaxError) as error:
        raise VideoError(_unreadable(path, error)) from error
    return (width, height) if turned else (height, width)


def files_by_number(folder: Path, suffixes: Collection[str]) -> dict[int, Path]:
    """Return the files of ``folder`` with such a suffix, by the number that is their name.

    Raises:
        VideoError: the folder cannot be read, or a file's name is no number.
    """
    found = {}
    for path in list_folder(folder):
        if path.suffix.lower() not in suffixes:
            continue
        if re.fullmatch("[0-9]+", path.stem) is None:
            raise VideoError(f"{path} is not named by a number; expected a name such as 00000.png")
        found[int(path.stem)] = path
    return dict(sorted(found.items()))


def list_folder(folder: Path) -> list[Path]:
    """Return what is in ``folder``, sorted by name, without hidden files.

    Raises:
        VideoError: there is no such folder, or it cannot be read.
    """
    try:
        return sorted(p for p in folder.iterdir() if not p.name.startswith("."))
    except FileNotFoundError as error:
        raise VideoError(f"there is no folder {folder}; check the path of the dataset") from error
    except OSError as error:
        raise VideoError(f"cannot read the folder {folder}: {error.strerror or error}") from error


def listed_names(names: Iterable[str] | None) -> list[str] | None:
    """Return ``names`` as a list; a string is one name, or a text file with one per line.

    Raises:
        VideoError: the file cannot be read.
    """
    if names is None or not isinstance(names, str):
        return None if names is None else list(names)
    if not Path(names).is_file():
        return [names]
    try:
        return Path(names).read_text(encoding="utf-8-sig").split()
    except (OSError, UnicodeDecodeError) as error:
        raise VideoError(f"cannot read the list of sequences {names}: {error}") from error


def chosen_names(known: Sequence[str], names: Sequence[str] | None, origin: Path) -> list[str]:
    """Return ``names``, or all ``known`` ones; each must be known.

    Raises:
        VideoError: a name is unknown, or there is none.
    """
    if not known:
        raise VideoError(f"{origin} holds no sequence; check the path of the dataset")
    if names is None:
        return list(known)
    for name in names:
        if name not in known:
            shown = ", ".join(known[:_SHOWN_NAMES]) + (", ..." if len(known) > _SHOWN_NAMES else "")
            raise VideoError(f"there is no sequence {name!r} in {origin}; known are: {shown}")
    if not names:
        raise VideoError(f"no sequence of {origin} was chosen; name at least one")
    return list(dict.fromkeys(names))


def _single_channel(pixels: npt.NDArray[np.generic], mode: str, path: Path) -> Labels:
    if pixels.ndim == 3:
        # Some tools write grey masks with three equal channels, and perhaps an alpha channel.
        colours = pixels[..., :3] if mode in ("RGB", "RGBA") else pixels[..., :1]
        pixels = colours[..., 0]
        if not np.array_equal(colours, np.broadcast_to(pixels[..., None], colours.shape)):
            raise VideoError(
                f"the mask {path} is a picture in colours ({mode}); expected a PNG with a palette "
                "or grey values, whose pixels are object numbers"
            )
    if pixels.dtype == np.bool_:
        return pixels.astype(np.uint8)
    values = pixels.astype(np.int64)
    if values.min(initial=0) < 0 or values.max(initial=0) > VOID:
        raise VideoError(
            f"the mask {path} holds the value {values.max(initial=0)}; expected 0 to {VOID}"
        )
    return values.astype(np.uint8)


def _unreadable(path: Path, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return f"there is no file {path}; the dataset is not complete"
    return f"cannot read {path} as an image, it may be damaged: {error}"


class FrameFiles:
    """A sequence whose frames are files, all of one size."""

    frame_files: tuple[Path, ...]
    size: tuple[int, int]

    @property
    def frame_count(self) -> int:
        """Number of frames."""
        return len(self.frame_files)

    def frame(self, index: int) -> Frames:
        """Return frame ``index``: [H, W, 3] uint8, RGB.

        Raises:
            VideoError: the file is damaged, or of another size than the first frame.
        """
        return read_frame_of(self.frame_files[index], self.size)
