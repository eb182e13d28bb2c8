"""What the double does where a result of the right type is not enough."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .library import TensorRTDouble

    Behaviour = Callable[[TensorRTDouble, Any, dict[str, Any]], Any]
    Reader = Callable[[TensorRTDouble, Any], Any]

METHODS: dict[str, Behaviour] = {}
"""By class and method; ``"*.method"`` is of every class. Arguments come by name."""

PROPERTIES: dict[str, Reader] = {}
"""By class and property, for those that are neither set nor plain."""


def method(*names: str) -> Callable[[Behaviour], Behaviour]:
    """Make a function what the methods ``names`` do."""

    def register(function: Behaviour) -> Behaviour:
        METHODS.update(dict.fromkeys(names, function))
        return function

    return register


def reads(*names: str) -> Callable[[Reader], Reader]:
    """Make a function what the properties ``names`` give."""

    def register(function: Reader) -> Reader:
        PROPERTIES.update(dict.fromkeys(names, function))
        return function

    return register
