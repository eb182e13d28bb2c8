"""Folding signs changes no float output; it is done only where keys have two peaks."""

import pytest
import torch
from sam2.modeling.sam.transformer import Attention, RoPEAttention

from qsam2_deploy.calibration.data import calibration_images
from qsam2_deploy.calibration.histogram import Histogram
from qsam2_deploy.calibration.ptq.options import PtqOptions
from qsam2_deploy.calibration.ptq.ptq4sam import Ptq4SamPtq
from qsam2_deploy.calibration.ptq.sign_fold import (
    fold_signs,
    foldable_attentions,
    is_bimodal,
    key_statistics,
)
from tests.support.weights import load_written

RANDOM = torch.Generator().manual_seed(0)


def _histogram(values: torch.Tensor) -> Histogram:
    histogram = Histogram()
    histogram.add(values, float(values.abs().max()))
    return histogram


def test_two_peaks_on_either_side_of_zero():
    noise = torch.randn(20_000, generator=RANDOM)
    assert is_bimodal(_histogram(torch.cat([noise * 0.5 + 3, noise * 0.5 - 3])))
    assert not is_bimodal(_histogram(noise))
    assert not is_bimodal(_histogram(noise * 0.5 + 3))
    # A few outliers are no second peak, and neither is the shoulder of a broad one.
    assert not is_bimodal(_histogram(torch.cat([noise, torch.full((100,), -6.0)])))
    assert not is_bimodal(_histogram(torch.cat([noise + 0.4, noise - 0.4])))


@pytest.mark.parametrize("kind", [Attention, RoPEAttention])
def test_attention_stays_the_same(kind):
    torch.manual_seed(0)
    extra = {"feat_sizes": (4, 4)} if kind is RoPEAttention else {}
    attention = kind(16, 2, **extra).eval().requires_grad_(False)
    x = torch.randn(2, 16, 16)
    before = attention(x, x + 1, x - 1)
    found = foldable_attentions(torch.nn.Sequential(attention))["0"]
    means = torch.randn(16, generator=RANDOM)
    key = attention.k_proj(x)
    count = fold_signs(found, means)
    assert 0 < count < 16
    assert count % found.tied == 0
    changed = attention.k_proj(x)
    assert int((changed != key).any(dim=0).any(dim=0).sum()) == count
    torch.testing.assert_close(attention(x, x + 1, x - 1), before, rtol=0, atol=0)


def test_the_encoder_stays_the_same(float_checkpoint, photos):
    model = load_written(float_checkpoint).model
    image = calibration_images(photos, 128, limit=1)[0]
    blocks = model.image_encoder.trunk.blocks
    for block in blocks:  # two peaks for the keys of every block
        width = block.attn.proj.in_features
        signs = torch.where(torch.arange(width) % 2 == 0, 1.0, -1.0)
        block.attn.qkv.bias[width : 2 * width] = 40 * signs
    with torch.no_grad():
        before = model.image_encoder(image)["vision_features"]
    method = Ptq4SamPtq(PtqOptions())
    method.prepare(model, [image], lambda: model.image_encoder)
    folded = method.notes["folded_channels"]
    # Where queries are pooled, a fold would not be exact.
    pooled = [n for n, block in enumerate(blocks) if block.attn.q_pool is not None]
    assert pooled
    expected = [n for n in range(len(blocks)) if n not in pooled]
    assert list(folded) == [f"image_encoder.trunk.blocks.{n}.attn" for n in expected]
    for n in expected:
        width = blocks[n].attn.proj.in_features
        assert folded[f"image_encoder.trunk.blocks.{n}.attn"] == width // 2
    with torch.no_grad():
        after = model.image_encoder(image)["vision_features"]
    assert torch.equal(after, before)
    statistics = key_statistics(model.image_encoder, foldable_attentions(model), [image])
    assert not any(is_bimodal(seen.histogram) for seen in statistics.values())


def test_keys_of_one_peak_are_left_alone(float_checkpoint, photos):
    model = load_written(float_checkpoint).model
    for block in model.image_encoder.trunk.blocks:
        block.attn.qkv.bias.zero_()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    images = calibration_images(photos, 128, limit=1)
    method = Ptq4SamPtq(PtqOptions())
    method.prepare(model, images, lambda: model.image_encoder)
    folded = {f"{name}.qkv" for name in method.notes["folded_channels"]}
    changed = {
        name.rpartition(".")[0]
        for name, tensor in model.state_dict().items()
        if not torch.equal(tensor, before[name])
    }
    assert changed <= folded
    assert len(folded) < len(foldable_attentions(model.image_encoder))
