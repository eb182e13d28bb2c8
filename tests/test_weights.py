"""Random weights have the outliers that they promise."""

import re

import pytest
import torch

from qsam2_deploy.quant.checkpoints.architecture import build_model, official_config
from tests.support.weights import load_written, random_state_dict, small_config, write_checkpoint

LINEAR = re.compile(r"trunk\.blocks\.\d+\.(attn\.qkv|attn\.proj|mlp\.layers\.\d)\.weight$")


@pytest.mark.parametrize("version", ["2.0", "2.1"])
def test_every_tensor_gets_finite_values(version):
    model = build_model(small_config(version=version))
    state = random_state_dict(model)
    model.load_state_dict(state)
    for name, tensor in state.items():
        assert torch.isfinite(tensor).all(), name
        assert tensor.dtype == torch.float32
        assert tensor.abs().max() > 0, f"{name} is zero"


def test_encoder_linears_have_outliers():
    state = random_state_dict(build_model(official_config("sam2.1_hiera_tiny")))
    peaks = torch.tensor([
        (tensor.abs().max() / tensor.std()).item()
        for name, tensor in state.items() if LINEAR.search(name)
    ])  # fmt: skip
    assert len(peaks) == 4 * 12
    assert 9 < peaks.median() < 14


def test_another_name_is_refused():
    """A tensor without statistics would get values that nobody has thought about."""
    with pytest.raises(KeyError, match="no statistics for scale"):
        random_state_dict(torch.nn.ParameterDict({"scale": torch.ones(3)}))


def test_same_seed_gives_the_same_weights():
    model = build_model(small_config())
    first, again, other = (random_state_dict(model, seed) for seed in (3, 3, 4))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_checkpoint_loads_with_the_configuration_beside_it(tmp_path):
    path = write_checkpoint(tmp_path / "model.pt", object_score_bias=-9.0)
    loaded = load_written(path)
    assert loaded.model.image_size == 128
    bias = loaded.model.sam_mask_decoder.pred_obj_score_head.layers[2].bias
    assert bias.tolist() == [-9.0]
