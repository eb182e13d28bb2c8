"""The public names of a pybind11 module, with signatures and without documentation.

Only the standard library is imported, for this runs in a bare interpreter beside stub libraries.
"""

from __future__ import annotations

import importlib
import inspect
import json
import sys
from types import FunctionType, ModuleType
from typing import Any

from tools._pybind_signatures import Signature, signatures, type_name

Listing = dict[str, Any]

_PROTOCOLS = frozenset({
    "__bool__", "__call__", "__contains__", "__enter__", "__eq__", "__exit__", "__getitem__",
    "__iter__", "__len__", "__next__", "__setitem__", "__str__",
})  # fmt: skip
"""The special methods that a user of a class calls without naming them."""

_OPERATORS = ("__and__", "__ge__", "__gt__", "__index__", "__int__", "__invert__", "__le__",
              "__lt__", "__or__", "__rand__", "__ror__", "__rxor__", "__xor__")  # fmt: skip
_LEFT_OVER = frozenset({"attr", "value"})
"""Variables of a loop in the ``__init__.py`` of the wheels."""


def listing(module: ModuleType) -> Listing:
    """Return the public names of ``module``: classes, enumerations, functions and constants.

    ``classes`` maps a name to its bases, constructors (none where Python cannot make one), methods
    and static methods with their overloads, properties with the type and whether they can be set,
    and constants. ``enums`` maps a name, nested ones with that of their class, to its members and
    operators. Constants that are members of an enumeration are their name, classes theirs.
    """
    classes = _classes(module)
    known = frozenset(classes)
    enums = {name: kind for name, kind in classes.items() if hasattr(kind, "__members__")}
    return {
        "classes": {
            name: _class(kind, known) for name, kind in classes.items() if name not in enums
        },
        "constants": {
            name: _constant(value, known)
            for name, value in _public(module)
            if type(value).__qualname__ in enums and name not in _LEFT_OVER
        },
        "enums": {name: _enum(kind, known) for name, kind in enums.items()},
        "functions": {
            name: _overloads(value, known, drop_self=False)
            for name, value in _public(module)
            if callable(value) and not isinstance(value, type)
        },
    }


def _public(holder: Any) -> list[tuple[str, Any]]:
    """Return the names and values of a module or class that do not begin with an underscore."""
    return [(name, value) for name, value in vars(holder).items() if not name.startswith("_")]


def _classes(module: ModuleType) -> dict[str, type]:
    """Return the public classes of ``module`` by qualified name, nested ones included."""
    outer = [value for _, value in _public(module) if isinstance(value, type)]
    nested = [value for kind in outer for _, value in _public(kind) if isinstance(value, type)]
    return {kind.__qualname__: kind for kind in [*outer, *nested]}


def _enum(kind: Any, known: frozenset[str]) -> Listing:
    members = {name: int(value) for name, value in kind.__members__.items()}
    extra = {
        name: _property(value, known)
        for name, value in _public(kind)
        if isinstance(value, property) and name not in ("name", "value")
    }
    operators = [name for name in _OPERATORS if name in vars(kind)]
    return {"members": members, "operators": operators, "properties": extra}


def _class(kind: type, known: frozenset[str]) -> Listing:
    result: Listing = {
        "bases": [base.__qualname__ for base in kind.__bases__ if base.__qualname__ in known],
        "constants": {}, "constructors": [], "methods": {}, "properties": {}, "static": {},
    }  # fmt: skip
    for name, value in vars(kind).items():
        if name == "__init__" and "self" in (value.__doc__ or ""):
            result["constructors"] = _constructors(value, known)
        elif not name.startswith("_") or name in _PROTOCOLS:
            _add_member(result, name, value, kind, known)
    return result


def _constructors(value: Any, known: frozenset[str]) -> list[Signature]:
    # A class that Python cannot make inherits an __init__ whose text has no signature.
    if "See help(type(self))" in value.__doc__:
        return []
    return _overloads(value, known, drop_self=True)


def _add_member(result: Listing, name: str, value: Any, kind: Any, known: frozenset[str]) -> None:
    """Sort one member of the class ``kind`` into ``result``."""
    if type(value).__name__ == "pybind11_static_property":
        result["constants"][name] = _constant(getattr(kind, name), known)
    elif isinstance(value, property):
        result["properties"][name] = _property(value, known)
    elif isinstance(value, staticmethod):
        result["static"][name] = _overloads(value.__func__, known, drop_self=False)
    elif callable(value) and not isinstance(value, type):
        result["methods"][name] = _overloads(value, known, drop_self=True)
    else:
        result["constants"][name] = _constant(value, known)


def _constant(value: Any, known: frozenset[str]) -> Any:
    """Return a number as it is, a member of an enumeration or a class by name."""
    if isinstance(value, type):
        return value.__qualname__
    if type(value).__qualname__ in known:
        return f"{type(value).__qualname__}.{value.name}"
    return value if isinstance(value, int) else ""


def _property(value: property, known: frozenset[str]) -> list[Any]:
    """Return the type of a property, "" if unknown, and the type that can be set, or none."""
    read = signatures(getattr(value.fget, "__doc__", None), known, drop_self=True)
    kind = read[0][1] if read else ""
    if value.fset is None:
        return [kind, None]
    write = signatures(value.fset.__doc__, known, drop_self=True)
    return [kind, write[0][0][0][1] if write and write[0][0] else ""]


def _overloads(value: Any, known: frozenset[str], *, drop_self: bool) -> list[Signature]:
    """Return the signatures of a function of pybind11 or of Python."""
    if not isinstance(value, FunctionType):
        return signatures(value.__doc__, known, drop_self=drop_self)
    parameters = list(inspect.signature(value).parameters.values())[drop_self:]
    return [[[[parameter.name, ""] for parameter in parameters], type_name("", known)]]


def main() -> None:
    """Print the listing of the module named by the first argument as JSON."""
    json.dump(listing(importlib.import_module(sys.argv[1])), sys.stdout)


if __name__ == "__main__":
    main()
