"""What "equal up to rounding" means, and how it is measured.

Two programs that compute the same in another order differ in the last bits. How far apart their
masks are then is a property of the model and the story, so it is not chosen but measured: the
official predictor plays the same story with each of its weights moved to a neighbouring float32,
up or down at random (:func:`nudged`), and how far it is then from itself is the floor.

* With memories in float32 on both sides, the floor of the trained model is 1e-6 of the range of
  the logits (the worst of all scenarios 1.2e-6; ours against the official predictor 2.4e-6). There
  :data:`TIGHT` is asked for, over ten times that: nothing that a wrong rule does stays below it
  (``test_sensitivity.py``).
* As shipped, memories are in bfloat16, and a number on the edge between two of them falls on either
  side by its last float32 bit, which moves it by 1/256. Such floors were from 1e-6 to 2e-4, so
  there the bound is :data:`FACTOR` times what is measured in the same run, and never below
  :data:`TIGHT` (:func:`measured_bound`). Which numbers lie on an edge is chance, in ours as in the
  official predictor: where a first floor is exceeded, further ones are measured, up to
  :data:`NUDGES`, and the largest counts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from tests.parity.compare import Difference, compare
from tests.parity.session import Step

FACTOR = 4.0
"""How much farther apart than the floor two programs may be."""

NUDGES = 8
"""How often the floor is measured at most."""

MATTERS = 3.0
"""How many bounds a part must move the masks for a test to see it."""


@dataclass(frozen=True)
class Bound:
    """The largest difference that counts as equal.

    Attributes:
        logits: share of the range of the reference's logits.
        iou: smallest overlap of masks, but for a single pixel; see :meth:`Difference.within`.
    """

    logits: float
    iou: float

    def holds(self, difference: Difference) -> bool:
        """Whether records that differ so are equal up to rounding."""
        return difference.within(self.logits, self.iou)


TIGHT = Bound(3e-5, 0.9999)


def nudged(state: Mapping[str, torch.Tensor], seed: int = 0) -> dict[str, torch.Tensor]:
    """Return weights of which each is the next float32 above or below, at random."""
    rng = np.random.default_rng(seed)
    result = {}
    for name, tensor in state.items():
        values = tensor.detach().numpy()
        if values.dtype != np.float32:
            result[name] = tensor
            continue
        towards = np.where(rng.random(values.shape) < 0.5, np.float32(np.inf), np.float32(-np.inf))
        result[name] = torch.from_numpy(np.asarray(np.nextafter(values, towards)))
    return result


def measured_bound(reference: Sequence[Step], *moved: Sequence[Step]) -> Bound:
    """Return what counts as equal to ``reference``, from records of nudged weights."""
    floors = [compare(reference, record) for record in moved]
    return Bound(
        max(TIGHT.logits, *(FACTOR * floor.logits for floor in floors)),
        min(TIGHT.iou, *(1 - FACTOR * (1 - floor.iou) for floor in floors)),
    )
