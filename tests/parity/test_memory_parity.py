"""Our choice of memories and pointers is the one of upstream's own code, on any bank."""

import dataclasses
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sam2.modeling.sam2_base import SAM2Base
from sam2.modeling.sam2_utils import get_1d_sine_pe, select_closest_cond_frames

from qsam2_deploy.spec import TrackingRules
from qsam2_deploy.tracking.memory import (
    MemoryBank,
    closest_conditioning,
    select_memories,
    stack_memories,
)
from qsam2_deploy.tracking.tracker import rules_with_memory_frames
from tests.support.strategies import POINTER_WIDTH, memory_banks, memory_entry, tracking_rules

FRAMES = 40
MEMORY_WIDTH = 2


@settings(deadline=None, max_examples=300)
@given(
    st.lists(st.integers(0, FRAMES), min_size=1, max_size=8, unique=True),
    st.integers(0, FRAMES),
    st.sampled_from([-1, 2, 3, 4, 5]),
)
def test_the_same_prompted_frames_are_closest(indices, frame, limit):
    entries = {i: memory_entry(i) for i in indices}
    expected = select_closest_cond_frames(frame, entries, limit)
    got = closest_conditioning(entries, frame, limit)
    assert [list(part) for part in got] == [list(part) for part in expected]


@settings(deadline=None, max_examples=300)
@given(
    memory_banks(FRAMES),
    tracking_rules(),
    st.integers(0, FRAMES - 1),
    st.booleans(),
    st.sampled_from([FRAMES, 2 * FRAMES]),
)
def test_the_same_tokens_reach_the_memory_attention(bank, rules, frame, reverse, num_frames):
    # Upstream divides by zero where a single pointer is allowed.
    if rules.max_obj_ptrs_in_encoder == 1:
        rules = TrackingRules(max_obj_ptrs_in_encoder=2)
    expected = _upstream(bank, rules, frame, reverse, num_frames)
    selection = select_memories(bank, frame, rules, reverse=reverse, num_frames=num_frames)
    ours = stack_memories([selection], POINTER_WIDTH)
    memories = torch.from_numpy(ours["memory"][0, :, :, 0, 0])
    pointers = torch.from_numpy(ours["pointers"][0])
    # Upstream cuts a pointer into tokens of the width of the memory.
    tokens = torch.cat([memories, pointers.reshape(-1, MEMORY_WIDTH)])
    assert torch.equal(expected["memory"][:, 0], tokens)
    pieces = POINTER_WIDTH // MEMORY_WIDTH
    assert expected["num_obj_ptr_tokens"] == len(pointers) * pieces
    codes = torch.tensor(selection.memory_tpos)[:, None].expand(-1, MEMORY_WIDTH)
    times = get_1d_sine_pe(torch.tensor(selection.pointer_tpos), POINTER_WIDTH)[:, :MEMORY_WIDTH]
    positions = torch.cat([codes.float(), times.repeat_interleave(pieces, 0)])
    assert torch.equal(expected["memory_pos"][:, 0], positions)


@settings(deadline=None, max_examples=200)
@given(memory_banks(FRAMES), tracking_rules(), st.data(), st.integers(0, FRAMES - 1), st.booleans())
def test_fewer_memory_frames_are_a_model_with_fewer(bank, rules, data, frame, reverse):
    """Upstream's model of a smaller ``num_maskmem`` with the rows of the table that we document."""
    trained = rules.num_maskmem
    fewer = rules_with_memory_frames(rules, data.draw(st.integers(1, trained)))
    fewer = dataclasses.replace(fewer, max_obj_ptrs_in_encoder=2)
    codes = [*range(fewer.num_maskmem - 1), trained - 1]
    expected = _upstream(bank, fewer, frame, reverse, FRAMES, codes)
    selection = select_memories(
        bank, frame, fewer, conditioning_tpos=trained - 1, reverse=reverse, num_frames=FRAMES
    )
    count = len(selection.memories)
    memories = stack_memories([selection], POINTER_WIDTH)["memory"][0, :, :, 0, 0]
    assert torch.equal(expected["memory"][:count, 0], torch.from_numpy(memories))
    positions = expected["memory_pos"][:count, 0, 0]
    assert positions.tolist() == list(selection.memory_tpos)
    assert expected["num_obj_ptr_tokens"] == expected["memory"].shape[0] - count


def _upstream(
    bank: MemoryBank,
    rules: TrackingRules,
    frame: int,
    reverse: bool,
    num_frames: int,
    codes: Sequence[int] | None = None,
) -> dict[str, Any]:
    """Run upstream's method with a memory attention that only writes down what it is given.

    ``codes`` are the rows of its table of temporal codes, by default their own numbers.
    """
    caught: dict[str, Any] = {}
    rows = torch.tensor(codes or range(rules.num_maskmem)).float()

    def attention(**given: Any) -> torch.Tensor:
        caught.update(given)
        return torch.zeros(1, 1, POINTER_WIDTH)

    model = SimpleNamespace(
        hidden_dim=POINTER_WIDTH,
        mem_dim=MEMORY_WIDTH,
        training=False,
        # Row i holds i, so that positions tell which row was taken.
        maskmem_tpos_enc=rows[:, None, None, None] * torch.ones(MEMORY_WIDTH),
        use_obj_ptrs_in_encoder=True,
        add_tpos_enc_to_obj_ptrs=True,
        proj_tpos_enc_in_obj_ptrs=True,
        obj_ptr_tpos_proj=lambda times: times[:, :MEMORY_WIDTH],
        memory_attention=attention,
        num_maskmem=rules.num_maskmem,
        max_obj_ptrs_in_encoder=rules.max_obj_ptrs_in_encoder,
        max_cond_frames_in_attn=rules.max_cond_frames_in_attn,
        memory_temporal_stride_for_eval=rules.memory_temporal_stride_for_eval,
        use_signed_tpos_enc_to_obj_ptrs=rules.use_signed_tpos_enc_to_obj_ptrs,
        only_obj_ptrs_in_the_past_for_eval=rules.only_obj_ptrs_in_the_past_for_eval,
    )
    features = [torch.zeros(1, 1, POINTER_WIDTH)]
    SAM2Base._prepare_memory_conditioned_features(
        model,
        frame_idx=frame,
        is_init_cond_frame=False,
        current_vision_feats=features,
        current_vision_pos_embeds=features,
        feat_sizes=[(1, 1)],
        output_dict={
            "cond_frame_outputs": {i: _output(i) for i in bank.conditioning},
            "non_cond_frame_outputs": {i: _output(i) for i in bank.tracked},
        },
        num_frames=num_frames,
        track_in_reverse=reverse,
    )
    return caught


def _output(number: int) -> dict[str, Any]:
    entry = memory_entry(number)
    assert entry.memory is not None
    return {
        "maskmem_features": torch.full((1, MEMORY_WIDTH, 1, 1), float(number)),
        "maskmem_pos_enc": [torch.zeros(1, MEMORY_WIDTH, 1, 1)],
        "obj_ptr": torch.from_numpy(np.ascontiguousarray(entry.pointer))[None],
    }
