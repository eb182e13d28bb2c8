"""Fewer memory frames give the masks of the official predictor of a smaller ``num_maskmem``."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from qsam2_deploy.errors import InputError
from qsam2_deploy.runtime import Prompt, SAM2VideoPredictor, VideoSegmenter
from qsam2_deploy.runtime.media.sources import open_frames
from tests.parity.clip import HEIGHT, WIDTH
from tests.parity.compare import compare, relative_difference
from tests.parity.conftest import IMAGE_SIZE, Clips
from tests.parity.scenarios import LEFT, scenario
from tests.parity.session import Predictor
from tests.parity.test_segmenter_parity import _Shared
from tests.parity.variants import official_predictor, small_variant

Pair = Callable[[str], tuple[Any, Predictor]]


def _official(count: int, clips: Clips) -> Any:
    """Build the official predictor with the rows of temporal codes that we document."""
    config, state = small_variant("usual", IMAGE_SIZE, clips.long)
    table = state["maskmem_tpos_enc"]
    rows = [*range(count - 1), len(table) - 1]
    config = copy.deepcopy(config)
    config["model"]["num_maskmem"] = count
    return official_predictor(config, state | {"maskmem_tpos_enc": table[rows]})


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("name", ["long video, mixed", "reverse"])
def test_as_a_model_with_fewer(count: int, name: str, pair: Pair, clips: Clips) -> None:
    backend: Any = pair("usual")[1]
    chosen = scenario(name)
    video = clips.long if chosen.long else clips.short
    expected = chosen.run(_official(count, clips), video, WIDTH, HEIGHT)
    with SAM2VideoPredictor(
        _Shared(backend._backend), memory_frames=count, show_progress=False
    ) as predictor:
        got = chosen.run(predictor, video, WIDTH, HEIGHT)
    assert compare(expected, got).equal
    usual = chosen.run(backend, video, WIDTH, HEIGHT)
    assert not compare(expected, usual).equal, "the number of memories must matter here"


def test_the_segmenter_has_the_same_rule(pair: Pair, clips: Clips) -> None:
    shared = _Shared(pair("usual")[1]._backend)
    with open_frames(clips.long) as source:
        frames = list(source)
    for count in (1, 3):
        with SAM2VideoPredictor(shared, memory_frames=count, show_progress=False) as predictor:
            state = predictor.init_state(clips.long)
            point = np.array([LEFT]) * (WIDTH, HEIGHT)
            predictor.add_new_points_or_box(state, 0, 1, points=point, labels=[1])
            expected = [masks[0, 0] for _, _, masks in predictor.propagate_in_video(state)]
        with VideoSegmenter(shared, memory_frames=count) as segmenter:
            found = _play(segmenter, frames, point)
            kept = [e for e in segmenter._objects[1].bank.tracked.values() if e.memory is not None]
            assert len(kept) <= max(count - 1, 1), "features that nobody reads are not kept"
        for a, b in zip(expected, found, strict=True):
            assert relative_difference(a, b) < 1e-3


def _play(segmenter: VideoSegmenter, frames: list[Any], point: Any) -> list[Any]:
    prompts = {0: [Prompt(1, [tuple(point[0])], [1])]}
    return [result[1].logits for result in segmenter.stream(frames, prompts)]


def test_the_number_must_be_one_of_the_model(pair: Pair) -> None:
    shared = _Shared(pair("usual")[1]._backend)
    for wrong in (0, 8, -1):
        with pytest.raises(InputError, match=f"must be from 1 to 7, .* but got {wrong}"):
            VideoSegmenter(shared, memory_frames=wrong)
