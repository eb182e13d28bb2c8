"""Image formats that not every Pillow reads: AVIF since 11.3, HEIC with another package."""

from __future__ import annotations

from pathlib import Path

import PIL
from PIL import Image

from ...errors import MissingDependencyError, VideoError

AVIF_SUFFIXES = frozenset({".avif", ".avifs"})
HEIF_SUFFIXES = frozenset({".heic", ".heif", ".hif"})


def prepare_format(path: Path) -> None:
    """Make Pillow able to read a file of this name.

    Raises:
        VideoError: it is AVIF, and this Pillow is too old or was built without it.
        MissingDependencyError: it is HEIC, and the package ``pillow-heif`` is not installed.
    """
    suffix = path.suffix.lower()
    if suffix not in AVIF_SUFFIXES | HEIF_SUFFIXES or suffix in Image.registered_extensions():
        return
    if suffix in AVIF_SUFFIXES:
        raise VideoError(
            f"cannot read {path}: Pillow {PIL.__version__}, which is installed, reads no AVIF; "
            "run: pip install 'pillow>=11.3'"
        )
    try:
        import pillow_heif
    except ImportError as error:
        raise MissingDependencyError(
            "pillow-heif", "video", f"reading {path}", hint="run: pip install pillow-heif"
        ) from error
    pillow_heif.register_heif_opener()
