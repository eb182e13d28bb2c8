"""Packages that only media files need, loaded when they are first used."""

from __future__ import annotations

from types import ModuleType

from ...errors import MissingDependencyError


def load_av() -> ModuleType:
    """Return PyAV.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise MissingDependencyError("av", "video", "reading or writing a video") from error
    return av
