"""The place of results that a path or URL names."""

from __future__ import annotations

from pathlib import Path

from .local_store import LocalStore
from .remote_store import RemoteStore
from .store import Store


def store_at(out: str) -> Store:
    """Return the place that a path or a URL such as ``s3://bucket/folder`` names.

    Raises:
        MissingDependencyError: fsspec, or what it needs for such a URL, is not installed.
        InputError: there is no such kind of URL.
    """
    if "://" not in out:
        return LocalStore(Path(out))
    return RemoteStore(out)
