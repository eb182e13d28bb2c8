"""Samples of activations for the statistics of quantizers."""

import pytest
import torch
from torch import nn

from qsam2_deploy.quant.layers.modules import LayerPlan, quantize_layers
from qsam2_deploy.quant.quantizers.quantizer import make_quantizer
from qsam2_deploy.training.inputs.samples import InputSamples, sample

LSC, MINMAX = make_quantizer("lsc", 4), make_quantizer("minmax", 4)


@pytest.mark.parametrize("shape", [(4, 64, 64, 48), (4, 4096, 32), (4, 16, 64, 64)])
def test_a_sample_is_small_and_fair(shape):
    torch.manual_seed(0)
    x = (
        torch.randn(shape) * torch.arange(1, shape[-1] + 1)
        + torch.arange(shape[1])[(None, slice(None), *[None] * (len(shape) - 2))]
    )
    found = sample(x, 4, LSC)
    assert 1000 < found.numel() / 4 < 9000
    assert float(found.std()) == pytest.approx(float(x.std()), rel=0.1)
    assert float(found.mean()) == pytest.approx(float(x.mean()), rel=0.1)


def test_every_row_of_a_map_gets_its_turn():
    """Were the stride a multiple of the height, one row alone would be seen."""
    x = torch.arange(64.0)[None, None, :, None].expand(2, 128, 64, 64)
    assert len(sample(x, 2, LSC).unique()) == 64


@pytest.mark.parametrize("windows", [1, 9])
def test_processes_that_share_a_batch_take_what_one_would(windows):
    x = torch.randn(6 * windows, 14, 14, 24)
    together = sample(x, 6, LSC)
    apart = torch.cat([sample(part, 3, LSC) for part in x.chunk(2)])
    assert torch.equal(together, apart)
    assert together.numel() < x.numel() or windows == 1


@pytest.mark.parametrize("quantizer", [MINMAX, make_quantizer("sawb", 8)])
def test_extremes_are_there_for_those_who_need_them(quantizer):
    torch.manual_seed(0)
    x = torch.randn(3, 5000, 40)
    found = sample(x, 3, quantizer)
    assert torch.equal(torch.stack(torch.aminmax(found)), torch.stack([x.min(), x.max()]))
    assert torch.equal(found[:-2], sample(x, 3, LSC))
    assert torch.equal(sample(x, 3, make_quantizer("sawb", 4)), sample(x, 3, LSC))
    assert float(sample(x, 3, LSC).abs().max()) < float(x.abs().max())


def test_small_inputs_are_taken_whole():
    x = torch.randn(5, 32, dtype=torch.bfloat16)
    assert torch.equal(sample(x, 5, LSC), x.float().flatten())
    assert sample(torch.tensor([3.0, 4.0]), 7, LSC).tolist() == [3.0, 4.0]


def test_only_what_is_recorded_is_taken():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    layers = quantize_layers(model, {"0": LayerPlan(4, 4), "1": LayerPlan(4, 4)})
    samples = InputSamples({name: layer.input_quantizer for name, layer in layers.items()})
    ones = torch.ones(2, 4)
    model[0](ones)
    with samples.recorded(2):
        model[0](2 * ones)
        model[0](3 * ones)
    model[0](4 * ones)
    taken = samples.take()
    assert sorted(taken["0"].tolist()) == [2.0] * 8 + [3.0] * 8
    assert taken["1"].numel() == 0
    assert samples.take()["0"].numel() == 0
