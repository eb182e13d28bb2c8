"""Writing files so that nobody ever sees half of one.

A file is written under a hidden name beside its own, and renamed. A process that is killed leaves
such a file behind, so its name holds the number of the process, which keeps it locked: the next one
that writes into the folder removes those that nobody writes any more.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ..errors import InputError

_CHUNK = 1 << 20
_STEM_MAX = 60
_TEMPORARY = re.compile(r"\..*\.(?P<process>[0-9]+)-[a-z0-9_]+\.unfinished(\.[^.]*)?", re.DOTALL)

_in_use: set[str] = set()
"""Names of the temporary files that this process writes."""

_cleared: set[Path] = set()
"""Folders in which this process has looked for what others left behind."""


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


def write_json(path: str | os.PathLike[str], data: object) -> None:
    """Write what ``json`` can write, whole or not at all.

    Raises:
        InputError: as :func:`atomic_path`.
    """
    with atomic_open(path) as stream:
        stream.write(json.dumps(data, indent=1).encode() + b"\n")


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
        _remove_abandoned(target.parent)
        handle, temporary = _make_temporary(target)
    except OSError as error:
        raise InputError(describe_os_error(error, target)) from error
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
        os.close(handle)
        _in_use.discard(temporary.name)


def _make_temporary(target: Path) -> tuple[int, Path]:
    """Make a file beside ``target``; return its descriptor, which keeps it locked, and its path."""
    prefix = f".{target.stem[:_STEM_MAX]}.{os.getpid()}-"
    handle, name = tempfile.mkstemp(
        prefix=prefix, suffix=f".unfinished{target.suffix}", dir=target.parent
    )
    _in_use.add(Path(name).name)
    _lock(handle)
    return handle, Path(name)


def _lock(handle: int) -> bool:
    """Lock a file until it is closed, or its process ends; return False if another one has it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # or the file system has no locks
        return False
    return True


def _remove_abandoned(folder: Path) -> None:
    """Remove the temporary files of processes that were killed, once for each folder."""
    whole = folder.absolute()
    if whole in _cleared:
        return
    _cleared.add(whole)
    try:
        names = [name for name in os.listdir(whole) if _TEMPORARY.fullmatch(name)]
    except OSError:  # what is wrong with the folder is told where the file is made
        return
    for name in names:
        if not _is_written(name):
            _remove_unlocked(whole / name)


def _is_written(name: str) -> bool:
    """Return whether the process that a temporary name tells of is alive; it may be this one."""
    found = _TEMPORARY.fullmatch(name)
    assert found is not None
    process = int(found["process"])
    # In a container each run may have the same number, so one's own is no proof.
    if process == os.getpid():
        return name in _in_use
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _remove_unlocked(path: Path) -> None:
    """Remove a file unless somebody has locked it, perhaps in a container with other numbers."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # it is gone, or was never ours
        return
    try:
        if _lock(handle):
            path.unlink(missing_ok=True)
    except OSError:  # of somebody else: nothing that keeps us from writing
        pass
    finally:
        os.close(handle)


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
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if given.is_absolute():
        return given / "qsam2-deploy"
    try:
        return Path("~/.cache").expanduser() / "qsam2-deploy"
    except RuntimeError:  # a user without a home, as in a container; trust.py sees whose it is
        return Path(tempfile.gettempdir()) / f"qsam2-deploy-{os.getuid()}"
