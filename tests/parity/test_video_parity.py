"""Our video predictor gives the masks of the official one, whatever the user does."""

from collections.abc import Callable

import pytest

from tests.parity.compare import compare
from tests.parity.floor import NUDGES, TIGHT, measured_bound
from tests.parity.pair import Pair
from tests.parity.scenarios import SCENARIOS, scenario
from tests.parity.session import Step

Make = Callable[[str], Pair]

AS_SHIPPED = (
    "clicks in turn", "mask", "several objects", "comes and goes, click",
    *(pytest.param(name, marks=pytest.mark.slow)
      for name in ("both ways", "clear prompts", "remove object", "two nearest prompts",
                   "long video, mixed", "SAM 2.0, long video")),
)  # fmt: skip
"""Scenarios that are played in bfloat16, too: every kind of memory that is rounded.

The rules are the same in both precisions, and the tight comparison takes all scenarios; what these
add is the rounding itself, which one predictor plays three times.
"""


AGAIN = {"comes and goes, mixed", "invisible, box", "long video, mixed"}
"""Scenarios of which another has the variant, and another what is done."""


@pytest.mark.parametrize(
    "scenario",
    [
        pytest.param(item, id=item.name, marks=pytest.mark.slow if item.name in AGAIN else ())
        for item in SCENARIOS
    ],
)
def test_same_masks_as_the_official_predictor(scenario, pair, records):
    """With memories in float32 on both sides."""
    expected = records.official(scenario)
    got = records.play(scenario, pair(scenario.variant).exact, "float32")
    difference = compare(expected, got)
    assert TIGHT.holds(difference), f"{scenario.name}: {difference}"


@pytest.mark.parametrize("name", AS_SHIPPED)
def test_same_masks_as_shipped(name, pair, records):
    """With memories in bfloat16, to as much as the last bits of the weights move the masks."""
    chosen = scenario(name)
    models = pair(chosen.variant)
    expected = records.official(chosen, "bfloat16")
    difference = compare(expected, records.play(chosen, models.ours, "bfloat16"))
    moved: list[list[Step]] = []
    for seed in range(NUDGES):
        moved.append(records.play(chosen, models.nudged(seed), "bfloat16"))
        bound = measured_bound(expected, *moved)
        if bound.holds(difference):
            return
    pytest.fail(f"{name}: {difference}, {bound}")


def test_memories_are_rounded_as_the_official_predictor_does(pair, records):
    """The two precisions are far apart, so that the wrong one would be seen above."""
    chosen = scenario("mask")
    exact, shipped = (records.official(chosen, kind) for kind in ("float32", "bfloat16"))
    bound = measured_bound(shipped, records.play(chosen, pair("usual").nudged(), "bfloat16"))
    assert not bound.holds(compare(shipped, exact))
