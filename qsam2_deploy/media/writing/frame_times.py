"""When the frames of an overlay are shown, in whole units of time."""

from __future__ import annotations

from fractions import Fraction

# The MPEG-4 encoder, which stands in for H.264 where that is missing, can count to 65535.
_UNITS_PER_SECOND = 60_000

# Files that store milliseconds round the times of a constant rate, the first one's and this one's.
_ROUNDING = 0.0011


class FrameTimes:
    """Gives every frame its time; where sources tell none, that of a constant rate.

    Times that differ from the constant rate only by rounding are put where they belong, so that a
    video of a constant rate stays one. Times that do not grow are replaced: the video goes on at
    its rate, and later frames keep their distances.

    Attributes:
        time_base: one unit in seconds.
    """

    def __init__(self, rate: Fraction) -> None:
        """Begin a video of ``rate`` frames per second, where nothing else is known."""
        units = rate.numerator * max(1, _UNITS_PER_SECOND // rate.numerator)
        self.time_base = Fraction(1, units)
        self._per_frame = int(units / rate)  # exact: the numerator divides the units
        self._count = 0
        self._previous: int | None = None
        self._origin: float | None = None

    def place(self, time: float | None) -> int:
        """Return the next frame's time in units, 0 for the first.

        Args:
            time: when the source shows it, in seconds from any origin; None if unknown.
        """
        nominal = self._count * self._per_frame
        self._count += 1
        previous, place = self._previous, nominal
        if time is not None:
            if self._origin is None:
                self._origin = time - float(nominal * self.time_base)
            place = self._units(time - self._origin, nominal)
        if previous is not None and (time is None or place <= previous):
            place = previous + self._per_frame
            if time is not None:
                self._origin = time - float(place * self.time_base)
        self._previous = place
        return place

    def length(self, seconds: float | None) -> int:
        """Return how long a frame without a next one is shown, in units."""
        return max(1, self._units(seconds, self._per_frame)) if seconds else self._per_frame

    def _units(self, seconds: float, expected: int) -> int:
        near = abs(seconds - float(expected * self.time_base)) <= _ROUNDING
        return expected if near else round(seconds / self.time_base)
