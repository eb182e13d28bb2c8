"""Versions that belong into results."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from .version import __version__


def installed_versions(*packages: str) -> dict[str, str]:
    """Return the versions of this package, of Python, numpy, and further ``packages``."""
    found = {"qsam2-deploy": __version__, "python": platform.python_version()}
    return found | {package: _version(package) for package in ("numpy", *packages)}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
