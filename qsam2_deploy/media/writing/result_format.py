"""Results in the forms that other tools read: a file of the folder ``formats`` is a form.

Its name is the name of an option, the first line of its docstring the option's help, and its class
``Writer`` a :class:`ResultWriter`; nothing else names it.
"""

from __future__ import annotations

import ast
import functools
import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ...tracking.results import FrameResult

_FOLDER = Path(__file__).with_name("formats")


@dataclass(frozen=True)
class About:
    """What the results are of.

    Attributes:
        height: of the frames, in pixels.
        width: of the frames, in pixels.
        header: source, model and the like, as JSON values.
    """

    height: int
    width: int
    header: Mapping[str, Any]


class ResultWriter(ABC):
    """Takes what was found on each frame, and writes a file or folder."""

    @abstractmethod
    def __init__(self, path: Path, about: About) -> None:
        """Begin to write to ``path``.

        Raises:
            InputError: it cannot be written to.
        """

    @abstractmethod
    def write(self, frame_index: int, result: FrameResult) -> None:
        """Take the objects of a frame.

        Raises:
            InputError: the disk is full, or the like.
        """

    @abstractmethod
    def close(self, *, complete: bool) -> None:
        """Finish the file with what was written; without frames, leave none.

        Args:
            complete: False if the run ended early.

        Raises:
            InputError: the disk is full, or the like.
        """


@functools.cache
def format_helps() -> dict[str, str]:
    """Return the help of each form by its name, without importing it."""
    helps = {}
    for found in pkgutil.iter_modules([str(_FOLDER)]):
        docstring = ast.get_docstring(ast.parse((_FOLDER / f"{found.name}.py").read_text())) or ""
        helps[found.name] = docstring.partition("\n")[0].rstrip(".")
    return helps


def open_format(name: str, path: Path, about: About) -> ResultWriter:
    """Begin to write results in a form of :func:`format_helps`.

    Raises:
        InputError: the path cannot be written to.
    """
    module = importlib.import_module(f"{__package__}.formats.{name}")
    writer: ResultWriter = module.Writer(path, about)
    return writer
