"""VRC of single layers: what it leaves alone, and who has to confirm a change."""

from typing import Any

import pytest
import torch
from torch import nn

from qsam2_deploy.calibration.config import CalibrationConfig
from qsam2_deploy.calibration.vrc import VrcReport
from qsam2_deploy.calibration.weights import calibrate_weights
from qsam2_deploy.quant.layers.modules import LayerPlan

INSIDE, OUTSIDE = "image_encoder.layer", "memory_attention.layer"


def _calibrate(
    images: list[torch.Tensor], name: str = INSIDE, **settings: Any
) -> tuple[VrcReport, torch.Tensor, torch.Tensor]:
    """Return the report on a layer ``[5, 6]``, and its weight before and after."""
    torch.manual_seed(0)
    layer = nn.Linear(6, 5).requires_grad_(False)
    before = layer.weight.clone()
    config = CalibrationConfig(**{"vrc": "trace", "vrc_lambda": 0.1, **settings})
    plan = {name: LayerPlan(4, 4)}
    reports = calibrate_weights(lambda: layer, {name: layer}, images, plan, config)
    return reports[name], before, layer.weight


def _random(count: int, scales: torch.Tensor, tokens: int = 40) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(1, tokens, 6, generator=generator) * scales for _ in range(count)]


@pytest.mark.parametrize("mode", ["absolute", "noise", "target", "trace"])
def test_inputs_that_are_all_zero_leave_the_weights(mode):
    report, before, after = _calibrate([torch.zeros(1, 40, 6)] * 4, vrc=mode, vrc_lambda=0.5)
    assert not report.applied
    assert torch.equal(before, after)
    assert report.std_ratio == 1.0


def test_only_held_out_inputs_leave_the_weights():
    """A layer that ran on the held-out image alone has no samples to be calibrated on."""
    images = [torch.zeros(1, 0, 6)] * 3 + _random(1, torch.ones(6))
    report, before, after = _calibrate(images)
    assert not report.applied
    assert torch.equal(before, after)


@pytest.mark.parametrize("mode", ["absolute", "noise", "target", "trace"])
def test_a_singular_matrix_is_solved(mode):
    scales = torch.tensor([1.0, 1.0, 1.0, 0.5, 0.0, 0.0])
    report, before, after = _calibrate(_random(8, scales), vrc=mode, vrc_lambda=0.001)
    assert report.applied
    assert report.condition_number == torch.inf
    assert not after[:, 4:].any()
    torch.testing.assert_close(after[:, :4], before[:, :4], atol=0.02, rtol=0.02)


def test_too_few_inputs_leave_the_weights():
    report, before, after = _calibrate(_random(1, torch.ones(6), tokens=11))
    assert not report.applied
    assert torch.equal(before, after)
    assert _calibrate(_random(1, torch.ones(6), tokens=12))[0].applied


def test_outside_of_the_encoder_held_out_images_confirm():
    used = torch.tensor([1.0, 1.0, 1.0, 1e-3, 1e-3, 1e-3])
    images = _random(8, used)
    for index in (3, 7):  # those that are held out, which use all channels
        images[index] = _random(1, torch.ones(6))[0]
    assert _calibrate(images, INSIDE)[0].applied
    report, before, after = _calibrate(images, OUTSIDE)
    assert not report.applied
    assert torch.equal(before, after)
    report, before, after = _calibrate(_random(8, used), OUTSIDE, vrc="noise", vrc_lambda=None)
    assert report.applied
    assert report.std_ratio < 1


def test_the_numbers_behind_the_report():
    report, before, after = _calibrate(_random(8, torch.ones(6)))
    assert report.weights == 30
    assert report.norm_ratio == pytest.approx(float(after.norm() / before.norm()), rel=1e-5)
    assert report.norm_ratio != report.std_ratio
    assert report.std_before == pytest.approx(float(before.double().std()))
