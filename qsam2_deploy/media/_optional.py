"""Packages that only media files need, loaded when they are first used."""

from __future__ import annotations

from types import ModuleType

from .._common.requirements import check_imported
from ..errors import MissingDependencyError

_PURPOSE = "reading or writing a video"


def load_av() -> ModuleType:
    """Return PyAV.

    Raises:
        MissingDependencyError: it is not installed, or too old.
    """
    try:
        import av
    except ImportError as error:
        raise MissingDependencyError("av", "video", _PURPOSE) from error
    check_imported(av, "av", "video", _PURPOSE)
    return av
