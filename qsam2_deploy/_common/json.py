"""JSON that somebody else wrote: bounded in size and depth, and nothing but what text can hold."""

from __future__ import annotations

import json
import os
from typing import Any

from .files import read_bounded

MAX_BYTES = 64 << 20
"""Bytes of a file; what is made of them takes some ten times as much."""

MAX_DEPTH = 64
"""Lists and objects within each other."""


def loads_bounded(text: str | bytes | memoryview, limit: int = MAX_BYTES) -> Any:
    """Return the content of a JSON text.

    Args:
        text: in UTF-8, if it is bytes.
        limit: its most letters or bytes.

    Raises:
        ValueError: it is too long, no JSON, nested too deeply, or holds what is no UTF-8; says so
            in one clause.
    """
    if len(text) > limit:
        raise ValueError(f"it has more than {limit} letters")
    # Editors of Windows begin a file with a mark of its encoding.
    text = text if isinstance(text, str) else str(text, "utf-8-sig")
    try:
        content = json.loads(text)
    except RecursionError as error:
        raise _too_deep() from error
    _check(content)
    return content


def read_json(path: str | os.PathLike[str], limit: int = MAX_BYTES) -> Any:
    """Return the content of a JSON file.

    Raises:
        OSError: it cannot be read.
        ValueError: as `loads_bounded`.
    """
    return loads_bounded(read_bounded(path, limit), limit)


def _check(content: Any) -> None:
    """Check depth and texts, one level after the other."""
    level = [content]
    for _ in range(MAX_DEPTH + 2):  # the innermost values and what is in them, nothing, too
        if not level:
            return
        inner: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                inner += value.keys()
                inner += value.values()
            elif isinstance(value, list):
                inner += value
            elif isinstance(value, str):
                _check_text(value)
        level = inner
    raise _too_deep()


def _check_text(text: str) -> None:
    # Half a surrogate pair can be written in JSON, but neither printed nor used as a name.
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"it has the text {text[:20]!r}, which is no UTF-8") from error


def _too_deep() -> ValueError:
    return ValueError(f"it is nested more than {MAX_DEPTH} deep")
