"""Writing files so that nobody ever sees half of one."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from .errors import InputError

_CHUNK = 1 << 20


def describe_os_error(error: OSError, path: str | os.PathLike[str]) -> str:
    """Return one sentence about ``error`` on ``path``, with what to do about it."""
    name = os.fspath(path)
    if error.errno == errno.ENOSPC:
        return f"cannot write {name}: the disk is full; free some space and run again"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"cannot write {name}: permission denied; choose another output path"
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return f"cannot write {name}: the folder does not exist; create it first"
    return f"cannot write {name}: {error.strerror or error}"


def check_output(path: Path) -> None:
    """Refuse before the work, not after it, a file that could not be written.

    Raises:
        InputError: ``path`` is a folder, or in one that does not exist or cannot be written to.
    """
    if path.is_dir():
        raise InputError(f"cannot write {path}: it is a folder; give a file name")
    if not path.parent.is_dir():
        raise InputError(f"cannot write {path}: the folder does not exist; create it first")
    if not os.access(path.parent, os.W_OK):
        raise InputError(describe_os_error(PermissionError(errno.EACCES, ""), path))


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside ``path``; rename it to ``path`` if the block succeeds.

    If the block raises, the temporary file is removed and an older ``path`` stays as it was.
    The temporary name keeps the suffix, so that libraries which look at it still work.

    Raises:
        InputError: the folder cannot be written to, or the disk is full.
    """
    target = Path(path)
    try:
        handle, name = tempfile.mkstemp(
            prefix=f".{target.stem}.", suffix=target.suffix, dir=target.parent
        )
    except OSError as error:
        raise InputError(describe_os_error(error, target)) from error
    os.close(handle)
    temporary = Path(name)
    try:
        # mkstemp makes the file private; give it the permissions that open() would.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        yield temporary
        os.replace(temporary, target)
    except OSError as error:
        raise InputError(describe_os_error(error, target)) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_open(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Open ``path`` for writing bytes; the file appears only if the block succeeds.

    Raises:
        InputError: the folder cannot be written to, or the disk is full.
    """
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        yield stream
        stream.flush()
        os.fsync(stream.fileno())


def read_bounded(path: str | os.PathLike[str], limit: int) -> bytes:
    """Return what is in a file, without ever holding more than ``limit`` bytes of it.

    Raises:
        OSError: it cannot be read.
        ValueError: it has more bytes, or is a name that no file can have; says so in one clause.
    """
    with Path(path).open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        # One byte more than there should be. A pipe or device has no size, and may have no end.
        parts = [stream.read(size + 1)] if size <= limit else [bytes(0)]
        while parts[-1] and sum(map(len, parts)) <= limit:
            parts.append(stream.read(_CHUNK))
    if size > limit or sum(map(len, parts)) > limit:
        raise ValueError(f"it has more than the {limit} bytes that it may have")
    return parts[0] if len(parts) <= 2 else b"".join(parts)


def file_digest(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def user_cache_folder() -> Path:
    """Return the folder of this package among the user's caches; it need not be there."""
    # The XDG specification: a path that is not absolute is to be ignored.
    home = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (home if home.is_absolute() else Path("~/.cache").expanduser()) / "qsam2-deploy"
