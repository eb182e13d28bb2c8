"""YAML files that a user wrote: one wording for all that can be wrong with them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import InputError, MissingDependencyError, Qsam2Error
from .contradictions import shown
from .files import read_bounded
from .requirements import check_imported
from .yaml_bounds import MAX_BYTES, check_yaml


def read_yaml(path: str | os.PathLike[str], what: str) -> Any:
    """Return the content of a YAML file: plain values only.

    Args:
        path: the file.
        what: what it is, for messages, such as ``recipe``.

    Raises:
        InputError: the file cannot be read, or is no YAML.
        MissingDependencyError: PyYAML is not installed.
    """
    with yaml_errors(path, what):
        import yaml

        return yaml.safe_load(read_yaml_text(path))


def read_yaml_text(path: str | os.PathLike[str]) -> str:
    """Return a YAML text that stands for no more than a bounded number of values.

    Call it within :func:`yaml_errors`.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is too large, nested too deeply, or no text; or YAML's own error.
    """
    text = str(read_bounded(path, MAX_BYTES), "utf-8")
    check_yaml(text)
    return text


@contextmanager
def yaml_errors(
    path: str | os.PathLike[str], what: str, *, raises: type[InputError] = InputError
) -> Iterator[None]:
    """Turn what goes wrong while the block reads a YAML file, ``what``, into one sentence.

    Raises:
        InputError: of the class ``raises``.
        MissingDependencyError: PyYAML is not installed.
    """
    try:
        import yaml
    except ModuleNotFoundError as error:
        raise MissingDependencyError("pyyaml", "train", f"reading the {what}") from error
    check_imported(yaml, "pyyaml", "train", f"reading the {what}")
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise raises(f"cannot read the {what} {path}: {reason}; check the path") from error
    except Qsam2Error:
        raise
    # Building the values raises errors of many kinds: a date that is none, a key that is a list.
    except Exception as error:
        raise raises(f"the {what} {path} is not valid YAML: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """What is wrong, in few words; YAML's own message goes on for lines."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if mark is not None and problem is not None:
        return f"line {mark.line + 1}: {shown(problem)[1:-1]}"
    if isinstance(error, UnicodeError) or hasattr(error, "encoding"):  # YAML's own for characters
        return "it is not a text file"
    return shown(str(error).strip().partition("\n")[0])[1:-1]
