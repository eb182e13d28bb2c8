"""Plans of prompts, clicks and boxes."""

from collections import Counter

import numpy as np
import pytest
import torch

from qsam2_deploy.training.config import PromptPolicy
from qsam2_deploy.training.inputs.prompts import (
    PromptPlan,
    corrected_points,
    draw_plan,
    first_points,
)

COUNT = 2000


def plans(policy, frames=4, seed=0):
    rng = np.random.default_rng(seed)
    return [draw_plan(policy, frames, rng) for _ in range(COUNT)]


def test_shares():
    drawn = plans(PromptPolicy(points=0.6, box=0.25, corrected_frames=3, from_truth=0.1))
    kinds = Counter(plan.kind for plan in drawn)
    assert kinds["mask"] / COUNT == pytest.approx(0.4, abs=0.04)
    assert kinds["box"] / COUNT == pytest.approx(0.15, abs=0.03)
    assert kinds["click"] / COUNT == pytest.approx(0.45, abs=0.04)
    pointed = [plan for plan in drawn if plan.kind != "mask"]
    counts = Counter(len(plan.corrected) for plan in pointed)
    assert sorted(counts) == [1, 2, 3]
    assert all(n / len(pointed) == pytest.approx(1 / 3, abs=0.05) for n in counts.values())
    from_truth = [drawn for plan in pointed for drawn in plan.from_truth]
    assert len(from_truth) == 7 * len(pointed)
    assert np.mean(from_truth) == pytest.approx(0.1, abs=0.01)


def test_masks_are_never_corrected():
    assert set(plans(PromptPolicy(points=0.0))) == {PromptPlan("mask")}


def test_images_never_get_a_mask():
    for plan in plans(PromptPolicy(points=0.0, corrected_frames=3), frames=1):
        assert plan.kind in ("click", "box")
        assert plan.corrected == (0,)


def test_corrected_frames():
    drawn = plans(PromptPolicy(points=1.0, corrected_frames=9), frames=4)
    later = Counter()
    for plan in drawn:
        assert plan.corrected[0] == 0
        assert list(plan.corrected) == sorted(set(plan.corrected))
        assert max(plan.corrected) < 4
        later.update(plan.corrected[1:])
    assert min(later.values()) == pytest.approx(max(later.values()), rel=0.15)
    assert sorted(later) == [1, 2, 3]


def test_without_corrections():
    for plan in plans(PromptPolicy(points=1.0, corrections=0)):
        assert (plan.corrected, plan.from_truth) == ((), ())


def test_the_same_generator_gives_the_same_plans():
    """Every process draws from the seed and the step alone."""
    policy = PromptPolicy()
    assert plans(policy, seed=5) == plans(policy, seed=5)
    assert plans(policy, seed=5) != plans(policy, seed=6)


@pytest.fixture
def masks():
    masks = torch.zeros(3, 1, 64, 64, dtype=torch.bool)
    for n in range(3):
        masks[n, 0, 10 * n : 10 * n + 20, 5 : 5 + 15 * (n + 1)] = True
    return masks


def test_a_click_is_inside(masks):
    torch.manual_seed(0)
    points = first_points("click", masks)
    assert points["point_coords"].shape == (3, 1, 2)
    assert points["point_labels"].tolist() == [[1], [1], [1]]
    for n, (x, y) in enumerate(points["point_coords"][:, 0].long().tolist()):
        assert masks[n, 0, y, x]


def test_a_box_is_near(masks):
    torch.manual_seed(0)
    points = first_points("box", masks)
    assert points["point_labels"].tolist() == [[2, 3]] * 3
    for n, corners in enumerate(points["point_coords"].tolist()):
        true = torch.tensor([[5, 10 * n], [5 + 15 * (n + 1) - 1, 10 * n + 19]])
        assert (torch.tensor(corners) - true).abs().max() <= 6  # a tenth of each side, at least 1


def test_corrections_are_where_the_prediction_is_wrong(masks):
    torch.manual_seed(0)
    predicted = masks.clone()
    predicted[0, 0, :10] = False  # half of the object is missing
    predicted[1] |= torch.zeros_like(masks[1]).index_fill_(2, torch.arange(60, 64), True)
    first = {"point_coords": torch.zeros(3, 1, 2), "point_labels": torch.ones(3, 1).int()}
    points = corrected_points(first, masks, predicted)
    assert points["point_coords"].shape == (3, 2, 2)
    assert points["point_labels"][:2, 1].tolist() == [1, 0]
    (_, y0), (x1, _) = points["point_coords"][:2, 1].tolist()
    assert y0 < 10
    assert x1 >= 60


def test_corrections_from_the_truth_need_no_earlier_points(masks):
    torch.manual_seed(0)
    points = corrected_points(None, masks, None)
    assert points["point_coords"].shape == (3, 1, 2)
    assert points["point_labels"].tolist() == [[1], [1], [1]]
