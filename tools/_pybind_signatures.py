"""Signatures out of the docstrings of pybind11, which has no other place for them.

A signature is a list ``[arguments, result]``; an argument is ``[name, type]``, or
``[name, type, default]`` where it may be left out. Types are names as the docstring has them,
without the module; an unknown type is "".
"""

from __future__ import annotations

import re
from typing import Any

Signature = list[Any]

_OVERLOAD = re.compile(r"^\d+\. (\w+\(.*)$", re.MULTILINE)
_QUALIFIER = re.compile(r"\b(?:[A-Za-z_]\w*\.)+(?=[A-Za-z_])")
_NAMESPACE = re.compile(r"\b(?:\w+::)+I?(?=[A-Z])")
_PLAIN_DEFAULT = re.compile(r"-?[\d.]+(?:e-?\d+)?|None|True|False|'\w*'")
_ENUM_DEFAULT = re.compile(r"<([\w.]+): -?\d+>")


def signatures(doc: str | None, known: frozenset[str], *, drop_self: bool) -> list[Signature]:
    """Return the signature of every overload in the docstring ``doc`` of a function.

    Args:
        doc: Docstring that pybind11 made, or none.
        known: Names of the classes of the module, nested ones with the name of their class.
        drop_self: The first argument is the object; leave it out.
    """
    if not doc:
        return []
    first = doc.strip().splitlines()[0]
    lines = _OVERLOAD.findall(doc) if "Overloaded function." in doc else [first]
    return [_signature(line, known, drop_self) for line in lines if "(" in line]


def _signature(line: str, known: frozenset[str], drop_self: bool) -> Signature:
    """Return the signature in ``name(arguments) -> result``."""
    start = line.index("(")
    end = _closing(line, start)
    arguments = [part for part in _split(line[start + 1 : end]) if part not in ("/", "*")]
    result = line[end + 1 :].strip().removeprefix("->").strip()
    kept = arguments[1:] if drop_self else arguments
    return [[_argument(part, known) for part in kept], type_name(result, known)]


def _closing(text: str, start: int) -> int:
    """Return the index of the parenthesis that closes the one at ``start``."""
    depth = 0
    for index in range(start, len(text)):
        depth += (text[index] in "([{") - (text[index] in ")]}")
        if depth == 0:
            return index
    raise ValueError(f"unbalanced parentheses: {text}")


def _split(text: str) -> list[str]:
    """Split ``text`` at the commas that are in no bracket."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]


def _argument(text: str, known: frozenset[str]) -> list[str]:
    """Return name, type and, if there is one, default of ``name: type = default``."""
    declaration, has_default, default = text.partition(" = ")
    name, _, kind = declaration.partition(":")
    argument = [name.strip(), type_name(kind.strip(), known)]
    return [*argument, _default(default, known)] if has_default else argument


def _default(text: str, known: frozenset[str]) -> str:
    """Return ``text`` where it is a plain value or a member of an enumeration, otherwise "..."."""
    if _PLAIN_DEFAULT.fullmatch(text):
        return text
    member = _ENUM_DEFAULT.fullmatch(text)
    return type_name(member[1], known) if member else "..."


def type_name(text: str, known: frozenset[str]) -> str:
    """Return ``text`` without module and C++ namespaces; nested classes keep their class."""
    bare = _NAMESPACE.sub(lambda match: match[0].rpartition("::")[2], text)
    for name in set(re.findall(r"\bI[A-Z]\w+", bare)) - known:
        # C++ interfaces that Python has under a name without the letter I
        if name[1:] in known:
            bare = re.sub(rf"\b{name}\b", name[1:], bare)
    return _QUALIFIER.sub(lambda match: _kept_qualifier(match[0], known), bare)


def _kept_qualifier(qualifier: str, known: frozenset[str]) -> str:
    """Return of ``module.Class.`` what names a class: ``Class.``."""
    parts = qualifier.rstrip(".").split(".")
    return "".join(f"{part}." for part in parts if part in known)
