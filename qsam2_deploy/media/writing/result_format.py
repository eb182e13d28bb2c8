"""Results in the forms that other tools read: a file of the folder ``formats`` is a form.

Its name is the name of an option, with ``-`` for ``_``, the first line of its docstring the help of
that option, and its class ``Writer`` a :class:`ResultWriter`; nothing else names it.
"""

from __future__ import annotations

import ast
import functools
import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

# The command imports this module for its help, which has to be there at once.
if TYPE_CHECKING:
    from ...tracking.results import FrameResult
    from ..protocols import Colours, RgbImage, Shown

_FOLDER = Path(__file__).with_name("formats")


@dataclass(frozen=True)
class About:
    """What the results are of.

    Attributes:
        height: of the frames, in pixels.
        width: of the frames, in pixels.
        header: source, model and the like, as JSON values.
        fps: frames per second, for frames without a time; None if there is no such thing.
        pixel_aspect: width of a pixel by its height, None for squares.
        colours: what the numbers of the source's pixels mean; None for BT.709.
        taken: files that a run reads or writes elsewhere.
    """

    height: int
    width: int
    header: Mapping[str, Any]
    fps: float | None = None
    pixel_aspect: Fraction | None = None
    colours: Colours | None = None
    taken: tuple[Path, ...] = ()


@dataclass(frozen=True)
class FrameRecord:
    """A processed frame.

    Attributes:
        index: its number in the source.
        image: uint8 RGB ``[height, width, 3]``, as it came from the source.
        result: what was found on it.
        shown: when the source shows it, None if unknown.
    """

    index: int
    image: RgbImage
    result: FrameResult
    shown: Shown | None = None


class ResultWriter(ABC):
    """Takes what was found on each frame, and writes a file or folder.

    Attributes:
        written: what a summary calls the result, if not ``path``: a pattern for several files.
    """

    written: Path | None = None

    @abstractmethod
    def __init__(self, path: Path, about: About) -> None:
        """Begin to write to ``path``.

        Raises:
            InputError: it cannot be written to.
        """

    @abstractmethod
    def write(self, record: FrameRecord) -> None:
        """Take a frame.

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
