"""How a file that cannot be used is told: one sentence, whatever is in the file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from ...errors import ModelFileError, Qsam2Error

_SHOWN = 100


def shown(text: object) -> str:
    """Return a name from a file so that it can stand in a message: on one line, and not long."""
    written = repr(text)
    return written if len(written) <= _SHOWN else f"{written[: _SHOWN - 4]}...{written[-1]}"


def refusal(origin: str | os.PathLike[str], what: str) -> ModelFileError:
    """Return the error about a file that qsam2-export cannot have written.

    Args:
        origin: the file.
        what: is wrong with it and what was expected.
    """
    return ModelFileError(
        f"{os.fspath(origin)} is no model of qsam2-export: {what}; export the checkpoint again"
    )


@contextmanager
def contradictions(origin: str | os.PathLike[str], what: str) -> Iterator[None]:
    """Turn what a file's contradictions make the block raise into one sentence.

    The gate cannot know all that a pass or an engine takes for granted. Behind it, an error of a
    kind that nobody raised on purpose means that the graph is none of ours.

    Args:
        origin: the file.
        what: then goes wrong, such as ``it cannot be compared with its metadata``.

    Raises:
        ModelFileError: the block raised something else than an error of this package.
    """
    try:
        yield
    except (Qsam2Error, MemoryError):
        raise
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ModelFileError(
            f"{os.fspath(origin)}: {what} ({shown(reason)[1:-1]}); export the checkpoint again, "
            "and report it if that does not help"
        ) from error
