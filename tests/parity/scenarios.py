"""What users do with the official video predictor, as functions that drive any such predictor.

A scenario gets a :class:`~tests.parity.session.Session` and calls it as a user would; the session
writes down every result. The same function drives the official predictor and ours, so that the two
records can be compared step by step. Positions are fractions of the frame, for videos of any size.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.parity.session import Point, Predictor, Session, Step

SHORT = 10
"""Frames of the usual video: fewer than the 16 that the pointer times are normalised by."""

LONG = 20
"""Frames of the long video: more than 7 memories and more than 16 pointers."""

LEFT: Point = (0.32, 0.48)
RIGHT: Point = (0.70, 0.42)
LOW: Point = (0.45, 0.80)
CORNER: Point = (0.05, 0.06)
BOX = (0.18, 0.22, 0.52, 0.74)
OTHER_BOX = (0.55, 0.25, 0.92, 0.66)


@dataclass(frozen=True)
class Scenario:
    """A named scenario, the model variant that it wants, and the length of its video."""

    name: str
    act: Callable[[Session], None]
    variant: str = "usual"
    long: bool = False

    def run(self, predictor: Predictor, video: Path, width: int, height: int) -> list[Step]:
        """Play the scenario on a folder of numbered frames and return the record."""
        frames = len(list(Path(video).iterdir()))
        session = Session(predictor, video, width, height, frames)
        self.act(session)
        return session.steps


def _click(session: Session) -> None:
    session.click(0, LEFT)
    session.propagate()


def _box(session: Session) -> None:
    session.click(0, box=BOX)
    session.propagate()


def _box_and_click(session: Session) -> None:
    session.click(0, LEFT, CORNER, labels=[1, 0], box=BOX)
    session.propagate()


def _clicks_at_once(session: Session) -> None:
    session.click(0, LEFT, CORNER, LOW, labels=[1, 0, 1])
    session.propagate()


def _clicks_in_turn(session: Session) -> None:
    session.click(0, LEFT)
    session.click(0, CORNER, labels=[0], keep=True)
    session.click(0, LOW, keep=True)
    session.propagate()


def _click_replaced(session: Session) -> None:
    session.click(0, LEFT)
    session.click(0, RIGHT)
    session.propagate()


def _negative_click_only(session: Session) -> None:
    session.click(0, CORNER, labels=[0])
    session.propagate(count=4)


def _normalised_coordinates(session: Session) -> None:
    session.click(0, LEFT, normalised=True)
    session.click(2, box=BOX, object_id=2, normalised=True)
    session.propagate(count=4)


def _mask(session: Session) -> None:
    session.mask(0, session.ellipse(LEFT))
    session.propagate()


def _empty_mask(session: Session) -> None:
    session.mask(0, np.zeros((session.height, session.width), np.bool_))
    session.propagate()


def _absent_at_first(session: Session) -> None:
    session.mask(0, np.zeros((session.height, session.width), np.bool_))
    session.click(3, LEFT)
    session.propagate()


def _mask_then_click(session: Session) -> None:
    session.mask(0, session.ellipse(LEFT))
    session.click(0, LOW)
    session.propagate(count=4)


def _click_then_mask(session: Session) -> None:
    session.click(0, LEFT)
    session.mask(0, session.ellipse(RIGHT))
    session.propagate(count=4)


def _correction(session: Session) -> None:
    session.click(0, LEFT)
    session.propagate()
    session.click(5, CORNER, labels=[0])
    session.click(5, LOW, keep=True)
    session.propagate(start=5)


def _mask_correction(session: Session) -> None:
    session.click(0, LEFT)
    session.propagate()
    session.mask(4, session.ellipse(RIGHT))
    session.propagate(start=3)


def _refined_first_frame(session: Session) -> None:
    session.click(0, LEFT)
    session.propagate(count=4)
    session.click(0, LOW, labels=[0])
    session.propagate()


def _prompt_ahead(session: Session) -> None:
    session.click(0, LEFT)
    session.click(6, LOW)
    session.propagate()


def _starts_late(session: Session) -> None:
    session.click(4, LEFT)
    session.propagate()


def _before_the_prompt(session: Session) -> None:
    session.click(6, LEFT)
    session.propagate(start=2)


def _several_objects(session: Session) -> None:
    session.click(0, LEFT, object_id=7)
    session.click(0, box=OTHER_BOX, object_id=3)
    session.mask(0, session.ellipse(LOW, 0.15), object_id=5)
    session.propagate()


def _prompts_on_different_frames(session: Session) -> None:
    session.click(0, LEFT, object_id=1)
    session.click(3, RIGHT, object_id=2)
    session.propagate()


def _object_added_while_tracking(session: Session) -> None:
    session.click(0, LEFT, object_id=1)
    session.propagate(count=4)
    session.click(4, box=OTHER_BOX, object_id=2)
    session.propagate(start=4)


def _reverse(session: Session) -> None:
    session.click(session.last, LEFT)
    session.propagate(reverse=True)


def _both_ways(session: Session) -> None:
    session.click(4, LEFT)
    session.propagate()
    session.propagate(start=4, reverse=True)
    session.click(2, LOW, CORNER, labels=[1, 0])
    session.propagate(start=4, reverse=True)


def _reverse_from_first_frame(session: Session) -> None:
    session.click(0, LEFT)
    session.propagate(reverse=True)
    session.propagate(count=2)


def _gap(session: Session) -> None:
    session.click(0, LEFT)
    session.propagate(start=0, count=2)
    session.propagate(start=6, count=2)
    session.propagate(start=4, count=1)


def _twice(session: Session) -> None:
    session.click(0, LEFT)
    session.propagate(count=5)
    session.propagate()


def _clear_prompts(session: Session) -> None:
    session.click(0, LEFT)
    session.click(5, RIGHT)
    session.propagate()
    session.clear(5)
    session.propagate(start=4)
    session.clear(3)


def _clear_then_prompt_again(session: Session) -> None:
    session.click(0, LEFT)
    session.clear(0)
    session.click(0, RIGHT)
    session.click(0, LOW, object_id=2)
    session.clear(0, object_id=2)
    session.click(2, LOW, object_id=2)
    session.propagate()


def _remove_object(session: Session) -> None:
    session.click(0, LEFT, object_id=1)
    session.click(0, RIGHT, object_id=2)
    session.click(0, LOW, object_id=3)
    session.propagate(count=4)
    session.remove(2)
    session.remove(9)
    session.propagate(start=4)
    session.click(6, CORNER, labels=[0], object_id=3)
    session.propagate(start=6)


def _remove_last_object(session: Session) -> None:
    session.click(0, LEFT)
    session.propagate(count=2)
    session.remove(1)
    session.click(1, RIGHT, object_id=4)
    session.propagate(count=3)


def _reset(session: Session) -> None:
    session.click(0, LEFT)
    session.propagate(count=4)
    session.reset()
    session.click(1, RIGHT, object_id=2)
    session.propagate(count=4)


def _four_prompts(session: Session) -> None:
    for frame, point in ((0, LEFT), (2, RIGHT), (5, LOW), (8, LEFT)):
        session.click(min(frame, session.last), point)
    session.propagate()
    session.propagate(start=session.last, reverse=True)


def _mixed(session: Session) -> None:
    session.click(0, LEFT, object_id=1)
    session.click(0, box=OTHER_BOX, object_id=2)
    session.propagate()
    session.click(session.last // 2, LOW, object_id=2)
    session.propagate(start=session.last // 2 - 1)
    session.propagate(start=session.last, count=9, reverse=True)


SCENARIOS: tuple[Scenario, ...] = (
    Scenario("click", _click),
    Scenario("box", _box),
    Scenario("box and clicks", _box_and_click),
    Scenario("clicks at once", _clicks_at_once),
    Scenario("clicks in turn", _clicks_in_turn),
    Scenario("click replaced", _click_replaced),
    Scenario("negative click only", _negative_click_only),
    Scenario("normalised coordinates", _normalised_coordinates),
    Scenario("mask", _mask),
    Scenario("empty mask", _empty_mask),
    Scenario("absent at first", _absent_at_first),
    Scenario("mask then click", _mask_then_click),
    Scenario("click then mask", _click_then_mask),
    Scenario("correction", _correction),
    Scenario("mask correction", _mask_correction),
    Scenario("refined first frame", _refined_first_frame),
    Scenario("prompt ahead", _prompt_ahead),
    Scenario("starts late", _starts_late),
    Scenario("before the prompt", _before_the_prompt),
    Scenario("several objects", _several_objects),
    Scenario("prompts on different frames", _prompts_on_different_frames),
    Scenario("object added while tracking", _object_added_while_tracking),
    Scenario("reverse", _reverse),
    Scenario("both ways", _both_ways),
    Scenario("reverse from first frame", _reverse_from_first_frame),
    Scenario("gap", _gap),
    Scenario("twice", _twice),
    Scenario("clear prompts", _clear_prompts),
    Scenario("clear then prompt again", _clear_then_prompt_again),
    Scenario("remove object", _remove_object),
    Scenario("remove last object", _remove_last_object),
    Scenario("reset", _reset),
    Scenario("long video", _click, long=True),
    Scenario("long video, mixed", _mixed, long=True),
    Scenario("four prompts", _four_prompts),
    Scenario("two nearest prompts", _four_prompts, "two nearest prompts"),
    Scenario("invisible, click", _click, "invisible"),
    Scenario("invisible, box", _box, "invisible"),
    Scenario("invisible, mask", _mask, "invisible"),
    Scenario("comes and goes, click", _click, "comes and goes", long=True),
    Scenario("comes and goes, mixed", _mixed, "comes and goes", long=True),
    Scenario("SAM 2.0, long video", _mixed, "SAM 2.0", long=True),
    Scenario("SAM 2.0, empty mask", _empty_mask, "SAM 2.0"),
    Scenario("strided memory", _mixed, "strided memory", long=True),
    Scenario("single mask", _mixed, "single mask"),
    Scenario("pointers from the future", _four_prompts, "pointers from the future"),
)


@functools.cache
def scenario(name: str) -> Scenario:
    """Return the scenario with this name; KeyError if there is none."""
    return {item.name: item for item in SCENARIOS}[name]
