"""Objects that have the names of the list and no others."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from .library import TensorRTDouble


def state(this: object) -> dict[Any, Any]:
    """Return what the double remembers of one object, beside the attributes that it shows."""
    return object.__getattribute__(this, "__dict__").setdefault("_state", {})


def _is_special(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


class StrictType(type):
    """The type of the classes: unknown class attributes raise, as do objects half made."""

    library: TensorRTDouble

    def __getattr__(cls, name: str) -> Any:
        if _is_special(name):
            raise AttributeError(name)
        raise cls.library.unknown(f"{cls.__qualname__}.{name}")

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        made = super().__call__(*args, **kwargs)
        if not state(made).get("constructed"):
            raise cls.library.bad_call(
                f"{cls.__qualname__}.__init__ has to call the __init__ of the class of the library"
            )
        return made


class Strict(metaclass=StrictType):
    """Base of the objects: unknown attributes can be neither read nor set.

    Classes that a user derives may have attributes of their own, as with the real bindings.
    """

    def __getattr__(self, name: str) -> Any:
        if _is_special(name):
            raise AttributeError(name)
        raise type(self).library.unknown(f"{type(self).__qualname__}.{name}")

    def __setattr__(self, name: str, value: Any) -> None:
        cls = type(self)
        is_users = cls not in cls.library.classes.values()
        if is_users or any(name in vars(base) for base in cls.__mro__):
            object.__setattr__(self, name, value)
        else:
            raise cls.library.unsettable(f"{cls.__qualname__}.{name}")

    def __repr__(self) -> str:
        return f"<double of {type(self).library.module.__name__}.{type(self).__qualname__}>"


class HostMemory(Strict, array):
    """Bytes that others can read through the buffer protocol, and nothing else.

    An array is the only mutable way to that protocol in Python 3.10; what else it can do is hidden.
    """

    def __new__(cls, data: bytes = b"") -> HostMemory:
        made: Any = array.__new__(cls, "B", data)
        return cast("HostMemory", made)

    def __getattribute__(self, name: str) -> Any:
        if not _is_special(name) and hasattr(array, name):
            return self.__getattr__(name)
        return super().__getattribute__(name)

    def _hidden(self, *_: object) -> Any:
        raise type(self).library.bad_call("IHostMemory has a buffer, but no length and no elements")

    __len__ = __getitem__ = __setitem__ = __iter__ = __contains__ = __add__ = _hidden
    __eq__ = object.__eq__
    __hash__ = object.__hash__
    __repr__ = Strict.__repr__
