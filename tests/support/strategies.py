"""Hypothesis strategies for what the runtime is made of."""

import numpy as np
from hypothesis import strategies as st

from qsam2_deploy.spec import TrackingRules
from qsam2_deploy.tracking.bfloat16 import to_bfloat16_bits
from qsam2_deploy.tracking.memory import MemoryBank, MemoryEntry

POINTER_WIDTH = 4


def memory_entry(number: int) -> MemoryEntry:
    """Return an entry that can be told from others by ``number`` (up to 255)."""
    memory = to_bfloat16_bits(np.full((2, 1, 1), number, np.float32))
    pointer = np.full(POINTER_WIDTH, number, np.float32)
    return MemoryEntry(np.zeros((4, 4), np.float32), pointer, 1.0, memory)


@st.composite
def tracking_rules(draw: st.DrawFn) -> TrackingRules:
    """Draw the rules that decide which memories count."""
    return TrackingRules(
        num_maskmem=draw(st.integers(1, 8)),
        max_obj_ptrs_in_encoder=draw(st.integers(1, 20)),
        max_cond_frames_in_attn=draw(st.sampled_from([-1, -1, 2, 3, 4])),
        memory_temporal_stride_for_eval=draw(st.integers(1, 4)),
        use_signed_tpos_enc_to_obj_ptrs=draw(st.booleans()),
        only_obj_ptrs_in_the_past_for_eval=draw(st.booleans()),
    )


@st.composite
def memory_banks(draw: st.DrawFn, frames: int = 40) -> MemoryBank:
    """Draw a bank with one or more prompted frames and tracked frames with gaps."""
    indices = st.integers(0, frames - 1)
    prompted = draw(st.lists(indices, min_size=1, max_size=6, unique=True))
    density = draw(st.sampled_from([0.0, 0.5, 0.9, 1.0]))
    seed = draw(st.integers(0, 2**16))
    kept = np.random.default_rng(seed).random(frames) < density
    tracked = [i for i in range(frames) if kept[i] and i not in prompted]
    return MemoryBank({i: memory_entry(i) for i in prompted}, {i: memory_entry(i) for i in tracked})
