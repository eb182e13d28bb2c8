"""A file that is written over a while and appears only when it is complete."""

from __future__ import annotations

from pathlib import Path

from ..._common.files import atomic_path, describe_os_error
from ...errors import InputError


class PendingFile:
    """A temporary file beside its final name, from the start on.

    Making it at the start tells at once, and not after a long run, that a folder cannot be
    written to.
    """

    def __init__(self, path: Path) -> None:
        """Create the temporary file.

        Raises:
            InputError: the folder is absent or cannot be written to, or ``path`` is a folder.
        """
        if path.is_dir():
            raise InputError(f"cannot write {path}: it is a folder; give the name of a file")
        self.target = path
        self._context = atomic_path(path)
        self.temporary = self._context.__enter__()

    def write_text(self, text: str) -> None:
        """Write the whole file and give it its final name.

        Raises:
            InputError: the disk is full, or the like; the temporary file is gone then.
        """
        try:
            self.temporary.write_text(text, encoding="utf-8")
        except OSError as error:
            self.discard()
            raise InputError(describe_os_error(error, self.target)) from error
        self.commit()

    def commit(self) -> None:
        """Give the file its final name, replacing an older one.

        Raises:
            InputError: the system refuses.
        """
        self._context.__exit__(None, None, None)

    def discard(self) -> None:
        """Remove the temporary file; an older file of the final name stays as it was."""
        error = GeneratorExit()  # any exception makes the context clean up
        self._context.__exit__(type(error), error, None)
