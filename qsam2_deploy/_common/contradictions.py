"""What a file's contradictions lead to becomes one sentence, whatever is in the file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import InputError, ModelFileError, Qsam2Error

_SHOWN, _SHOWN_REASON = 100, 300


def one_line(text: object) -> str:
    """Return what a library says, which may be several lines, on one."""
    return " ".join(str(text).split())


def shown(text: object, limit: int = _SHOWN) -> str:
    """Return a name from a file so that it can stand in a message: on one line, and not long."""
    written = one_line(repr(text))  # arrays and tensors are written on several lines
    return written if len(written) <= limit else f"{written[: limit - 4]}...{written[-1]}"


def reason_of(error: BaseException) -> str:
    """Return kind and text of an error on one line, and not long."""
    return shown(one_line(f"{type(error).__name__}: {error}"), _SHOWN_REASON)[1:-1]


@contextmanager
def contradictions(
    origin: str | os.PathLike[str],
    what: str,
    *,
    raises: type[InputError] = ModelFileError,
    advice: str = "export the checkpoint again",
) -> Iterator[None]:
    """Turn what a file's contradictions make the block raise into one sentence.

    No check can know all that the code behind it takes for granted. An error of a kind that nobody
    raised on purpose means there that the file is none of ours.

    Args:
        origin: the file.
        what: then goes wrong, such as ``it cannot be compared with its metadata``.
        raises: the class of the error.
        advice: what to do about it.

    Raises:
        InputError: of the class ``raises``; the block raised something else than an error of this
            package.
    """
    try:
        yield
    except Qsam2Error:
        raise
    except MemoryError as error:
        raise raises(
            f"{os.fspath(origin)}: {what}, because that takes more memory than there is; free "
            "some, or use a smaller model"
        ) from error
    except Exception as error:
        raise raises(
            f"{os.fspath(origin)}: {what} ({reason_of(error)}); {advice}, and report it if that "
            "does not help"
        ) from error
