"""Checks of settings, with one message for all of them."""

from __future__ import annotations

import math

from ..errors import InputError


def require_within(settings: object, low: float, high: float, *names: str) -> None:
    """Raise InputError unless each attribute is a number from ``low`` to ``high``."""
    for name in names:
        value = getattr(settings, name)
        if not low <= value <= high:
            limits = f"at least {low:g}" if math.isinf(high) else f"within {low:g} .. {high:g}"
            raise InputError(f"{name} must be {limits}, but is {value:g}")


def require_least(settings: object, least: int, *names: str) -> None:
    """Raise InputError unless each attribute is a whole number of at least ``least``."""
    for name in names:
        value = getattr(settings, name)
        if not isinstance(value, int) or value < least:
            raise InputError(f"{name} must be a whole number of at least {least}, but is {value}")
