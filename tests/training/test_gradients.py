"""Clipping of gradients, and those that are not finite."""

import pytest
import torch
from torch import nn

from qsam2_deploy.training.model.gradients import clip_gradients


def model_with_gradients(factor=1.0):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3), nn.Linear(3, 2))
    for parameter in model.parameters():
        parameter.grad = factor * torch.randn_like(parameter)
    model[1].bias.grad = None  # had no part in the step
    return model


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("factor", [1e-3, 1.0, 1e6, 0.0])
def test_equal_to_clip_grad_norm(factor):
    ours, theirs = model_with_gradients(factor), model_with_gradients(factor)
    assert clip_gradients(ours, 0.5) == []
    nn.utils.clip_grad_norm_(theirs.parameters(), 0.5)
    found, wanted = gradients(ours), gradients(theirs)
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    norm = float(torch.cat([gradient.flatten() for gradient in found.values()]).norm())
    assert norm == pytest.approx(0.5) if factor >= 1 else norm < 0.5


@pytest.mark.parametrize("bad", ["inf", "-inf", "nan"])
def test_gradients_that_are_not_finite_are_named_and_nothing_is_scaled(bad):
    model = model_with_gradients()
    model[0].weight.grad[1, 2] = model[2].bias.grad[0] = float(bad)
    before = gradients(model)
    assert clip_gradients(model, 0.5) == ["0.weight", "2.bias"]
    after = gradients(model)
    torch.testing.assert_close(after, before, rtol=0, atol=0, equal_nan=True)


def test_a_norm_that_overflows():
    """Each gradient has a norm in float32, but not all together."""
    model = model_with_gradients()
    model[0].weight.grad.fill_(0)[0, 0] = 1.5e19
    model[2].weight.grad.fill_(0)[0, 0] = 1.6e19
    assert clip_gradients(model, 0.5) == ["2.weight"]


def test_no_gradients():
    assert clip_gradients(nn.Linear(2, 2), 1.0) == []
