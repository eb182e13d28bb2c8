"""The streaming segmenter gives the masks of the official predictor on the same frames.

The official predictor has no streams. What corresponds to a prompt on the newest frame is to
propagate up to the frame before, to add the prompt, and to propagate from there; to a correction,
to propagate up to the frame, to correct it, and to propagate from the next one. Pointer times are
normalised by ``min(num_frames, 16) - 1``, where a stream counts as long: the clip has more frames.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from qsam2_deploy.predictors.segmenter import VideoSegmenter
from qsam2_deploy.tracking.results import FrameResult, Prompt
from tests.parity.clip import HEIGHT, WIDTH
from tests.parity.compare import Difference, mask_iou, relative_difference
from tests.parity.floor import MATTERS, TIGHT
from tests.parity.pair import Pair
from tests.parity.scenarios import (
    BOX,
    CORNER,
    LEFT,
    LONG,
    LOW,
    OTHER_BOX,
    RIGHT,
    Point,
    Predictor,
    Session,
)
from tests.parity.shared import SharedBackend, official_memories

Logits = npt.NDArray[np.float32]
Record = dict[tuple[int, int], Logits]
"""Frame and object id to logits ``[height, width]``; the newest result counts."""


@dataclass(frozen=True)
class Act:
    """A prompt on one frame; positions are fractions of the frame.

    Attributes:
        frame: number of the frame.
        points: with ``labels``, 1 by default.
        labels: one per point.
        box: x1, y1, x2, y2.
        circle: centre of a round mask.
        object_id: of the object.
        keep: add to the earlier points of the frame.
        late: given after the frame was tracked, as a correction or for a new object.
    """

    frame: int
    points: tuple[Point, ...] = ()
    labels: tuple[int, ...] = ()
    box: tuple[float, float, float, float] | None = None
    circle: Point | None = None
    object_id: int = 1
    keep: bool = False
    late: bool = False


@dataclass(frozen=True)
class Story:
    """What a user does while a stream runs."""

    name: str
    acts: tuple[Act, ...]
    frames: int = 9
    variant: str = "usual"


CLICK = Act(0, (LEFT,))
STORIES = (
    Story("click", (CLICK,), LONG),
    Story("box", (Act(0, box=BOX),)),
    Story("box and click", (Act(0, (LEFT,), box=BOX),)),
    Story("clicks", (Act(0, (LEFT, CORNER), (1, 0)),)),
    Story("clicks in turn", (CLICK, Act(0, (CORNER,), (0,), keep=True))),
    Story("mask", (Act(0, circle=LEFT),)),
    Story("first prompt late in the stream", (Act(5, (LEFT,)),), 12),
    Story("two objects", (CLICK, Act(0, box=OTHER_BOX, object_id=2))),
    Story("object added on a new frame", (CLICK, Act(4, box=OTHER_BOX, object_id=2)), 12),
    Story(
        "object added on the newest frame", (CLICK, Act(4, box=OTHER_BOX, object_id=2, late=True))
    ),
    Story("first frame refined", (CLICK, Act(0, (LOW,), late=True)), 6),
    Story("correction", (CLICK, Act(5, (CORNER,), (0,), late=True)), 12),
    Story(
        "corrections in turn",
        (
            CLICK,
            Act(3, (CORNER,), (0,), late=True),
            Act(3, (LOW,), keep=True, late=True),
            Act(6, (RIGHT,), late=True),
        ),
    ),
    Story("correction with a mask", (CLICK, Act(4, circle=RIGHT, late=True))),
    Story("second prompted frame", (CLICK, Act(5, (LOW,))), 12),
    Story(
        "all of it",
        (
            CLICK,
            Act(3, circle=RIGHT, object_id=2),
            Act(7, (CORNER,), (0,), late=True),
            Act(10, box=OTHER_BOX, object_id=3, late=True),
            Act(13, (LOW,)),
            Act(17, (RIGHT,), object_id=2, late=True),
        ),
        LONG,
    ),
    Story("comes and goes", (CLICK, Act(8, (LOW,), late=True)), 12, "comes and goes"),
    Story(
        "two nearest prompts",
        tuple(Act(t, (p,)) for t, p in ((0, LEFT), (2, RIGHT), (5, LOW), (11, LEFT))),
        14,
        "two nearest prompts",
    ),
    Story("strided memory", (CLICK, Act(8, (LOW,))), 12, "strided memory"),
    Story("SAM 2.0", (CLICK, Act(9, (LOW,), late=True)), 12, "SAM 2.0"),
)


# ---------------------------------------------------------------- the official side
def _play_official(story: Story, predictor: Predictor, video: Path) -> Record:
    session = Session(predictor, video, WIDTH, HEIGHT, LONG)
    done = -1
    for act in story.acts:
        target = act.frame if act.late and not _is_prompted(story, act) else act.frame - 1
        if target > done and session.steps:
            session.propagate(done + 1, target - done - 1)
        done = max(done, target)
        _prompt_official(session, act)
    session.propagate(done + 1, story.frames - 1 - (done + 1))
    assert session.frames >= 16
    return {
        (step.frame, object_id): logits[0]
        for step in session.steps
        for object_id, logits in zip(step.object_ids, step.logits, strict=True)
        if step.frame < story.frames
    }


def _is_prompted(story: Story, act: Act) -> bool:
    """Whether the object began on the frame: such a frame is not tracked before it is refined."""
    return any(
        (a.frame, a.object_id, a.late) == (act.frame, act.object_id, False) for a in story.acts
    )


def _prompt_official(session: Session, act: Act) -> None:
    if act.circle is not None:
        session.mask(act.frame, session.ellipse(act.circle), act.object_id)
        return
    session.click(
        act.frame, *act.points, labels=act.labels or None, object_id=act.object_id, box=act.box,
        keep=act.keep,
    )  # fmt: skip


# ---------------------------------------------------------------- our side
def play_stream(
    story: Story, predictor: Predictor, frames: Sequence[npt.NDArray[np.uint8]]
) -> Record:
    record: Record = {}
    backend: Any = predictor
    with VideoSegmenter(SharedBackend(backend._backend)) as segmenter:
        for index in range(story.frames):
            now = [act for act in story.acts if act.frame == index]
            prompts = [_prompt(act) for act in now if not act.late]
            _write(record, segmenter.track(frames[index], prompts))
            for act in now:
                if act.late:
                    _write(record, segmenter.refine(_prompt(act)))
    return record


def _prompt(act: Act) -> Prompt:
    size = np.array([WIDTH, HEIGHT], np.float32)
    mask = None
    if act.circle is not None:
        x = (np.arange(WIDTH) + 0.5) / WIDTH - act.circle[0]
        y = (np.arange(HEIGHT) + 0.5) / HEIGHT - act.circle[1]
        mask = (x[None, :] ** 2 + y[:, None] ** 2) < 0.2**2
    points = [tuple(np.array(point, np.float32) * size) for point in act.points]
    box = None if act.box is None else tuple(np.array(act.box, np.float32) * np.tile(size, 2))
    return Prompt(
        act.object_id, points, act.labels or [1] * len(points), box, mask,
        clear_old_points=not act.keep,
    )  # fmt: skip


def _write(record: Record, result: FrameResult) -> None:
    for found in result.objects:
        record[result.frame_index, found.object_id] = found.logits


# ---------------------------------------------------------------- comparison
@pytest.fixture(scope="module")
def frames(clips) -> list[npt.NDArray[np.uint8]]:
    """Return the decoded frames of the long clip."""
    return [np.asarray(Image.open(path)) for path in sorted(clips.long.iterdir())]


Make = Callable[[str], Pair]


AGAIN = {"comes and goes", "strided memory", "SAM 2.0"}
"""Stories of variants of which ``test_video_parity.py`` plays scenarios in the usual run."""


@pytest.mark.parametrize(
    "story",
    [
        pytest.param(story, id=story.name, marks=pytest.mark.slow if story.name in AGAIN else ())
        for story in STORIES
    ],
)
def test_same_masks_as_the_official_predictor(story, pair, clips, frames):
    """With memories in float32 on both sides."""
    models = pair(story.variant)
    with official_memories("float32"):
        expected = _play_official(story, models.official, clips.long)
    got = play_stream(story, models.exact, frames)
    # Before an object exists the official predictor may show it as absent.
    first = {a.object_id: a.frame for a in reversed(story.acts)}
    compared = {key for key in expected if key[0] >= first[key[1]]}
    assert got.keys() == compared
    assert len(compared) == sum(story.frames - frame for frame in first.values())
    for key in sorted(compared):
        assert np.isfinite(got[key]).all()
        difference = _difference(expected[key], got[key])
        assert TIGHT.holds(difference), f"{story.name}: {difference} at {key}"


def _difference(a: Logits, b: Logits) -> Difference:
    masks = a > 0, b > 0
    pixels = int((masks[0] != masks[1]).sum())
    return Difference(1, relative_difference(a, b), mask_iou(*masks), pixels)


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("correction", Act(5, (CORNER,), (0,))),
        ("correction", Act(6, (CORNER,), (0,), late=True)),
        ("second prompted frame", Act(5, (LOW,), late=True)),
        ("second prompted frame", Act(6, (LOW,))),
        ("clicks in turn", Act(0, (CORNER,), (0,))),
        ("correction with a mask", Act(4, circle=LOW, late=True)),
    ],
)
def test_another_prompt_gives_other_masks(name, changed, pair, frames):
    """Otherwise equal masks would say nothing about how prompts are taken."""
    story = next(s for s in STORIES if s.name == name)
    other = Story(name, (*story.acts[:-1], changed), story.frames)
    ours = pair("usual").exact
    a, b = play_stream(story, ours, frames), play_stream(other, ours, frames)
    last = max(key for key in a if key in b)
    moved = max(relative_difference(a[k], b[k]) for k in a.keys() & b.keys())
    assert moved > MATTERS * TIGHT.logits
    assert last == (story.frames - 1, 1)
