"""A folder of results, which goes again if nothing was written into it."""

from __future__ import annotations

from pathlib import Path

from ..._common.files import describe_os_error
from ...errors import InputError
from .overwriting import check_free


class OutputFolder:
    """Makes a folder and, inside it, others; the files in them are written by somebody else.

    Files of an earlier run under the same names are replaced; others stay.
    """

    def __init__(self, path: Path, what: str, taken: tuple[Path, ...] = ()) -> None:
        """Make ``path`` if only its last part is missing.

        Args:
            path: the folder.
            what: what comes into it, for messages.
            taken: files and folders of the run's inputs and other outputs.

        Raises:
            InputError: it cannot be made.
        """
        self.path = path
        self._what, self._taken = what, taken
        self._made: list[Path] = []
        self._make(path)

    def inner(self, name: str) -> Path:
        """Return the folder ``name`` inside, which is made if it is missing.

        Raises:
            InputError: it cannot be made, or is taken.
        """
        path = self.path / name
        check_free(path, self._taken)
        if not path.is_dir():
            self._make(path)
        return path

    def file(self, name: str) -> Path:
        """Return the path of a file in this folder or an inner one.

        Raises:
            InputError: it is taken.
        """
        path = self.path / name
        check_free(path, self._taken)
        return path

    def close(self) -> None:
        """Remove those folders again that were made for nothing."""
        for path in reversed(self._made):
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()

    def _make(self, path: Path) -> None:
        missing = not path.exists()
        try:
            path.mkdir(exist_ok=True)
        except FileExistsError as error:
            raise InputError(
                f"cannot write {self._what} to {path}: it is a file, no folder"
            ) from error
        except OSError as error:
            raise InputError(describe_os_error(error, path)) from error
        if missing:
            self._made.append(path)
