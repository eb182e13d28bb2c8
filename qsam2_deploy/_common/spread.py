"""Taking a few of many things, evenly."""

from __future__ import annotations


def spread_indices(count: int, limit: int) -> list[int]:
    """Return at most ``limit`` increasing indices below ``count``, evenly spaced and centred."""
    taken = min(count, limit)
    return [(2 * i + 1) * count // (2 * taken) for i in range(taken)]
