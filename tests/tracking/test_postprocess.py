from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qsam2_deploy.spec import NO_OBJ_SCORE, TrackingRules
from qsam2_deploy.tracking.postprocess import (
    fill_holes,
    non_overlapping,
    select_mask,
    small_regions,
    stability_score,
)

RULES = TrackingRules()


def flood_fill(mask: np.ndarray, max_area: int) -> np.ndarray:
    """The same as small_regions, pixel by pixel."""
    left = {(int(y), int(x)) for y, x in np.argwhere(mask)}
    result = np.zeros_like(mask)
    while left:
        region = [left.pop()]
        for y, x in region:
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            region.extend(near)
        if len(region) <= max_area:
            for pixel in region:
                result[pixel] = True
    return result


@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 16), st.integers(1, 16)),
    density=st.floats(0, 1),
    max_area=st.integers(0, 30),
)
@settings(max_examples=200, deadline=None)
def test_small_regions_equal_a_flood_fill(seed, shape, density, max_area):
    mask = np.random.default_rng(seed).random(shape) < density
    np.testing.assert_array_equal(small_regions(mask, max_area), flood_fill(mask, max_area))


def test_small_regions_of_a_spiral_is_one_region():
    mask = np.zeros((9, 9), np.bool_)
    mask[0, :] = mask[:, 8] = mask[8, :] = mask[2:, 0] = mask[2, :7] = mask[2:7, 6] = True
    area = int(mask.sum())
    assert not small_regions(mask, area - 1).any()
    np.testing.assert_array_equal(small_regions(mask, area), mask)


def test_holes_up_to_the_area_are_filled():
    logits = np.full((12, 12), 5, np.float32)
    logits[1, 1] = logits[2, 2] = -1  # touch by a corner: one hole of 2
    logits[5:7, 5:7] = 0  # 0 is background
    logits[11, 11] = -3  # at the border
    filled = fill_holes(logits, 2)
    assert filled.dtype == np.float32
    assert filled[1, 1] == filled[2, 2] == filled[11, 11] == np.float32(0.1)
    np.testing.assert_array_equal(filled[5:7, 5:7], 0)
    assert (fill_holes(logits, 1)[1, 1], fill_holes(logits, 1)[11, 11]) == (-1, np.float32(0.1))
    assert (fill_holes(logits, 4) > 0).all()
    assert logits[1, 1] == -1


def test_nothing_to_fill():
    logits = np.full((4, 4), -1, np.float32)
    assert fill_holes(logits, 8) is logits
    assert fill_holes(-logits, 8).min() == 1
    assert fill_holes(logits, 0) is logits


def test_stability_score_by_hand():
    logits = np.array([[1.0, 0.03, -0.03, -1.0], [1.0, 1.0, 0.05, -0.05]], np.float32)
    np.testing.assert_allclose(stability_score(logits[:, None], 0.05), [1 / 3, 2 / 3])
    assert stability_score(np.full((2, 3, 4, 4), -9, np.float32), 0.05).tolist() == [[1] * 3] * 2


def test_non_overlapping():
    logits = np.array([[3.0, -20.0, 2.0], [1.0, -5.0, 2.0]], np.float32).reshape(2, 1, 1, 3)
    expected = [[3.0, -20.0, 2.0], [-10.0, -5.0, -10.0]]
    np.testing.assert_array_equal(non_overlapping(logits).reshape(2, 3), expected)
    assert non_overlapping(logits[:1]).shape == (1, 1, 1, 3)
    np.testing.assert_array_equal(non_overlapping(logits[:1]), logits[:1])


def candidates(*, stable: bool = True) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Four constant masks; the single one is clear, or sits between the two thresholds."""
    masks = np.stack([np.full((4, 4), 10.0 * k + (5 if stable else 0.01)) for k in range(4)])
    ious = np.array([0.99, 0.2, 0.7, 0.4], np.float32)
    pointers = np.arange(4, dtype=np.float32)[:, None].repeat(3, axis=1)
    return masks.astype(np.float32), ious, pointers


@pytest.mark.parametrize(
    ("multimask", "stable", "rules", "mask", "pointer"),
    [
        (True, True, RULES, 2, 2),
        (True, False, RULES, 2, 2),
        (True, True, replace(RULES, use_multimask_token_for_obj_ptr=False), 2, 0),
        (False, True, RULES, 0, 0),
        (False, False, RULES, 2, 0),
        (False, False, replace(RULES, dynamic_multimask_via_stability=False), 0, 0),
        (False, False, replace(RULES, dynamic_multimask_stability_thresh=0.0), 0, 0),
        (False, False, replace(RULES, dynamic_multimask_stability_delta=0.001), 0, 0),
    ],
)
def test_select_mask(multimask, stable, rules, mask, pointer):
    masks, ious, pointers = candidates(stable=stable)
    chosen = select_mask(masks, ious, pointers, 1.0, multimask=multimask, rules=rules)
    np.testing.assert_array_equal(chosen[0], masks[mask])
    assert chosen[1] == pytest.approx(float(ious[mask]))
    np.testing.assert_array_equal(chosen[2], pointers[pointer])


@pytest.mark.parametrize("score", [0.0, -3.0])
@pytest.mark.parametrize("multimask", [True, False])
def test_absent_object_is_blanked_after_the_choice(score, multimask):
    masks, ious, pointers = candidates(stable=False)
    mask, iou, pointer = select_mask(masks, ious, pointers, score, multimask=multimask, rules=RULES)
    np.testing.assert_array_equal(mask, np.full((4, 4), NO_OBJ_SCORE, np.float32))
    assert mask.dtype == np.float32
    # A blank mask would be called stable; the quality shows that the fallback came first.
    assert iou == pytest.approx(0.7)
    np.testing.assert_array_equal(pointer, pointers[2 if multimask else 0])
