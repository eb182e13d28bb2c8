"""How far two records of the same scenario are apart."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tests.parity.session import Step

MAX_DIFFERENCE = 1e-3
"""Largest difference of logits that counts as equal where nothing is known of the model.

It is a share of the logits' range. The tests measure their bounds: ``tests/parity/floor.py``.
"""

MIN_IOU = 0.999
"""Smallest overlap of masks that counts as equal there."""


@dataclass(frozen=True)
class Difference:
    """The worst step of a scenario.

    Attributes:
        frames: results that were compared.
        logits: largest absolute difference over the range of the reference, per object.
        iou: smallest overlap of masks; 1 where both are empty.
        pixels: largest number of pixels in which two masks differ.
    """

    frames: int
    logits: float
    iou: float
    pixels: int

    @property
    def equal(self) -> bool:
        """Whether the records of any model and video count as equal."""
        return self.within(MAX_DIFFERENCE, MIN_IOU)

    def within(self, logits: float, iou: float) -> bool:
        """Whether the records are that close.

        A single pixel whose logit is almost 0 may fall on either side, which in a small mask is
        more than the overlap allows.
        """
        return self.logits <= logits and (self.iou >= iou or self.pixels <= 1)


def compare(reference: Sequence[Step], ours: Sequence[Step]) -> Difference:
    """Compare two records; their steps must be the same but for the logits.

    Raises:
        AssertionError: steps, frames, objects or shapes differ, or numbers are not finite.
    """
    assert _outline(ours) == _outline(reference)
    assert reference, "an empty record compares equal to anything"
    worst = [0.0, 1.0, 0]
    for expected, got in zip(reference, ours, strict=True):
        assert np.isfinite(got.logits).all(), f"not finite: {expected.label} {expected.frame}"
        for a, b in zip(expected.logits, got.logits, strict=True):
            worst[0] = max(worst[0], relative_difference(a, b))
            worst[1] = min(worst[1], mask_iou(a > 0, b > 0))
            worst[2] = max(worst[2], int(((a > 0) != (b > 0)).sum()))
    return Difference(len(reference), worst[0], worst[1], int(worst[2]))


def relative_difference(reference: npt.NDArray[np.float32], ours: npt.NDArray[np.float32]) -> float:
    """Return max |ours - reference| over the reference's range (at least 1)."""
    spread = max(1.0, float(reference.max() - reference.min()))
    return float(np.abs(ours - reference).max()) / spread


def mask_iou(a: npt.NDArray[np.bool_], b: npt.NDArray[np.bool_]) -> float:
    """Return intersection over union; 1 if both are empty."""
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 1.0


def _outline(steps: Sequence[Step]) -> list[tuple[str, int, tuple[int, ...], tuple[int, ...]]]:
    return [(s.label, s.frame, s.object_ids, s.logits.shape) for s in steps]
