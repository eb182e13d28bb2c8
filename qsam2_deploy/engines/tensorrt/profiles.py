"""Optimization profiles: for which sizes of the dynamic dimensions an engine is made.

The memory attention has two. While the memories and pointers fill up, and with several prompted
frames, ``warm_up`` takes any number of them; with one prompted frame and everything filled,
``steady`` has them fixed, so that its kernels know their sizes and a CUDA graph can hold them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...spec import MEMORY_ATTENTION, ModelSpec, TensorSpec
from .options import Limits

Range = tuple[int, int, int]
"""Smallest, usual and largest size."""

WARM_UP, STEADY, ONLY = "warm_up", "steady", "all"

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Profile:
    """One optimization profile of one component.

    Attributes:
        name: ``warm_up``, ``steady``, or ``all`` where there is only one.
        dimensions: the range of each dynamic dimension by its letter.
    """

    name: str
    dimensions: Mapping[str, Range]

    def shapes(self, tensor: TensorSpec) -> tuple[Shape, Shape, Shape] | None:
        """Return the smallest, usual and largest shape of an input; None if it is fixed."""
        if not any(isinstance(size, str) for size in tensor.shape):
            return None
        smallest, usual, largest = (
            tuple(self.dimensions[d][i] if isinstance(d, str) else d for d in tensor.shape)
            for i in range(3)
        )
        return smallest, usual, largest


def component_profiles(spec: ModelSpec, component: str, limits: Limits) -> tuple[Profile, ...]:
    """Return the profiles of one component, in the order in which the engine has them."""
    letters = {d for t in spec.component(component).inputs for d in t.shape if isinstance(d, str)}
    if not letters:
        return ()
    memories, pointers = spec.rules.num_maskmem, spec.rules.max_obj_ptrs_in_encoder
    usual = {
        "B": (1, 1, limits.objects),
        "F": (1, memories, limits.memories(spec.rules)),
        # Without a pointer in the past, as before the first prompted frame, there is none.
        "N": (0, pointers, limits.pointers(spec.rules)),
        "P": (1, 2, limits.points),
    }
    dimensions = {letter: usual[letter] for letter in sorted(letters)}
    if component != MEMORY_ATTENTION:
        return (Profile(ONLY, dimensions),)
    fixed: dict[str, Range] = {"F": (memories,) * 3, "N": (pointers,) * 3}
    return Profile(WARM_UP, dimensions), Profile(STEADY, {**dimensions, **fixed})
