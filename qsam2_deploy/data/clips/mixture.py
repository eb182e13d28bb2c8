"""Several clip sources as one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...errors import InputError
from ..sample import Clip, ClipSource

_CHOICE = 7  # keeps this choice apart from what the sources draw from the same seed


class Mixture:
    """A ``ClipSource`` that draws each clip from one of several sources, by weight."""

    def __init__(self, parts: Sequence[tuple[ClipSource, float]], seed: int = 0) -> None:
        """Take sources with their weights, which need not add up to 1.

        Raises:
            InputError: there is no source, or a weight is negative, or all are 0.
        """
        if not parts:
            raise InputError("a mixture needs at least one source")
        weights = np.array([weight for _, weight in parts], np.float64)
        if not np.isfinite(weights).all() or weights.min() < 0 or weights.sum() == 0:
            raise InputError(
                "weights must be finite, at least 0 and not all 0, "
                f"but are {[float(w) for w in weights]}"
            )
        self._sources = tuple(source for source, _ in parts)
        self._bounds = np.cumsum(weights / weights.sum())
        self._seed = seed

    def source(self, index: int) -> ClipSource:
        """Return the source of clip ``index``."""
        draw = np.random.default_rng((self._seed, _CHOICE, index)).random()
        place = int(np.searchsorted(self._bounds, draw, side="right"))
        return self._sources[min(place, len(self._sources) - 1)]

    def clip(self, index: int, *, frames: int, size: int) -> Clip:
        """Return clip ``index`` of its source: ``frames`` frames of ``size`` x ``size`` pixels."""
        return self.source(index).clip(index, frames=frames, size=size)
