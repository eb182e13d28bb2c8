"""Our video predictor gives the masks of the official one, whatever the user does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.parity.clip import HEIGHT, WIDTH
from tests.parity.compare import compare
from tests.parity.conftest import Clips
from tests.parity.scenarios import SCENARIOS, Scenario
from tests.parity.session import Predictor

Pair = Callable[[str], tuple[Any, Predictor]]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_same_masks_as_the_official_predictor(scenario: Scenario, pair: Pair, clips: Clips) -> None:
    official, ours = pair(scenario.variant)
    video = clips.long if scenario.long else clips.short
    expected = scenario.run(official, video, WIDTH, HEIGHT)
    got = scenario.run(ours, video, WIDTH, HEIGHT)
    difference = compare(expected, got)
    assert difference.equal, f"{scenario.name}: {difference}"
