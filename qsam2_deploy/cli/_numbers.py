"""Whole numbers on a command line, the same for all commands."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Callable


def whole_number(least: int) -> Callable[[str], int]:
    """Return a type for ``add_argument`` that takes whole numbers from ``least``."""

    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise ArgumentTypeError(f"expected a whole number from {least}, but got {text!r}")
        return int(text)

    return parse
