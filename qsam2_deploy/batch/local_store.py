"""Results in a folder of this machine, or one that several machines share."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .._common.files import atomic_open, describe_os_error
from .._common.json import read_json
from ..errors import InputError, Qsam2Error
from .options import FINISHED
from .store import SUMMARY, foreign

_LOCK = ".qsam2-batch.lock"
_UNFINISHED = ".unfinished"
_NAME_MAX = 60


class LocalStore:
    """A folder of this machine, or one that several machines share; a :class:`~.store.Store`."""

    def __init__(self, root: Path) -> None:
        """Use ``root``; nothing is made."""
        self._root = root

    @contextmanager
    def open(self) -> Iterator[None]:
        """See the protocol; what killed processes left behind is removed."""
        try:
            self._root.mkdir(exist_ok=True)
            handle = os.open(self._root / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o666)
        except FileExistsError as error:
            raise InputError(f"cannot write to {self._root}: it is a file, no folder") from error
        except OSError as error:
            raise InputError(describe_os_error(error, self._root)) from error
        try:
            self._lock(handle)
            for left in self._root.glob(f".*{_UNFINISHED}"):
                shutil.rmtree(left, ignore_errors=True)
            yield
        finally:
            os.close(handle)

    def finished(self, name: str) -> dict[str, Any] | None:
        """See the protocol."""
        try:
            record = read_json(self._root / name / FINISHED)
        except (OSError, ValueError):
            return None
        return record if isinstance(record, dict) else None

    @contextmanager
    def writing(self, name: str, read: Iterable[Path] = ()) -> Iterator[Path]:
        """See the protocol."""
        target = self._root / name
        if target.exists() and not (target / FINISHED).exists() and not _is_empty(target):
            raise foreign(str(target))
        for path in read:
            if Path(os.path.realpath(path)).is_relative_to(os.path.realpath(target)):
                raise InputError(
                    f"{path} is an input, and lies in {target}, which would be replaced; choose "
                    'another folder, or another "name" for the video'
                )
        folder = self._temporary(name)
        try:
            yield folder
            self._replace(name, folder)
        except OSError as error:
            raise InputError(describe_os_error(error, target)) from error
        except Qsam2Error as error:
            # Nobody knows the temporary folder.
            error.args = (str(error).replace(str(folder), str(target)),)
            raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def write_summary(self, content: bytes) -> str:
        """See the protocol."""
        path = self._root / SUMMARY
        with atomic_open(path) as stream:
            stream.write(content)
        return str(path)

    def _lock(self, handle: int) -> None:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                f"another qsam2-batch writes to {self._root}; wait for it, or choose another folder"
            ) from error
        except OSError:  # the file system has no locks
            pass

    def _temporary(self, name: str) -> Path:
        prefix = f".{name[:_NAME_MAX]}."
        try:
            folder = Path(tempfile.mkdtemp(suffix=_UNFINISHED, prefix=prefix, dir=self._root))
            # mkdtemp makes the folder private; give it the permissions that mkdir() would.
            umask = os.umask(0)
            os.umask(umask)
            folder.chmod(0o777 & ~umask)
        except OSError as error:
            raise InputError(describe_os_error(error, self._root / name)) from error
        return folder

    def _replace(self, name: str, folder: Path) -> None:
        target = self._root / name
        if not target.exists() or _is_empty(target):
            folder.rename(target)
            return
        # A folder that is not empty cannot be replaced in one step.
        older = self._temporary(name)
        try:
            target.rename(older)
            folder.rename(target)
        finally:
            shutil.rmtree(older, ignore_errors=True)


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())
