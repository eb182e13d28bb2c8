import copy
import dataclasses
import pickle
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest

from qsam2_deploy.predictors.segmenter import VideoSegmenter
from qsam2_deploy.tracking import enlarged_masks
from qsam2_deploy.tracking.postprocess import non_overlapping
from qsam2_deploy.tracking.resize import resize_bilinear
from qsam2_deploy.tracking.results import ObjectResult
from tests.predictors.stream import HEIGHT, WIDTH, click, frame

LOW = np.linspace(-1, 1, 16, dtype=np.float32).reshape(4, 4)


def _lazy(calls: list[int]) -> ObjectResult:
    def enlarge() -> np.ndarray:
        calls.append(1)
        return np.kron(LOW, np.ones((2, 2), np.float32))

    return ObjectResult.lazy(3, LOW, -0.5, enlarge)


def test_masks_are_made_once_when_they_are_read():
    calls: list[int] = []
    result = _lazy(calls)
    assert (result.object_id, result.score, result.visible) == (3, -0.5, False)
    assert result.low_res_logits is not None
    np.testing.assert_array_equal(result.low_res_logits, LOW)
    assert not calls
    mask, logits = result.mask, result.logits
    assert (type(mask), mask.dtype, logits.dtype) == (np.ndarray, np.bool_, np.float32)
    np.testing.assert_array_equal(mask, logits > 0)
    assert result.mask is mask
    assert result.logits is logits
    assert calls == [1]


def test_low_resolution_logits_belong_to_the_memory():
    result = _lazy([])
    assert result.low_res_logits is not None
    with pytest.raises(ValueError, match="read-only"):
        result.low_res_logits[0] = 0
    assert LOW.flags.writeable


def test_a_lazy_result_is_a_dataclass_as_ever():
    result = _lazy([])
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.score = 1.0
    with pytest.raises(AttributeError, match="'ObjectResult' object has no attribute 'iou'"):
        result.iou  # noqa: B018
    changed = dataclasses.replace(result, score=2.0)
    assert changed.score == 2
    np.testing.assert_array_equal(changed.logits, result.logits)
    assert set(dataclasses.asdict(result)) == {
        "object_id", "mask", "logits", "score", "visible", "low_res_logits",
    }  # fmt: skip
    pickled = pickle.loads(pickle.dumps(_lazy([])))
    for again in (copy.copy(_lazy([])), copy.deepcopy(_lazy([])), pickled):
        np.testing.assert_array_equal(again.mask, result.mask)
        assert again.object_id == 3


def test_a_result_can_be_made_by_hand():
    mask = np.ones((2, 2), bool)
    result = ObjectResult(1, mask, mask.astype(np.float32), 3.0, True)
    assert result.mask is mask
    assert result.low_res_logits is None


def test_threads_get_the_same_array():
    barrier = Barrier(4)
    result = ObjectResult.lazy(1, LOW, 1.0, lambda: (barrier.wait(10), LOW.copy())[1])
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: result.logits, range(4)))
    assert all(array is found[0] for array in found)


@pytest.fixture
def resized(monkeypatch) -> list[tuple[int, ...]]:
    """Write down the shapes of what is enlarged."""
    shapes: list[tuple[int, ...]] = []

    def noting(x: np.ndarray, height: int, width: int) -> np.ndarray:
        shapes.append(x.shape)
        return resize_bilinear(x, height, width)

    monkeypatch.setattr(enlarged_masks, "resize_bilinear", noting)
    return shapes


def test_only_what_is_asked_for_is_enlarged(segmenter, resized):
    segmenter.track(frame(0), [click(1), click(2, 20), click(3, 25)])
    result = segmenter.track(frame(1))
    assert [item.visible for item in result.objects] == [True] * 3
    assert resized == []
    assert result[2].mask.shape == (HEIGHT, WIDTH)
    assert resized == [(8, 8)]


def test_an_old_result_stays_what_it_was(segmenter):
    first = segmenter.track(frame(0), [click(1)])
    untouched = segmenter.track(frame(1))
    before = resize_bilinear(np.array(untouched[1].low_res_logits), HEIGHT, WIDTH)
    refined = segmenter.refine(click(1, 25))
    segmenter.track(frame(2))
    segmenter.reset()
    np.testing.assert_array_equal(untouched[1].logits, before)
    assert not np.array_equal(refined[1].logits, before)
    assert first[1].logits.shape == (HEIGHT, WIDTH)


def test_masks_that_must_not_overlap_are_enlarged_together(backend, resized):
    with VideoSegmenter(backend, non_overlap_masks=True) as segmenter:
        result = segmenter.track(frame(0), [click(1), click(2, 20)])
        low = np.stack([np.array(item.low_res_logits) for item in result.objects])
        expected = non_overlapping(resize_bilinear(low, HEIGHT, WIDTH)[:, None])[:, 0]
        for item, logits in zip(reversed(result.objects), expected[::-1], strict=True):
            np.testing.assert_array_equal(item.logits, logits)
    assert resized == [(2, 8, 8)]
