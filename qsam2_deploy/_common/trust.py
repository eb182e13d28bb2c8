"""Whether files that decide what is computed could be somebody else's."""

from __future__ import annotations

import os
import stat
import warnings
from pathlib import Path


def distrust(path: Path) -> str | None:
    """Return why a file or folder is not to be trusted, or None; one that is absent may be made.

    Somebody else has made it, or could: it belongs to another user, but for root, or everybody can
    write to it. A folder such as ``/tmp``, in which nobody can replace the files of others, is
    trusted if its files are.
    """
    kind = "folder" if path.is_dir() else "file"
    try:
        about = path.stat()
    except OSError:
        return None
    if about.st_uid not in (os.getuid(), 0):
        return f"the {kind} belongs to another user"
    replaceable = kind == "file" or not about.st_mode & stat.S_ISVTX
    if about.st_mode & stat.S_IWOTH and replaceable:
        return f"everybody can write to the {kind}"
    return None


def trusted_cache(folder: Path) -> bool:
    """Return whether a folder can be a cache, and warn in one sentence where it cannot."""
    reason = distrust(folder)
    if reason is None:
        return True
    warnings.warn(
        f"{folder} is not used as a cache: {reason}; correct that, or choose another folder",
        RuntimeWarning,
        stacklevel=2,
    )
    return False
