"""Whether a value fits a type of the list, and whether arguments fit a signature."""

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Signature = list[Any]
Classes = Mapping[str, type]


def _is_integer(value: object) -> bool:
    # as pybind11: no float, but whatever has an index or can be made an integer
    if isinstance(value, float | str | bytes):
        return False
    return hasattr(value, "__index__") or hasattr(value, "__int__")


def _is_float(value: object) -> bool:
    if isinstance(value, str | bytes):
        return False
    return hasattr(value, "__float__") or _is_integer(value)


def _is_bool(value: object) -> bool:
    return value is None or type(value).__name__ in ("bool", "bool_")


def _is_buffer(value: object) -> bool:
    try:
        memoryview(value)
    except TypeError:
        return False
    return True


def _is_sequence(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


_CHECKS: dict[str, Callable[[object], bool]] = {
    "int": _is_integer, "SupportsInt": _is_integer,
    "float": _is_float, "SupportsFloat": _is_float,
    "bool": _is_bool,
    "str": lambda value: isinstance(value, str | bytes),
    "bytes": lambda value: isinstance(value, bytes),
    "buffer": _is_buffer, "Buffer": _is_buffer,
    "tuple": lambda value: isinstance(value, tuple),
    "list": lambda value: isinstance(value, list),
    "slice": lambda value: isinstance(value, slice),
    "function": callable, "Callable": callable,
}  # fmt: skip
_CONVERTED = ("Dims", "Permutation", "Weights")
"""Classes that are also made from a tuple or list of numbers, or from an array."""


def fits(value: object, kind: str, classes: Classes) -> bool:
    """Return whether a parameter of the type ``kind`` takes ``value``; unknown types take all."""
    if kind in classes:
        expected = classes[kind]
        if isinstance(value, expected):
            return True
        if any(issubclass(expected, classes[name]) for name in _CONVERTED if name in classes):
            return _is_numbers(value)
        return value is None and not hasattr(expected, "__members__")
    check = _CHECKS.get(kind)
    if check is not None:
        return check(value)
    return not kind.startswith(("List[", "Sequence[")) or _is_sequence(value)


def _is_numbers(value: object) -> bool:
    if _is_sequence(value):
        return all(_is_integer(element) for element in value)
    return hasattr(value, "__array__")


def bind(
    signature: Signature, args: Sequence[Any], kwargs: Mapping[str, Any], classes: Classes
) -> dict[str, Any] | str:
    """Return the arguments by name, without those left out, or what is wrong with them."""
    parameters = signature[0]
    names = [parameter[0] for parameter in parameters]
    if len(args) > len(names):
        return f"takes {len(names)} positional arguments, but got {len(args)}"
    bound = dict(zip(names, args, strict=False))
    for name, value in kwargs.items():
        if name not in names:
            return f"has no argument {name!r}; its arguments are ({', '.join(names)})"
        if name in bound:
            return f"got two values for {name!r}"
        bound[name] = value
    for name, kind, *default in parameters:
        if name not in bound and not default:
            return f"needs the argument {name!r}"
        is_none = bool(default) and bound.get(name) is None
        if not is_none and not fits(bound[name], kind, classes):
            return f"takes {kind} as {name!r}, but got {bound[name]!r}"
    return bound


def described(value: Any) -> int:
    """Return a number given as an argument of the type int as a Python integer."""
    return operator.index(value) if hasattr(value, "__index__") else int(value)
