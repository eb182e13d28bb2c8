"""The parity tests can fail: everything that they are meant to check changes the masks.

With random weights a part of the model may have no effect at all; then a runtime that feeds it
wrongly would still pass. Here each part is damaged in the official predictor alone, and the masks
must move by several times the tolerance. Rounding errors, on the other hand, must stay far below
it, or the tests would fail by chance.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from qsam2_deploy.spec import NO_OBJ_SCORE
from tests.parity.clip import HEIGHT, WIDTH
from tests.parity.compare import MAX_DIFFERENCE, relative_difference
from tests.parity.conftest import IMAGE_SIZE, Clips
from tests.parity.scenarios import SCENARIOS, Scenario, scenario
from tests.parity.session import Step
from tests.parity.variants import VARIANTS, official_predictor, small_variant

StateDict = dict[str, torch.Tensor]
Damage = Callable[[StateDict], None]


def _zero(part: str) -> Damage:
    def damage(state: StateDict) -> None:
        names = [name for name in state if part in name]
        assert names, f"no tensor is called {part}"
        for name in names:
            state[name] = torch.zeros_like(state[name])

    return damage


def _zero_three(state: StateDict) -> None:
    for index in (1, 2, 3):
        _zero(f"hypernetworks_mlps.{index}")(state)


def _shift_times(state: StateDict) -> None:
    state["maskmem_tpos_enc"] = state["maskmem_tpos_enc"].roll(1, 0)


def _round(state: StateDict) -> None:
    generator = torch.Generator().manual_seed(0)
    for name, tensor in state.items():
        state[name] = tensor * (1 + 1e-6 * torch.randn(tensor.shape, generator=generator))


CASES = [
    ("long video", "times of memories", _shift_times),
    ("long video", "times of pointers", _zero("obj_ptr_tpos_proj")),
    ("long video", "pointers", _zero("obj_ptr_proj")),
    ("long video", "memories", _zero("memory_encoder.out_proj")),
    ("long video", "masks in memories", _zero("mask_downsampler")),
    ("long video", "fuser of memories", _zero("gamma")),
    ("long video", "high resolution", _zero("conv_s0")),
    ("click", "no memory on the first frame", _zero("no_mem_embed")),
    ("click", "clicks", _zero("point_embeddings.1")),
    ("negative click only", "negative clicks", _zero("point_embeddings.0")),
    ("box", "boxes", _zero("point_embeddings.2")),
    ("clicks in turn", "earlier logits", _zero("mask_downscaling")),
    ("single mask", "the single mask", _zero("hypernetworks_mlps.0")),
    ("single mask", "best of three where the single mask is unstable", _zero_three),
    ("mask", "pointers of masks", _zero("obj_ptr_proj")),
    ("empty mask", "pointer of no object", _zero("no_obj_ptr")),
    ("empty mask", "memory of no object", _zero("no_obj_embed_spatial")),
    ("comes and goes, click", "pointer of no object", _zero("no_obj_ptr")),
    ("comes and goes, click", "memory of no object", _zero("no_obj_embed_spatial")),
]


@pytest.mark.parametrize(
    ("name", "what", "damage"), CASES, ids=[f"{what} ({name})" for name, what, _ in CASES]
)
def test_every_part_matters(name: str, what: str, damage: Damage, clips: Clips) -> None:
    assert _effect(scenario(name), damage, clips) > 3 * MAX_DIFFERENCE, f"{what} had no effect"


@pytest.mark.parametrize("name", ["long video", "several objects", "comes and goes, click"])
def test_rounding_errors_do_not_grow(name: str, clips: Clips) -> None:
    assert _effect(scenario(name), _round, clips) < MAX_DIFFERENCE / 5


def test_objects_come_and_go(clips: Clips) -> None:
    steps = _play(scenario("comes and goes, click"), clips)
    hidden = [bool((step.logits == NO_OBJ_SCORE).all()) for step in steps]
    assert any(hidden)
    assert not all(hidden)


def test_masks_are_neither_empty_nor_full(clips: Clips) -> None:
    shares = [float((step.logits > 0).mean()) for step in _play(scenario("long video"), clips)]
    assert 0.02 < np.median(shares) < 0.98


@pytest.mark.parametrize(
    "name", ["two nearest prompts", "strided memory", "single mask", "pointers from the future"]
)
def test_rules_of_variants_matter(name: str, clips: Clips) -> None:
    item = next(s for s in SCENARIOS if s.variant == name)
    usual = Scenario(item.name, item.act, "usual", item.long)
    assert _distance(_play(usual, clips), _play(item, clips)) > 3 * MAX_DIFFERENCE


def test_every_variant_has_a_scenario_and_names_are_unique() -> None:
    assert {item.variant for item in SCENARIOS} == set(VARIANTS)
    assert len({item.name for item in SCENARIOS}) == len(SCENARIOS)


def _effect(item: Scenario, damage: Damage, clips: Clips) -> float:
    return _distance(_play(item, clips), _play(item, clips, damage))


def _distance(a: list[Step], b: list[Step]) -> float:
    pairs = zip(a, b, strict=True)
    return max(
        relative_difference(x, y) for p, q in pairs for x, y in zip(p.logits, q.logits, strict=True)
    )


def _play(item: Scenario, clips: Clips, damage: Damage | None = None) -> list[Step]:
    if damage is not None:
        return _run(item, clips, damage)
    key = (item.name, item.variant)
    if key not in _undamaged:
        _undamaged[key] = _run(item, clips, lambda state: None)
    return _undamaged[key]


def _run(item: Scenario, clips: Clips, damage: Damage) -> list[Step]:
    torch.set_num_threads(1)
    if item.variant not in _models:
        _models[item.variant] = small_variant(item.variant, IMAGE_SIZE, clips.long)
    config, state = _models[item.variant]
    state = dict(state)
    damage(state)
    video = clips.long if item.long else clips.short
    return item.run(official_predictor(config, state), video, WIDTH, HEIGHT)


_models: dict[str, tuple[dict[str, Any], StateDict]] = {}
_undamaged: dict[tuple[str, str], list[Step]] = {}
