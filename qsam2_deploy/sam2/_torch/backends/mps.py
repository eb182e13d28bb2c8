"""``torch.backends.mps`` of a machine without it."""

from __future__ import annotations


def is_available() -> bool:
    """Return no."""
    return False
