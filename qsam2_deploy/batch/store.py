"""Where results go: a folder for each video, which appears when it is whole."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from ..errors import InputError

SUMMARY = "summary.csv"


class Store(Protocol):
    """A place for the results of many videos."""

    def open(self) -> AbstractContextManager[None]:
        """Make the place, and keep other batches out of it where that is possible.

        Raises:
            InputError: it cannot be written to, or another batch writes to it.
        """

    def finished(self, name: str) -> dict[str, Any] | None:
        """Return what was written last of a video's results; None if they are not there."""

    def writing(self, name: str, read: Iterable[Path] = ()) -> AbstractContextManager[Path]:
        """Give an empty local folder; what is in it after the block becomes the results.

        If the block raises, results of an earlier run stay as they were.

        Args:
            name: of the results.
            read: files and folders that they are made of.

        Raises:
            InputError: they cannot be written, or would replace what is none of ours, or what is
                read.
        """

    def write_summary(self, content: bytes) -> str:
        """Write the table of all videos; return where it is.

        Raises:
            InputError: it cannot be written.
        """


def foreign(place: str) -> InputError:
    """Return that something is in the place of results that is none of ours."""
    return InputError(
        f"{place} is there already and holds no results of qsam2-batch; choose another "
        'folder, or another "name" for the video'
    )
