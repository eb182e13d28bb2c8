"""The comparison of records sees what it should see."""

import numpy as np
import pytest

from tests.parity.compare import compare, mask_iou, relative_difference
from tests.parity.session import Step


def _steps(change: float = 0.0, *, label: str = "track") -> list[Step]:
    logits = np.linspace(-10, 10, 2000, dtype=np.float32).reshape(2, 1, 25, 40)
    logits[0, 0, 0, 0] += change
    return [Step(label, 3, (1, 2), logits)]


def test_equal_records_are_equal():
    difference = compare(_steps(), _steps())
    assert difference.equal
    assert difference.logits == 0
    assert difference.iou == 1
    assert difference.frames == 1


def test_difference_is_relative_to_the_range_of_the_object():
    difference = compare(_steps(), _steps(0.1))
    assert difference.logits == pytest.approx(0.1 / 10, rel=1e-2)
    assert not difference.equal


def test_range_of_an_absent_object_is_not_zero():
    absent = np.full((1, 4, 4), -1024, np.float32)
    assert relative_difference(absent, absent + 1) == 1


@pytest.mark.parametrize(
    "ours",
    [[], _steps(label="prompt"), [Step("track", 4, (1, 2), _steps()[0].logits)],
     [Step("track", 3, (2, 1), _steps()[0].logits)],
     [Step("track", 3, (1, 2), _steps()[0].logits[:, :, :-1])],
     _steps(float("nan"))],
    ids=["missing", "label", "frame", "objects", "shape", "not finite"],
)  # fmt: skip
def test_other_steps_are_refused(ours):
    with pytest.raises(AssertionError):
        compare(_steps(), ours)


def test_empty_records_are_refused():
    with pytest.raises(AssertionError, match="empty"):
        compare([], [])


def test_overlap_of_masks():
    full, none = np.ones((2, 2), np.bool_), np.zeros((2, 2), np.bool_)
    half = np.array([[True, True], [False, False]])
    assert mask_iou(none, none) == 1
    assert mask_iou(full, none) == 0
    assert mask_iou(full, half) == 0.5


def test_one_pixel_may_flip_but_not_two():
    logits = np.full((1, 1, 4, 4), -1e-7, np.float32)
    logits[0, 0, 0] = 1.0
    one, two = logits.copy(), logits.copy()
    one[0, 0, 1, 0] = two[0, 0, 1, :2] = 1e-7
    assert compare([Step("x", 0, (1,), logits)], [Step("x", 0, (1,), one)]).equal
    assert not compare([Step("x", 0, (1,), logits)], [Step("x", 0, (1,), two)]).equal
