"""Every method from a checkpoint to a checkpoint that computes the same when it is loaded again."""

import functools
from typing import Any

import pytest
import torch

from qsam2_deploy.calibration import CalibrationConfig, CalibrationReport, calibrate_checkpoint
from qsam2_deploy.calibration.data import calibration_images
from qsam2_deploy.calibration.histogram import Histogram
from qsam2_deploy.calibration.ptq import PtqOptions, make_ptq, ptq_names
from qsam2_deploy.calibration.statistics import LayerStatistics
from qsam2_deploy.quant.checkpoints.checkpoint import load_checkpoint
from qsam2_deploy.quant.layers.modules import QuantLinear, quantized_layers
from qsam2_deploy.quant.quantizers.grid import AFFINE, Grid
from tests.support.marks import slow
from tests.support.weights import load_written

FEW = PtqOptions(iterations=15, rounding_rate=0.3)


@pytest.fixture(scope="module")
def calibrate(float_checkpoint, photos, tmp_path_factory) -> Any:
    @functools.cache
    def run(ptq: str | None, **settings: Any) -> CalibrationReport:
        defaults: dict[str, Any] = {"bits": "w3a8", "limit": 4, "vrc": "none", "ptq_options": FEW}
        config = CalibrationConfig(ptq=ptq, **{**defaults, **settings})
        return calibrate_checkpoint(
            float_checkpoint,
            photos,
            tmp_path_factory.mktemp("ptq") / "quantized.pt",
            config=config,
            model_config=float_checkpoint.with_suffix(".yaml"),
        )

    return run


WITH_VRC = [("gptq", "noise"), slow("qdrop", "noise")]


@pytest.mark.parametrize(("name", "vrc"), [*((n, "none") for n in ptq_names()), *WITH_VRC])
def test_the_file_computes_what_the_report_says(calibrate, photos, float_checkpoint, name, vrc):
    report = calibrate(name, vrc=vrc)
    plain = load_written(float_checkpoint).model
    loaded = load_checkpoint(report.output)
    image = calibration_images(photos, 128, limit=4)[3]
    with torch.no_grad():
        expected = plain.image_encoder(image)["vision_features"]
        found = loaded.model.image_encoder(image)["vision_features"]
    error = float((found - expected).norm() / expected.norm())
    assert error == pytest.approx(report.feature_error, rel=1e-4)
    assert 0 < error < 1.5  # a percentile on few, coarse levels loses more than all of it
    assert loaded.quantization is not None
    assert loaded.quantization["recipe"]["ptq"] == name
    assert loaded.quantization["recipe"]["ptq_options"]["iterations"] == 15


@pytest.mark.parametrize("name", ["gptq", "brecq", "qdrop"])
def test_learned_weights_are_on_their_grid(calibrate, name):
    report = calibrate(name)
    layers = quantized_layers(load_checkpoint(report.output).model)
    on_grid = [n for n, m in layers.items() if torch.equal(m.quantized_weight(), m.weight)]
    assert len(on_grid) >= len(layers) // 2
    start = quantized_layers(load_checkpoint(calibrate("mse").output).model)
    assert any(not torch.equal(layers[n].weight, start[n].quantized_weight()) for n in on_grid)
    for layer_name, layer in layers.items():
        assert torch.equal(layer.weight_quantizer.scale, start[layer_name].weight_quantizer.scale)


def test_gptq_is_closer_to_float_than_the_baselines(calibrate):
    error = {name: calibrate(name).feature_error for name in ("minmax", "mse", "gptq")}
    assert error["gptq"] < error["mse"] < error["minmax"]


@pytest.mark.parametrize("name", ["brecq", "qdrop"])
def test_reconstruction_reports_every_block(calibrate, name):
    notes = calibrate(name).ptq_notes
    assert list(notes) == [f"image_encoder.trunk.blocks.{n}" for n in range(5)]
    for errors in notes.values():
        assert 0 <= errors["error_after"] <= errors["error_before"] < 1
    assert any(e["error_after"] < 0.95 * e["error_before"] for e in notes.values())


def test_mse_is_the_start_of_lsc_and_minmax_that_of_minmax(calibrate):
    for method, name in (("lsc", "mse"), ("minmax", "minmax")):
        default, explicit = calibrate(None, method=method), calibrate(name, method=method)
        assert default.layers == explicit.layers
        assert default.feature_error == explicit.feature_error


GRIDS = (("weight_grid", "midrise"), ("activation_grid", "affine"), ("granularity", "tensor"))


@pytest.mark.parametrize("name", ["percentile", "gptq", slow("qdrop")])
def test_other_grids_and_one_step_for_a_weight(calibrate, photos, float_checkpoint, name):
    report = calibrate(name, **dict(GRIDS))
    layers = quantized_layers(load_checkpoint(report.output).model)
    narrow = [layer for layer in layers.values() if layer.weight_quantizer.grid.bits == 3]
    assert narrow
    for layer in narrow:
        assert layer.weight_quantizer.grid.kind == "midrise"
        assert layer.weight_quantizer.scale.shape == (1,)
        assert layer.input_quantizer.zero_point is not None
    if name != "percentile":
        assert any(torch.equal(layer.quantized_weight(), layer.weight) for layer in narrow)
    test_the_file_computes_what_the_report_says(
        functools.partial(calibrate, **dict(GRIDS)), photos, float_checkpoint, name, "none"
    )


@pytest.mark.slow
def test_the_whole_model(calibrate):
    """GPTQ is for all linear layers; reconstruction is for the blocks of the trunk."""
    start = quantized_layers(load_checkpoint(calibrate("mse", scope="all").output).model)
    for name, expected in (("gptq", {"memory_attention", "sam_mask_decoder"}), ("qdrop", set())):
        layers = quantized_layers(load_checkpoint(calibrate(name, scope="all").output).model)
        changed = {n for n, m in layers.items() if not torch.equal(m.weight, start[n].weight)}
        assert all(isinstance(layers[n], QuantLinear) for n in changed)
        assert {n.split(".")[0] for n in changed} >= expected | {"image_encoder"}
        if name == "qdrop":
            assert all(n.startswith("image_encoder.trunk.blocks.") for n in changed)
        for n in changed:
            assert torch.equal(layers[n].quantized_weight(), layers[n].weight)
            scale = layers[n].weight_quantizer.scale
            assert torch.equal(scale, scale.half().float())


def test_a_small_budget_changes_nothing(calibrate):
    whole, parts = calibrate("gptq"), calibrate("gptq", memory_budget=1 << 16)
    assert whole.feature_error == parts.feature_error


def test_percentiles_of_weights_and_inputs():
    method = make_ptq("percentile", PtqOptions(percentile=90.0))
    rows = torch.arange(-100.0, 101.0).repeat(2, 1)
    torch.testing.assert_close(method.weight_clip(rows, Grid(4)), torch.full((2,), 90.0))
    values = torch.randn(200_000, generator=torch.Generator().manual_seed(0))
    statistics = LayerStatistics(histogram=Histogram())
    statistics.add(values[:, None], heldout=False)
    assert method.input_range(statistics, Grid(4)) == pytest.approx((-1.645, 1.645), abs=0.02)
    whole = make_ptq("percentile", PtqOptions(percentile=100.0))
    absmax = statistics.absmax
    assert whole.input_range(statistics, Grid(4)) == pytest.approx((-absmax, absmax), rel=1e-3)


@pytest.mark.parametrize("shift", [0.0, 1.0, 5.0])
def test_ranges_of_an_affine_grid_hold_zero_and_as_much_as_they_should(shift):
    values = torch.randn(200_000, generator=torch.Generator().manual_seed(0)) + shift
    statistics = LayerStatistics()
    statistics.add(values[:, None], heldout=False)
    grid = Grid(4, AFFINE)
    low, high = make_ptq("percentile", PtqOptions(percentile=90.0)).input_range(statistics, grid)
    assert (low, high) == pytest.approx((min(shift - 1.645, 0.0), shift + 1.645), abs=0.02)
    low, high = make_ptq("minmax").input_range(statistics, grid)
    assert (low, high) == (min(float(values.min()), 0.0), float(values.max()))
    low, high = make_ptq("mse").input_range(statistics, grid)
    assert low == pytest.approx(0.0) if shift == 5.0 else low < -0.5
    assert high < float(values.max())
