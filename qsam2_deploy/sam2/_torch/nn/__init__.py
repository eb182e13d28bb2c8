"""``torch.nn``: names for annotations, and one function."""

from __future__ import annotations

from . import functional


class Module:
    """A class to inherit from."""


__all__ = ["Module", "functional"]
