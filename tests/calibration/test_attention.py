"""Steps of the attention products from images."""

import json
from typing import Any

import pytest
import torch

from qsam2_deploy.calibration import CalibrationConfig, CalibrationReport, calibrate_checkpoint
from qsam2_deploy.calibration.data import calibration_images
from qsam2_deploy.errors import InputError
from qsam2_deploy.quant.checkpoints.checkpoint import load_checkpoint
from qsam2_deploy.quant.layers.attention import attentions, float_attention, quantized_attentions

ALL_PARTS, WITHOUT_VALUES = {"q", "k", "v"}, {"q", "k"}


@pytest.fixture(scope="module", params=["encoder", "all"])
def report(request, float_checkpoint, photos, tmp_path_factory) -> CalibrationReport:
    return calibrate_checkpoint(
        float_checkpoint,
        photos,
        tmp_path_factory.mktemp("out") / "quantized.pt",
        config=CalibrationConfig(limit=4, scope=request.param, attention="int8", vrc="none"),
        model_config=float_checkpoint.with_suffix(".yaml"),
    )


def test_every_product_has_its_steps(report):
    model: Any = load_checkpoint(report.output).model
    quantized = quantized_attentions(model)
    assert quantized.keys() == attentions(model).keys() == report.attention.keys()
    whole = report.config.scope == "all"
    for name, attention in quantized.items():
        parts = WITHOUT_VALUES if whole and name.endswith("cross_attn_image") else ALL_PARTS
        assert set(attention.product.quantizers) == set(report.attention[name]) == parts
        for part, quantizer in attention.product.quantizers.items():
            clip = report.attention[name][part]
            assert float(quantizer.scale) * 127 == pytest.approx(clip, rel=1e-5)
            assert clip > 0
    assert json.loads(report.to_json())["attention"] == report.attention


def test_clips_fit_what_goes_through(report, photos):
    """Of the values of an image that was calibrated with, hardly any is clipped."""
    model: Any = load_checkpoint(report.output).model
    shares = []
    with torch.no_grad():
        for name, attention in quantized_attentions(model).items():
            if name.startswith("image_encoder"):
                for part, quantizer in attention.product.quantizers.items():
                    clip = report.attention[name][part]
                    quantizer.register_forward_pre_hook(
                        lambda _, x, clip=clip: shares.append(
                            (float((x[0].abs() > clip).float().mean()),
                             float(x[0].abs().max()) / clip)
                        )
                    )  # fmt: skip
        model.image_encoder(calibration_images(photos, 128, limit=4)[0])
    assert len(shares) == 3 * len([n for n in report.attention if n.startswith("image_encoder")])
    assert max(clipped for clipped, _ in shares) < 0.02
    assert min(largest for _, largest in shares) > 0.2


def test_integers_change_little(report, photos):
    model: Any = load_checkpoint(report.output).model
    image = calibration_images(photos, 128, limit=4)[3]
    with torch.no_grad():
        integers = model.image_encoder(image)["vision_features"]
        with float_attention(model):
            floats = model.image_encoder(image)["vision_features"]
    error = float((integers - floats).norm() / floats.norm())
    assert 0 < error < 0.1


def test_float_is_the_default(float_checkpoint):
    assert CalibrationConfig().attention == "float"
    with pytest.raises(
        InputError, match="the attention must be one of float, int8, but got 'int4'"
    ):
        CalibrationConfig(attention="int4")
