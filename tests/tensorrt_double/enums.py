"""Enumerations that have the members of the list and no others."""

from __future__ import annotations

import operator
from collections.abc import Callable
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .library import TensorRTDouble


class EnumType(type):
    """The type of the enumerations: unknown members raise."""

    library: TensorRTDouble
    __members__: MappingProxyType[str, Any]

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise cls.library.unknown(f"{cls.__qualname__}.{name}")

    def __call__(cls, value: int) -> Any:
        for member in cls.__members__.values():
            if member.value == operator.index(value):
                return member
        raise cls.library.bad_call(f"{cls.__qualname__} has no member of the value {value}")


class EnumMember(metaclass=EnumType):
    """Base of the members: equal to themselves only, and numbers only when asked."""

    name: str
    value: int

    def __getattr__(self, name: str) -> Any:
        return EnumType.__getattr__(type(self), name)

    def __setattr__(self, name: str, value: object) -> None:
        raise type(self).library.unsettable(f"{type(self).__qualname__}.{name}")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.value == other.value

    def __hash__(self) -> int:
        return hash(self.value)

    def __repr__(self) -> str:
        return f"<{self}: {self.value}>"

    def __str__(self) -> str:
        return f"{type(self).__name__}.{self.name}"


def _number(this: EnumMember) -> int:
    return this.value


def _comparison(compare: Callable[[int, int], bool]) -> Callable[[EnumMember, Any], bool]:
    def method(this: EnumMember, other: Any) -> bool:
        if type(this) is not type(other):
            # TypeError as from pybind11, but one that the double counts
            raise type(this).library.bad_call(f"{this} cannot be compared with {other!r}")
        return compare(this.value, other.value)

    return method


_OPERATORS: dict[str, Callable[..., Any]] = {
    "__int__": _number,
    "__index__": _number,
    **{
        name: _comparison(getattr(operator, name))
        for name in ("__lt__", "__le__", "__gt__", "__ge__")
    },
}


def make_enum(library: TensorRTDouble, qualname: str, entry: dict[str, Any]) -> EnumType:
    """Return the enumeration of one entry of the list."""
    name = qualname.rpartition(".")[2]
    methods = {operator_name: _OPERATORS[operator_name] for operator_name in entry["operators"]}
    extra = {
        attribute: property(library.getter(qualname, attribute, kind[0]))
        for attribute, kind in entry["properties"].items()
    }
    kind = EnumType(
        name,
        (EnumMember,),
        {"__qualname__": qualname, "__slots__": ("name", "value"), **methods, **extra},
    )
    kind.library = library
    members = {}
    for member_name, value in sorted(entry["members"].items(), key=lambda item: item[1]):
        member: Any = kind.__new__(kind)
        object.__setattr__(member, "name", member_name)
        object.__setattr__(member, "value", value)
        members[member_name] = member
        type.__setattr__(kind, member_name, member)
    kind.__members__ = MappingProxyType(members)
    return kind
