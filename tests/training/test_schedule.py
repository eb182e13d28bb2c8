"""Learning rates, groups of parameters, the average of the weights."""

import math

import pytest
import torch
from torch import nn

from qsam2_deploy.quant.layers.modules import LayerPlan, quantize_layers
from qsam2_deploy.training.config import Stage
from qsam2_deploy.training.run.schedule import (
    learning_rate,
    parameter_groups,
    set_learning_rate,
    update_average,
)

STAGE = Stage("s", steps=100, frames=1, clips=1, image_size=32, learning_rate=(1e-3, 1e-4))


def rates(warmup):
    return [learning_rate(STAGE, step, warmup) for step in range(STAGE.steps)]


def test_cosine():
    found = rates(0)
    assert found[0] == pytest.approx(1e-3)
    assert found[50] == pytest.approx(0.5 * (1e-3 + 1e-4))
    assert found[25] == pytest.approx(1e-4 + 9e-4 * (1 + math.sqrt(0.5)) / 2)
    assert found[-1] == pytest.approx(1e-4, rel=0.01)
    assert found == sorted(found, reverse=True)


def test_warm_up():
    plain, warm = rates(0), rates(10)
    for step in range(10):
        assert warm[step] == pytest.approx(plain[step] * (step + 1) / 10)
    assert warm[10:] == plain[10:]


def test_decay_on_matrices_only():
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.LayerNorm(3), nn.Linear(3, 4))
    model[2].bias.requires_grad_(False)
    decayed, plain = parameter_groups(model, 0.05)
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.05, 0.0)
    assert [p.ndim for p in decayed["params"]] == [4, 2]
    assert [p.ndim for p in plain["params"]] == [1, 1, 1]


def test_average():
    """a <- d a + (1 - d) w with d = min(decay, (s + 1) / (s + 20)), and buffers as they are."""
    average, model = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    torch.nn.init.constant_(average.weight, 0.0)
    wanted = 0.0
    for step in range(200):
        value = math.sin(step)
        torch.nn.init.constant_(model.weight, value)
        model.running_mean.fill_(value)
        update_average(average, model, step, 0.9)
        decay = min(0.9, (step + 1) / (step + 20))
        wanted = decay * wanted + (1 - decay) * value
        assert average.weight.tolist() == pytest.approx([wanted] * 2, abs=1e-5)
        assert torch.equal(average.running_mean, model.running_mean)
    assert model.weight.tolist() == pytest.approx([value] * 2)


def quantized_layer():
    model = nn.Sequential(nn.Linear(4, 3))
    quantize_layers(model, {"0": LayerPlan(4, 4)})
    return model


def test_quantizers_have_their_own_rate_and_no_decay():
    model = quantized_layer()
    groups = parameter_groups(model, 0.05, 20.0)
    learned = {id(p) for n, p in model.named_parameters() if "quantizer" in n}
    assert {id(p) for p in groups[2]["params"]} == learned
    assert len(learned) == 2
    assert groups[2]["weight_decay"] == 0.0
    optimizer = torch.optim.AdamW(groups)
    set_learning_rate(optimizer, 1e-3)
    assert [group["lr"] for group in optimizer.param_groups] == [1e-3, 1e-3, 0.02]
    assert len(parameter_groups(nn.Linear(2, 2), 0.0, 20.0)) == 2


def test_statistics_of_quantizers_are_averaged():
    """So that the average's steps are of the same age as its weights."""
    average, model = quantized_layer(), quantized_layer()
    average[0].weight_quantizer.sigma.fill_(1.0)
    model[0].weight_quantizer.sigma.fill_(3.0)
    update_average(average, model, 10_000, 0.75)
    sigma = average[0].weight_quantizer.sigma
    assert sigma.tolist() == pytest.approx([0.75 * 1.0 + 0.25 * 3.0] * 3)


def test_no_average():
    average, model = nn.Linear(2, 2), nn.Linear(2, 2)
    update_average(average, model, 0, 0.0)
    assert torch.equal(average.weight, model.weight)
