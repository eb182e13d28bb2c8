"""Finding the installed engine library: TensorRT or TensorRT-RTX."""

from __future__ import annotations

import importlib
import platform
import re
from dataclasses import dataclass
from typing import Any

from ...errors import EngineError, InputError, MissingDependencyError

TENSORRT, TENSORRT_RTX = "tensorrt", "tensorrt-rtx"
BUILDERS = (TENSORRT, TENSORRT_RTX)

_MODULES = {TENSORRT: ("tensorrt",), TENSORRT_RTX: ("tensorrt_rtx", "tensorrt_rtx_bindings")}
_TITLES = {TENSORRT: "TensorRT", TENSORRT_RTX: "TensorRT-RTX"}
_OLDEST = {TENSORRT: (10, 3), TENSORRT_RTX: (1, 7)}
_NEWEST_MAJOR = {TENSORRT: 11, TENSORRT_RTX: 1}

_ON_JETSON = (
    "on a Jetson TensorRT comes with JetPack, run: sudo apt install python3-libnvinfer-dev "
    "(a virtual environment sees it with --system-site-packages); on another machine run: "
    "pip install 'qsam2-deploy[tensorrt]'"
)


@dataclass(frozen=True)
class Library:
    """An engine library that can be used.

    Attributes:
        name: ``tensorrt`` or ``tensorrt-rtx``.
        version: such as ``10.3.0``.
        module: the Python module, or what stands for it in tests.
    """

    name: str
    version: str
    module: Any

    @property
    def title(self) -> str:
        """What messages call it, with its version."""
        return f"{_TITLES[self.name]} {self.version}"


def find_library(name: str | None = None) -> Library:
    """Import an engine library.

    Args:
        name: of :data:`BUILDERS`; default: the first of them that is installed.

    Raises:
        InputError: there is no library of this name.
        MissingDependencyError: it is not installed; says what brings it.
        EngineError: it is there and cannot be loaded, or is of a version that is not supported.
    """
    if name is not None and name not in BUILDERS:
        raise InputError(f"the builder is {' or '.join(BUILDERS)}, but got {name!r}")
    for candidate in BUILDERS if name is None else (name,):
        module = _import(candidate)
        if module is not None:
            return library_from_module(candidate, module)
    raise _missing(name)


def library_from_module(name: str, module: Any) -> Library:
    """Return the library whose module is already imported.

    Raises:
        EngineError: its version is not supported.
    """
    version = str(module.__version__)
    found = version_numbers(version)
    if found[:2] < _OLDEST[name] or found[0] > _NEWEST_MAJOR[name]:
        oldest = ".".join(map(str, _OLDEST[name]))
        raise EngineError(
            f"{_TITLES[name]} {version} is not supported: expected {oldest} up to "
            f"{_NEWEST_MAJOR[name]}.x; install one of these"
        )
    return Library(name, version, module)


def version_numbers(version: str) -> tuple[int, ...]:
    """Return the numbers of a version: ``10.3.0.30`` is ``(10, 3, 0, 30)``."""
    return tuple(int(number) for number in re.findall(r"\d+", version))


def _import(name: str) -> Any:
    found = (module for path in _MODULES[name] if (module := _import_module(name, path)))
    return next(found, None)


def _import_module(name: str, path: str) -> Any:
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name != path:
            raise _unloadable(name, error) from error
    # Shared libraries that are missing or do not fit the driver.
    except (ImportError, OSError, RuntimeError) as error:
        raise _unloadable(name, error) from error
    return None


def _unloadable(name: str, error: Exception) -> EngineError:
    return EngineError(f"{_TITLES[name]} is installed but cannot be loaded: {error}")


def _missing(name: str | None) -> MissingDependencyError:
    wanted = name or TENSORRT
    if wanted == TENSORRT and platform.machine() == "aarch64":
        hint = _ON_JETSON
    elif name is None:
        hint = (
            f"run: pip install 'qsam2-deploy[{TENSORRT}]', or for GeForce and RTX cards, and to "
            f"build without a GPU: pip install 'qsam2-deploy[{TENSORRT_RTX}]'"
        )
    else:
        hint = None
    package = _MODULES[wanted][0]
    return MissingDependencyError(package, wanted, "building an engine", hint=hint)
