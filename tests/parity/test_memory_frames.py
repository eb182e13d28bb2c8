"""Fewer memory frames give the masks of the official predictor of a smaller ``num_maskmem``."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from qsam2_deploy.errors import InputError
from qsam2_deploy.media.reading.sources import open_frames
from qsam2_deploy.runtime import Prompt, VideoSegmenter
from tests.parity.clip import HEIGHT, WIDTH
from tests.parity.compare import compare, relative_difference
from tests.parity.floor import MATTERS, TIGHT
from tests.parity.pair import Pair
from tests.parity.scenarios import LEFT, scenario
from tests.parity.shared import Float32Memories
from tests.parity.trained import trained_model
from tests.parity.variants import official_predictor
from tests.support.marks import slow

Make = Callable[[str], Pair]


def _official(count: int) -> Any:
    """Build the official predictor with the rows of temporal codes that we document."""
    config, state = trained_model()
    table = state["maskmem_tpos_enc"]
    rows = [*range(count - 1), len(table) - 1]
    config["model"]["num_maskmem"] = count
    return official_predictor(config, state | {"maskmem_tpos_enc": table[rows]})


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("reverse", 1),
        ("reverse", 4),
        slow("reverse", 2),
        *(slow("long video, mixed", count) for count in (1, 2, 4)),
    ],
)
def test_as_a_model_with_fewer(count, name, pair, records):
    models, chosen = pair("usual"), scenario(name)
    expected = records.play(chosen, _official(count), "float32")
    fewer = models.predictor(Float32Memories(), memory_frames=count)
    difference = compare(expected, records.play(chosen, fewer, "float32"))
    assert TIGHT.holds(difference), difference
    usual = compare(expected, records.official(chosen))
    assert usual.logits > MATTERS * TIGHT.logits, "the number of memories must matter here"


def test_the_segmenter_has_the_same_rule(pair, clips):
    models = pair("usual")
    with open_frames(clips.long) as source:
        frames = list(source)
    point = np.array([LEFT]) * (WIDTH, HEIGHT)
    for count in (1, 3):
        predictor = models.predictor(memory_frames=count)
        state = predictor.init_state(clips.long)
        predictor.add_new_points_or_box(state, 0, 1, points=point, labels=[1])
        expected = [masks[0, 0] for _, _, masks in predictor.propagate_in_video(state)]
        with VideoSegmenter(models.shared(), memory_frames=count) as segmenter:
            found = _play(segmenter, frames, point)
            kept = [e for e in segmenter._objects[1].bank.tracked.values() if e.memory is not None]
            assert len(kept) <= count, "features that nobody reads are not kept"
        for a, b in zip(expected, found, strict=True):
            assert relative_difference(a, b) < TIGHT.logits


def _play(segmenter: VideoSegmenter, frames: list[Any], point: Any) -> list[Any]:
    prompts = {0: [Prompt(1, [tuple(point[0])], [1])]}
    return [result[1].logits for result in segmenter.stream(frames, prompts)]


def test_the_number_must_be_one_of_the_model(pair):
    shared = pair("usual").shared()
    for wrong in (0, 8, -1):
        with pytest.raises(InputError, match=f"must be from 1 to 7, .* but got {wrong}"):
            VideoSegmenter(shared, memory_frames=wrong)
