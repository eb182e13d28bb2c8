"""The logarithmic grid of probabilities, and quantized attention products."""

import pytest
import torch
from sam2.modeling.backbones.hieradet import MultiScaleAttention

from qsam2_deploy.calibration.data import calibration_images
from qsam2_deploy.calibration.ptq.attention import (
    TAUS,
    QuantizedAttention,
    log_quantize,
    quantized_attention,
)
from tests.support.weights import load_written


@pytest.mark.parametrize("tau", TAUS)
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_the_logarithmic_grid(bits, tau):
    values = torch.rand(5000, generator=torch.Generator().manual_seed(0)) ** 4
    found = log_quantize(values, bits, tau)
    used = found[found > 0]
    codes = -tau * torch.log2(used)
    torch.testing.assert_close(codes, codes.round(), atol=1e-3, rtol=0)
    assert float(codes.round().max()) <= 2**bits - 2
    # In logarithms the error is at most half a level, and what is below the last level is zero.
    inside = found > 0
    assert float((torch.log2(used) - torch.log2(values[inside])).abs().max()) <= 0.5 / tau + 1e-4
    smallest = 2.0 ** (-(2**bits - 2 + 0.5) / tau)
    assert bool((values[~inside] <= smallest * 1.0001).all())
    assert torch.equal(log_quantize(torch.tensor([0.0, 1.0]), bits, tau), torch.tensor([0.0, 1.0]))


def test_more_levels_for_more_bits(float_checkpoint, photos):
    model = load_written(float_checkpoint).model
    encoder = model.image_encoder
    images = calibration_images(photos, 128, limit=2)
    with torch.no_grad():
        exact = encoder(images[0])["vision_features"]
    errors = []
    for bits in (3, 5, 8):
        with quantized_attention(encoder, images, bits), torch.no_grad():
            found = encoder(images[0])["vision_features"]
        errors.append(float((found - exact).norm() / exact.norm()))
    assert errors[0] > 1.5 * errors[1] > 1.5 * errors[2] > 0
    assert errors[2] < 0.05
    with torch.no_grad():
        assert torch.equal(encoder(images[0])["vision_features"], exact)


@pytest.mark.parametrize(("sharpness", "expected"), [(0.1, 1), (30.0, 2)])
def test_tau_has_the_least_error_of_the_output(sharpness, expected):
    """Even probabilities want levels that reach far down, nearly one-hot ones want fine ones."""
    torch.manual_seed(0)
    attention = MultiScaleAttention(16, 16, num_heads=2)
    with torch.no_grad():
        attention.qkv.weight[:32].mul_(sharpness)
        quantized, x = QuantizedAttention(attention, 3), torch.randn(1, 8, 8, 16)
        exact = quantized(x)
        quantized.settle()
        # Queries, keys and values stay as they are, so that only tau makes a difference.
        quantized.steps = dict.fromkeys("qkv", torch.tensor(1.0))
        quantized._quantized = lambda t, part: t
        errors = {}
        chosen = quantized.tau
        for quantized.tau in TAUS:
            errors[quantized.tau] = float((quantized(x) - exact).square().sum())
    assert chosen == min(TAUS, key=lambda tau: errors[tau]) == expected


def test_while_it_is_observed_attention_is_float(float_checkpoint):
    """In every block, with pooled queries and without, and in more than one chunk of queries."""
    model = load_written(float_checkpoint).model
    generator = torch.Generator().manual_seed(0)
    for block in model.image_encoder.trunk.blocks:
        attention = block.attn
        x = torch.randn(2, 24, 24, attention.dim, generator=generator)
        with torch.no_grad():
            expected = attention(x)
            found = QuantizedAttention(attention, 4)(x)
        tolerance = 1e-5 * float(expected.abs().max())
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=tolerance)
