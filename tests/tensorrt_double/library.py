"""A stand-in for the library that allows exactly what a frozen list of its API allows."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeVar

# the modules register what they implement
from . import builder, execution, parsing, values  # noqa: F401
from .api_list import ApiList, read_list
from .arguments import Signature, bind, fits
from .enums import make_enum
from .errors import ApiError, BadCallError, UnknownNameError
from .objects import HostMemory, Strict, StrictType, state
from .registry import METHODS, PROPERTIES
from .script import Script

Rejection = TypeVar("Rejection", bound=ApiError)


@dataclass(frozen=True)
class Call:
    """One call of a method or function, or one setting of a property, whose name ends in "="."""

    name: str
    arguments: dict[str, Any]
    receiver: Any


class _StrictModule(ModuleType):
    """A module whose unknown names raise."""

    def __init__(self, library: TensorRTDouble, name: str) -> None:
        super().__init__(name)
        self._library = library

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise self._library.unknown(name)


class TensorRTDouble:
    """The library of one version.

    ::

        double = fresh_double("tensorrt-10.3")
        build(double.module, ...)          # the code under test, in the place of the library
        assert "Builder.create_network" in double.names_called
        double.check()                     # no error was swallowed

    Attributes:
        module: The module to give to the code under test.
        script: What the double is to do.
        calls: All calls that were allowed, in order.
        rejections: All errors raised for what the list does not allow, also those that the code
            under test swallowed. Where it asks with hasattr, there is an UnknownNameError.
        messages: Severity and text of all messages to loggers.
    """

    def __init__(self, name: str, script: Script | None = None) -> None:
        self.api: ApiList = read_list(name)
        self.reset(script)
        self.classes: dict[str, type] = {}
        for qualname, entry in self.api.enums.items():
            self.classes[qualname] = make_enum(self, qualname, entry)
        for qualname in self.api.classes:
            self._add_class(qualname)
        self.module = self._module()

    def reset(self, script: Script | None = None) -> None:
        """Forget what was called, and begin with ``script``."""
        self.script = script or Script()
        self.calls: list[Call] = []
        self.rejections: list[ApiError] = []
        self.messages: list[tuple[str, str]] = []

    def check(self) -> None:
        """Raise the first bad call that the code under test swallowed.

        Names are not among them: the code may have asked whether the version has them.
        """
        for error in self.rejections:
            if isinstance(error, BadCallError):
                raise error

    @property
    def names_called(self) -> list[str]:
        """The names of the calls, in order."""
        return [call.name for call in self.calls]

    def called(self, name: str) -> list[dict[str, Any]]:
        """Return the arguments of all calls of ``name``."""
        return [call.arguments for call in self.calls if call.name == name]

    def unknown(self, name: str) -> UnknownNameError:
        """Return the error for a name that the list has not."""
        return self._rejected(UnknownNameError(f"{name} does not exist in {self.api.title}"))

    def unsettable(self, name: str) -> UnknownNameError:
        """Return the error for an attribute that cannot be set."""
        return self._rejected(UnknownNameError(f"{name} cannot be set in {self.api.title}"))

    def bad_call(self, message: str) -> BadCallError:
        """Return the error for a call that the list does not allow."""
        return self._rejected(BadCallError(f"{message} ({self.api.title})"))

    def _rejected(self, error: Rejection) -> Rejection:
        self.rejections.append(error)
        return error

    def make(self, qualname: str, **remembered: Any) -> Any:
        """Return an object of the class ``qualname`` as the library makes it."""
        kind: Any = self.classes[qualname]
        made = kind.__new__(kind)
        state(made).update(remembered, constructed=True)
        return made

    def host_memory(self, data: bytes) -> Any:
        """Return ``data`` as the library gives it."""
        kind: Any = self.classes["IHostMemory"]
        made = kind.__new__(kind, data)
        state(made).update(constructed=True, nbytes=len(data))
        return made

    def dims(self, shape: Sequence[int]) -> Any:
        """Return ``shape`` as the library gives it."""
        return self.make("Dims", shape=list(shape))

    def member(self, enum: str, name: str) -> Any:
        """Return a member of an enumeration."""
        return getattr(self.classes[enum], name)

    def log(self, logger: Any, severity: str, text: str) -> None:
        """Give a message to ``logger``, and remember it."""
        self.messages.append((severity, text))
        logger.log(self.member("ILogger.Severity", severity), text)

    def invoke(
        self,
        this: Any,
        name: str,
        signatures: Sequence[Signature],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> Any:
        """Check, record and perform one call of ``name``, on the object ``this`` if it has one."""
        arguments, result = self._bind(name, signatures, args, kwargs)
        self.calls.append(Call(name, arguments, this))
        if name in self.script.returns:
            return self._scripted(name, this, arguments)
        behaviour = METHODS.get(name) or METHODS.get(f"*.{name.rpartition('.')[2]}")
        if behaviour is not None:
            return behaviour(self, this, arguments)
        verb, _, what = name.rpartition(".")[2].partition("_")
        given = tuple(arguments.values())
        if verb == "set" and given:
            state(this)[(what, given[:-1])] = given[-1]
        if verb == "get" and all(map(_is_hashable, given)) and (what, given) in state(this):
            return state(this)[(what, given)]
        return self.default(result)

    def _bind(
        self,
        name: str,
        signatures: Sequence[Signature],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> tuple[dict[str, Any], str]:
        """Return the arguments by name and the type of the result of the overload that fits."""
        problems = []
        for signature in signatures:
            bound = bind(signature, args, kwargs, self.classes)
            if isinstance(bound, dict):
                return bound, signature[1]
            problems.append(bound)
        if not signatures:
            problems = ["cannot be called from Python"]
        raise self.bad_call(f"{name} {'; or '.join(dict.fromkeys(problems))}")

    def _scripted(self, name: str, this: Any, arguments: dict[str, Any]) -> Any:
        result = self.script.returns[name]
        return result(this, **arguments) if callable(result) else result

    def default(self, kind: str) -> Any:
        """Return a plausible value of the type ``kind``."""
        if kind in self.api.enums:
            return next(iter(self.classes[kind].__members__.values()))
        if kind in self.classes:
            return self.make(kind)
        if kind.startswith(("List[", "list", "Sequence[")):
            return []
        plain = {"int": 0, "float": 0.0, "bool": True, "str": "", "bytes": b"", "tuple": ()}
        return plain.get(kind)

    def read(self, this: Any, owner: str, name: str, kind: str, *, writable: bool) -> Any:
        """Return the property ``name`` of ``this``."""
        full = f"{owner}.{name}"
        if full in self.script.returns:
            return self._scripted(full, this, {})
        if full in PROPERTIES:
            return PROPERTIES[full](self, this)
        if name in state(this):
            return state(this)[name]
        # an object that could be set has not been: monitors, recorders, allocators
        is_object = kind in self.api.classes and kind != "Dims"
        return None if is_object and writable else self.default(kind)

    def write(self, this: Any, owner: str, name: str, kind: str | None, value: Any) -> None:
        """Set the property ``name`` of ``this``; its type is ``kind``, none if it cannot be."""
        full = f"{owner}.{name}"
        if kind is None:
            raise self.unsettable(full)
        if not fits(value, kind, self.classes):
            raise self.bad_call(f"{full} takes {kind}, but got {value!r}")
        self.calls.append(Call(f"{full}=", {"value": value}, this))
        as_dims = kind == "Dims" and not isinstance(value, self.classes["Dims"])
        state(this)[name] = self.dims(value) if as_dims else value

    def getter(self, owner: str, name: str, kind: str, *, writable: bool = False) -> Any:
        """Return a function that reads a property."""
        return lambda this: self.read(this, owner, name, kind, writable=writable)

    def _add_class(self, qualname: str) -> None:
        """Make the class ``qualname`` and before it its bases."""
        if qualname in self.classes:
            return
        entry = self.api.classes[qualname]
        for base in entry["bases"]:
            self._add_class(base)
        bases = tuple(self.classes[base] for base in entry["bases"])
        plain = HostMemory if qualname == "IHostMemory" else Strict
        body: dict[str, Any] = {"__qualname__": qualname, "library": self}
        body["__init__"] = self._constructor(qualname, entry["constructors"])
        for name, overloads in entry["methods"].items():
            body[name] = self._method(f"{qualname}.{name}", overloads)
        for name, overloads in entry["static"].items():
            body[name] = staticmethod(self._function(f"{qualname}.{name}", overloads))
        for name, (kind, settable) in entry["properties"].items():
            body[name] = self._property(qualname, name, kind, settable)
        for name, value in entry["constants"].items():
            body[name] = self._constant(value)
        self.classes[qualname] = StrictType(qualname.rpartition(".")[2], bases or (plain,), body)

    def _constructor(self, qualname: str, overloads: Sequence[Signature]) -> Any:
        def construct(this: Any, *args: Any, **kwargs: Any) -> None:
            self.invoke(this, f"{qualname}.__init__", overloads, args, kwargs)

        return construct

    def _method(self, name: str, overloads: Sequence[Signature]) -> Any:
        def call(this: Any, *args: Any, **kwargs: Any) -> Any:
            return self.invoke(this, name, overloads, args, kwargs)

        return call

    def _function(self, name: str, overloads: Sequence[Signature]) -> Callable[..., Any]:
        return lambda *args, **kwargs: self.invoke(None, name, overloads, args, kwargs)

    def _property(self, owner: str, name: str, kind: str, settable: str | None) -> property:
        return property(
            self.getter(owner, name, kind, writable=settable is not None),
            lambda this, value: self.write(this, owner, name, settable, value),
        )

    def _constant(self, value: Any) -> Any:
        """Return a constant of the list: a number, a class, or a member of an enumeration."""
        if not isinstance(value, str):
            return value
        if value in self.classes:
            return self.classes[value]
        enum, _, name = value.rpartition(".")
        return self.member(enum, name)

    def _module(self) -> ModuleType:
        name = "tensorrt_rtx" if "_rtx_" in self.api.distribution else "tensorrt"
        module = _StrictModule(self, name)
        module.__dict__["__version__"] = self.api.version
        for qualname, kind in self.classes.items():
            if "." not in qualname:
                module.__dict__[qualname] = kind
        for constant, value in self.api.constants.items():
            module.__dict__[constant] = self._constant(value)
        for function, overloads in self.api.functions.items():
            module.__dict__[function] = self._function(function, overloads)
        return module


_made = functools.cache(TensorRTDouble)


def fresh_double(name: str, script: Script | None = None) -> TensorRTDouble:
    """Return the double of a version as new; its hundreds of classes are made once a process.

    The same double comes again, so a test has just one of a version.
    """
    double = _made(name)
    double.reset(script)
    return double


def _is_hashable(value: object) -> bool:
    return getattr(type(value), "__hash__", None) is not None
