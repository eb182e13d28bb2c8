"""What is done for the quantizers beside the optimizer."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from qsam2_deploy.errors import TrainingError
from qsam2_deploy.quant.layers.modules import LayerPlan, quantize_layers
from qsam2_deploy.training.config import QuantizerTraining
from qsam2_deploy.training.distributed import World
from qsam2_deploy.training.model.quantizers import QuantizerTrainer
from tests.training.small import CPU

CONFIG = QuantizerTraining(observe_first=2, observe_every=3, freeze=0.4)


def small_model(bits=4, method="lsc", **plan):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3))
    plan = LayerPlan(bits, bits, method, **plan)
    for layer in quantize_layers(model, {"0": plan, "2": plan}).values():
        rows = layer.weight_rows().detach()
        layer.weight_quantizer.warm_start(2 * rows.std(1), rows.std(1), rows.mean(1))
        layer.input_quantizer.warm_start(*(torch.tensor(v) for v in (2.0, 1.0, 0.0, -2.0)))
    return model


def trainer_of(model, steps=10, **changes):
    return QuantizerTrainer(model, replace(CONFIG, **changes), steps, CPU)


def run_step(trainer, model, step, x):
    with trainer.training():
        with trainer.forward(step, len(x)):
            loss = model(x).square().mean()
        loss.backward()
    return trainer.end_step(step, ("some clip",))


def test_which_steps_update_statistics():
    trainer = trainer_of(small_model())
    assert [trainer.observes(step) for step in range(10)] == [
        True, True, False, True, False, False, False, False, False, False,
    ]  # fmt: skip
    assert [trainer.freezes(step) for step in range(10)] == [False] * 6 + [True] * 4


def test_a_step_uses_the_statistics_of_those_before_it():
    model, x = small_model(), 5 * torch.randn(64, 8)
    trainer, quantizer = trainer_of(model), model[0].input_quantizer
    before, weight_sigma = quantizer.sigma.clone(), model[0].weight_quantizer.sigma.clone()
    seen = []
    model[0].register_forward_hook(lambda *_: seen.append(quantizer.sigma.clone()))
    with trainer.training(), trainer.forward(0, 64):
        model.train()(x)
        model(x)
    assert seen == [before, before]
    trainer.end_step(0)
    # Once for both calls: 0.99 of the old one.
    assert float(quantizer.sigma) == pytest.approx(0.99 + 0.01 * float(x.std(correction=0)))
    rows = model[0].weight_rows().detach()
    expected = 0.99 * weight_sigma + 0.01 * rows.std(1, correction=0)
    torch.testing.assert_close(model[0].weight_quantizer.sigma, expected)


def test_statistics_move_in_some_steps_and_not_at_the_end():
    model, x = small_model(), 5 * torch.randn(64, 8)
    trainer, weight_sigma = trainer_of(model), float(model[0].weight_quantizer.sigma[0])
    with torch.no_grad():
        model[0].weight.mul_(3)
    sigmas = []
    for step in range(10):
        notes = run_step(trainer, model.train(), step, x)
        assert bool(notes) == (step == 5)
        layer = model[0]
        sigmas.append((float(layer.input_quantizer.sigma), float(layer.weight_quantizer.sigma[0])))
    before = [(1.0, weight_sigma), *sigmas]
    for step, (old, new) in enumerate(zip(before, sigmas, strict=False)):
        moved = [a != b for a, b in zip(old, new, strict=True)]
        assert moved == [trainer.observes(step)] * 2


def test_widths_come_down():
    model = small_model(bits=2)
    trainer = trainer_of(model, lower=((0.3, 8), (0.6, 4)), freeze=0.5)
    assert [trainer.least_bits(step) for step in range(10)] == [8] * 3 + [4] * 3 + [0] * 4
    assert trainer_of(model, 2, lower=((0.99, 8),)).least_bits(1) == 0
    torch.manual_seed(0)
    x = 5 * torch.randn(64, 8)
    with torch.no_grad(), trainer.calibration(64):
        model.eval()(x)
    errors = []
    for step in range(10):
        bits = {quantizer.grid.bits for quantizer in trainer._quantizers}
        assert bits == {max(2, trainer.least_bits(step))}
        quantizer = model[0].input_quantizer
        with torch.no_grad():
            errors.append(float((quantizer.eval()(x) - x).norm() / x.norm()))
        notes = run_step(trainer, model.train(), step, x)
        assert [note for note in notes if "lowest width" in note] == {
            2: ["the lowest width is 4 bits from now on"],
            5: ["the lowest width is 2 bits from now on"],
        }.get(step, [])
    # As good as each width can be: the steps are started from this very data.
    assert errors[0] < 0.02 < errors[3] < 0.2 < errors[6] < 0.5


def test_widths_come_down_on_other_grids():
    model = small_model(bits=2, weight_grid="midrise", input_grid="affine")
    trainer = trainer_of(model, lower=((0.3, 8), (0.6, 4)), freeze=0.5)
    torch.manual_seed(0)
    x = nn.functional.gelu(3 * torch.randn(64, 8))
    with torch.no_grad(), trainer.calibration(64):
        model.eval()(x)
    errors, layer = [], model[0]
    for step in range(10):
        weights, inputs = layer.weight_quantizer.grid, layer.input_quantizer.grid
        assert (weights.kind, inputs.kind) == ("midrise", "affine")
        least = max(2, trainer.least_bits(step))
        assert (weights.bits, inputs.bits) == (min(least, 7), least)
        pairs = [(layer.input_quantizer, x), (layer.weight_quantizer, layer.weight.detach())]
        with torch.no_grad():
            errors.append([float((q.eval()(v) - v).norm() / v.norm()) for q, v in pairs])
        run_step(trainer, model.train(), step, x)
    assert all(errors[0][i] < 0.03 < errors[3][i] < 0.2 < errors[6][i] < 0.5 for i in range(2))


def test_weights_that_are_measured_anew_are_so_in_every_step():
    model, x = small_model(bits=3, method="statsq"), torch.randn(16, 8)
    trainer, quantizer = trainer_of(model), model[0].weight_quantizer
    for step in range(10):
        with torch.no_grad():
            model[0].weight.mul_(1.1)
        before = quantizer.scale
        run_step(trainer, model.train(), step, x)
        expected = model[0].weight.detach().abs().mean(1) / 2
        wanted = before if trainer.freezes(step) else expected
        torch.testing.assert_close(quantizer.scale, wanted)


def test_the_penalty_of_pact_is_added_to_the_gradients():
    model, x = small_model(method="pact"), torch.randn(16, 8)
    grads = {}
    for weight in (0.0, 0.5):
        trainer = trainer_of(model, penalty=weight)
        model.zero_grad()
        with trainer.training():
            model.train()(x).square().mean().backward()
        trainer.add_penalty()
        grads[weight] = model[0].input_quantizer.log_factor.grad.clone()
    # The threshold is 2: the slope of its square along its logarithm is 2 * 2^2.
    assert float((grads[0.5] - grads[0.0]).detach()) == pytest.approx(0.5 * 8.0)
    trainer = trainer_of(small_model())
    trainer.add_penalty()
    assert all(p.grad is None for layer in trainer.layers.values() for p in layer.parameters())


@pytest.mark.parametrize("method", ["lsc", "lsq"])
def test_gradients_of_inputs_count_the_values_of_all_processes(monkeypatch, method):
    """With a quarter of the values the root of their number is half of what it is for all."""
    x, two = torch.randn(16, 8), World(0, 2, CPU.device)
    monkeypatch.setattr(World, "_sums", lambda self, counts: [8.0, 64.0])
    grads = []
    for world in (None, two):
        model = small_model(method=method)
        trainer = QuantizerTrainer(model, CONFIG, 10, world or CPU)
        if world is not None:
            trainer.share_batch(4, 16)  # of 8 images and 64 objects
        model.train()(x).square().mean().backward()
        quantizers = (model[0].input_quantizer, model[0].weight_quantizer)
        grads.append([next(quantizer.parameters()).grad for quantizer in quantizers])
    (inputs_alone, weights_alone), (inputs, weights) = grads
    assert float(inputs_alone) != 0
    torch.testing.assert_close(inputs, 0.5 * inputs_alone)
    torch.testing.assert_close(weights, weights_alone)


@pytest.mark.parametrize("method", ["lsq", "lsq+", "pact", "sawb", "statsq", "minmax", "lsc"])
@pytest.mark.parametrize("granularity", ["channel", "tensor"])
def test_every_quantizer_is_trained(method, granularity):
    model, x = small_model(bits=3, method=method, granularity=granularity), torch.randn(64, 8)
    model.requires_grad_(True)
    trainer = trainer_of(model, 20, lower=((0.4, 5),))
    with torch.no_grad(), trainer.calibration(64):
        model.eval()(x)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    target, losses = 2 * torch.randn(64, 3), []
    for step in range(20):
        with trainer.training():
            with trainer.forward(step, len(x)):
                loss = (model.train()(x) - target).square().mean()
            optimizer.zero_grad()
            loss.backward()
        trainer.add_penalty()
        optimizer.step()
        trainer.end_step(step, ("some clip",))
        losses.append(float(loss.detach()))
    assert losses[7] < losses[0]
    assert losses[-1] < losses[8] + 0.1
    for quantizer in trainer._quantizers:
        assert quantizer.grid.bits == 3
        assert torch.isfinite(quantizer.scale).all()
        assert all(torch.isfinite(p).all() for p in quantizer.parameters())


def test_a_model_at_its_own_widths_is_left_alone():
    model = small_model(bits=8)
    before = model[0].weight_quantizer.scale
    trainer = trainer_of(model, lower=((0.5, 4),))
    trainer.set_widths(0)
    assert model[0].weight_quantizer.grid.bits == 8
    assert torch.equal(model[0].weight_quantizer.scale, before)


@pytest.mark.parametrize("bad", [-20.0, float("nan")])
def test_a_clip_that_runs_to_zero_begins_anew_and_is_reported(bad):
    model = small_model()
    trainer, quantizer = trainer_of(model, 30), model[0].weight_quantizer
    start = quantizer.log_alpha.detach().clone()
    with torch.no_grad():
        quantizer.log_alpha[1] = bad
        quantizer.log_alpha[2] += 0.5
    assert trainer.end_step(7) == []  # looked at every ten steps
    assert trainer.end_step(9) == [
        "1 clips ran towards zero and begin anew; quantizers.rate may be too high"
    ]
    start[2] += 0.5
    assert torch.equal(quantizer.log_alpha.detach(), start)
    assert float(quantizer.scale.min()) > 0
    assert trainer.end_step(19) == []


def test_activations_that_are_not_finite():
    model, x = small_model(), torch.randn(16, 8)
    trainer = trainer_of(model)
    x[3, 2] = float("inf")
    before = model[0].input_quantizer.sigma.clone()
    with pytest.raises(
        TrainingError, match="inputs of 0 are not finite; the batch was made of some clip"
    ):
        run_step(trainer, model.train(), 0, x)
    assert torch.equal(model[0].input_quantizer.sigma, before)


@pytest.mark.parametrize("method", ["lsc", "minmax"])
def test_copies(method):
    model, other = small_model(2, method), small_model(2, method)
    trainer = trainer_of(model, lower=((0.5, 8),))
    with torch.no_grad(), trainer.calibration(8):
        model(torch.randn(8, 8))
    trainer.copy_to(other)
    for name in ("0", "2"):
        ours, theirs = model.get_submodule(name), other.get_submodule(name)
        for part in ("weight_quantizer", "input_quantizer"):
            assert getattr(theirs, part).grid.bits == 8
            assert torch.equal(getattr(theirs, part).scale, getattr(ours, part).scale)


def test_a_float_model_is_nobodys_business():
    model = nn.Linear(3, 3)
    trainer = trainer_of(model, lower=((0.5, 8),))
    assert not trainer.observes(0)
    assert not trainer.lowers_after(4)
    assert run_step(trainer, model, 0, torch.randn(2, 3)) == []
