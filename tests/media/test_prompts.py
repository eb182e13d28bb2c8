"""Whether a prompt fits its frame."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qsam2_deploy.errors import PromptError
from qsam2_deploy.media.prompting.prompts import FramePrompt, check_frames, validate_prompt
from qsam2_deploy.tracking.results import Prompt

HEIGHT, WIDTH = 40, 60


def check(**values):
    validate_prompt(Prompt(**values), HEIGHT, WIDTH)


def test_good_prompts():
    check(points=[(0, 0), (59.9, 39.9)], labels=[1, 0])
    check(points=np.array([[3.0, 4.0]]), labels=np.array([1]))
    check(box=(0, 0, 60, 40))
    check(box=(-2, -3, 10, 12))
    check(box=(1, 2, 10, 12), points=[(5, 5)], labels=[0])
    check(mask=np.zeros((HEIGHT, WIDTH), dtype=bool))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "is empty; give points, a box or a mask"),
        ({"object_id": -1, "points": [(1, 1)], "labels": [1]}, "begin at 0"),
        ({"object_id": 1 << 31, "points": [(1, 1)], "labels": [1]}, "end at 2147483647"),
        ({"object_id": 1.5, "points": [(1, 1)], "labels": [1]}, "are whole"),
        ({"object_id": "cat", "points": [(1, 1)], "labels": [1]}, "are whole"),
        ({"object_id": None, "points": [(1, 1)], "labels": [1]}, "are whole"),
        ({"points": [(60, 5)], "labels": [1]},
         "(60, 5) of object 1 is outside of the frame, which is 60 pixels wide and 40 high"),
        ({"points": [(5, -0.5)], "labels": [1]}, "(5, -0.5) of object 1 is outside"),
        ({"points": [(float("nan"), 5)], "labels": [1]}, "2 finite numbers"),
        ({"points": [(1, 2, 3)], "labels": [1]}, "2 finite numbers"),
        ({"points": [("a", 2)], "labels": [1]}, "must be 2 numbers"),
        ({"points": [(1, 2)], "labels": []}, "1 points but 0 labels"),
        ({"points": [(1, 2)], "labels": [2]}, "label 2; expected 1"),
        ({"box": (10, 5, 10, 9)}, "is empty; expected x1 < x2 and y1 < y2"),
        ({"box": (10, 9, 20, 5)}, "is empty; expected x1 < x2 and y1 < y2"),
        ({"box": (60, 5, 70, 9)}, "is outside of the frame"),
        ({"box": (1, 2, 3)}, "4 finite numbers"),
        ({"mask": np.zeros((WIDTH, HEIGHT), dtype=bool)},
         "mask of object 1 is 40x60 pixels, but the frame is 60x40"),
        ({"mask": np.zeros((1, HEIGHT, WIDTH), dtype=bool)}, "is 60x40x1 pixels"),
        ({"mask": np.zeros((HEIGHT, WIDTH), dtype=bool), "box": (1, 1, 2, 2)}, "stands alone"),
    ],
)  # fmt: skip
def test_bad_prompts(values, message):
    with pytest.raises(PromptError) as caught:
        check(**values)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.floats(-200, 200), st.floats(-200, 200))
def test_a_point_is_good_exactly_inside_the_frame(x, y):
    inside = 0 <= x < WIDTH and 0 <= y < HEIGHT
    if inside:
        check(points=[(x, y)], labels=[1])
    else:
        with pytest.raises(PromptError, match="outside of the frame"):
            check(points=[(x, y)], labels=[1])


class TestFrames:
    click = Prompt(points=[(1, 1)], labels=[1])

    def check(self, *frames, first=10, end=20, num_frames=100):
        prompts = [FramePrompt(f, self.click) for f in frames]
        check_frames(prompts, first=first, end=end, num_frames=num_frames)

    def test_good(self):
        self.check(None, 10, 19)
        self.check(None, 5000, first=0, end=None, num_frames=None)

    @pytest.mark.parametrize(
        ("frame", "message"),
        [
            (100, "is for frame 100, but the source has 100 frames, numbered from 0 to 99"),
            (20, "the last frame to be processed is 19"),
            (9, "processing starts at frame 10"),
        ],
    )
    def test_bad(self, frame, message):
        with pytest.raises(PromptError, match=message):
            self.check(10, frame)

    def test_none(self):
        with pytest.raises(PromptError, match="no prompt was given"):
            self.check()
