"""From a checkpoint and images to a quantized checkpoint."""

import functools
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from qsam2_deploy.calibration import CalibrationConfig, CalibrationReport, calibrate_checkpoint
from qsam2_deploy.calibration.data import calibration_images
from qsam2_deploy.errors import CheckpointError, InputError, VideoError
from qsam2_deploy.quant.checkpoints.checkpoint import load_checkpoint
from qsam2_deploy.quant.checkpoints.entry import float_state
from qsam2_deploy.quant.layers.modules import QuantLinear, quantized_layers
from tests.support.external_data import DATA, needs_data
from tests.support.marks import slow
from tests.support.weights import load_written

NANO = DATA / "checkpoints" / "nano128.pt"
FIRST = "image_encoder.trunk.blocks.0.attn.qkv"


def calibrated(checkpoint: Path, data: Path, folder: Path, **settings: Any) -> CalibrationReport:
    config, yaml = CalibrationConfig(**settings), checkpoint.with_suffix(".yaml")
    return calibrate_checkpoint(
        checkpoint, data, folder / "quantized.pt", config=config, model_config=yaml
    )


@pytest.fixture(scope="module")
def calibrate(float_checkpoint, photos, tmp_path_factory) -> Any:
    @functools.cache
    def run(**settings: Any) -> CalibrationReport:
        folder = tmp_path_factory.mktemp("out")
        return calibrated(float_checkpoint, photos, folder, **{"limit": 4, **settings})

    return run


def test_eight_bits_stay_close_to_float(calibrate, float_checkpoint):
    report = calibrate()
    assert report.images == 4
    assert report.feature_images == 1
    assert 0 < report.feature_error < 0.1
    plain = load_written(float_checkpoint)
    linears = [
        n
        for n, m in plain.model.named_modules()
        if isinstance(m, torch.nn.Linear) and n.startswith("image_encoder.")
    ]
    assert sorted(layer.name for layer in report.layers) == sorted(linears)
    again = load_checkpoint(report.output)
    assert sorted(quantized_layers(again.model)) == sorted(linears)
    entry = again.quantization
    assert entry is not None
    assert entry["source_sha256"] == report.source_sha256 == plain.sha256
    assert entry["recipe"]["bits"] == "w8a8"
    assert entry["vrc"].keys() == set(linears)


def test_the_file_computes_what_the_report_says(calibrate, photos, float_checkpoint):
    report = calibrate(bits="w4a4")
    plain = load_written(float_checkpoint).model
    quantized = load_checkpoint(report.output).model
    for layer in quantized_layers(quantized).values():
        layer.export_form()
    image = calibration_images(photos, 128, limit=4)[3]  # the one that was held out
    with torch.no_grad():
        expected = plain.image_encoder(image)["vision_features"]
        found = quantized.image_encoder(image)["vision_features"]
    error = float((found - expected).norm() / expected.norm())
    assert error == pytest.approx(report.feature_error, rel=1e-4)


def test_fewer_bits_lose_more(calibrate):
    errors = [calibrate(bits=bits, vrc="none").feature_error for bits in ("w8a8", "w4a8", "w2a2")]
    assert errors == sorted(errors)
    assert errors[0] < 0.5 * errors[1]


def test_the_default_does_not_hurt_eight_bits(calibrate):
    assert calibrate().feature_error <= 1.1 * calibrate(vrc="none").feature_error


def test_first_and_last_layers_are_wide(calibrate):
    layers = calibrate(bits="w2a3", vrc="none").layers
    widths = [(layer.weight_bits, layer.input_bits) for layer in layers]
    assert layers[0].name == FIRST
    assert widths[0] == widths[-1] == (8, 8)
    assert set(widths[1:-1]) == {(2, 3)}
    layers = calibrate(bits="w2a3", vrc="none", first_last_bits=None).layers
    assert {(layer.weight_bits, layer.input_bits) for layer in layers} == {(2, 3)}


@pytest.mark.parametrize("mode", ["noise", "target", slow("absolute"), slow("trace")])
def test_vrc_lowers_the_deviation_where_it_is_applied(calibrate, mode):
    report = calibrate(bits="w4a4", vrc=mode)
    applied = [layer.vrc for layer in report.layers if layer.vrc.applied]
    assert applied
    for vrc in applied:
        assert vrc.std_ratio < 1.0001
        assert 0 <= vrc.output_error < 0.5
        assert vrc.weight_error_after > 0


def test_without_vrc_weights_stay(calibrate, float_checkpoint):
    report = calibrate(vrc="none")
    assert all(layer.vrc is None for layer in report.layers)
    assert math.isnan(report.std_ratio)
    official = torch.load(float_checkpoint, weights_only=True)["model"]
    state = float_state(load_checkpoint(report.output).model)
    assert all(torch.equal(state[name], official[name]) for name in official)


def test_a_small_memory_budget_changes_nothing(calibrate):
    whole, parts = calibrate(bits="w4a4"), calibrate(bits="w4a4", memory_budget=1 << 16)
    assert len(whole.layers) > 10
    for a, b in zip(whole.layers, parts.layers, strict=True):
        assert a.name == b.name
        assert a.vrc == b.vrc
    assert whole.feature_error == parts.feature_error


def test_the_whole_model(calibrate, float_checkpoint):
    """Every linear layer and convolution of all four components, and what is left in halves."""
    plan = (("*.cross_attn_image.v_proj", "float"), ("memory_encoder.fuser.*", "w3a8"))
    report = calibrate(scope="all", bits="w4a4", vrc="trace", plan=plan)
    loaded = load_checkpoint(report.output)
    layers = quantized_layers(loaded.model)
    parts = {name.split(".")[0] for name in layers}
    assert parts >= {
        "image_encoder", "memory_attention", "memory_encoder", "sam_mask_decoder",
        "sam_prompt_encoder", "obj_ptr_proj", "obj_ptr_tpos_proj",
    }  # fmt: skip
    kinds = {type(layer).__name__ for layer in layers.values()}
    assert kinds == {"QuantLinear", "QuantConv2d", "QuantConvTranspose2d"}
    left = [
        n for n, m in loaded.model.named_modules() if type(m) in (torch.nn.Linear, torch.nn.Conv2d)
    ]
    assert left == [
        "mask_downsample",
        "memory_attention.layers.0.cross_attn_image.v_proj",
        "memory_attention.layers.1.cross_attn_image.v_proj",
    ]
    widths = {r.name: (r.weight_bits, r.input_bits) for r in report.layers}
    assert widths["image_encoder.trunk.patch_embed.proj"] == (8, 8)
    assert widths["memory_encoder.fuser.layers.0.dwconv"] == (3, 8)
    assert widths["memory_attention.layers.0.linear1"] == (4, 4)
    assert set(loaded.quantization["vrc"]) == {
        n for n in layers if n.startswith("image_encoder.trunk.blocks")
    }
    for name, layer in layers.items():
        layer.export_form()
        assert torch.equal(layer.input_quantizer.scale, layer.input_quantizer.scale.half()), name
    official = torch.load(float_checkpoint, weights_only=True)["model"]
    state = float_state(loaded.model)
    name = "memory_attention.norm.weight"
    assert torch.equal(state[name], official[name].half().float())
    name = "memory_encoder.out_proj.weight"
    assert torch.equal(state[name], official[name])


@pytest.mark.slow
def test_vrc_outside_of_the_encoder(calibrate):
    report = calibrate(scope="all", bits="w4a4", vrc_scope="all", vrc_tokens=64, limit=8)
    layers = quantized_layers(load_checkpoint(report.output).model)
    linears = {name for name, layer in layers.items() if isinstance(layer, QuantLinear)}
    found = {layer.name: layer.vrc for layer in report.layers if layer.vrc}
    assert found.keys() == linears
    applied = {name.split(".")[0] for name, vrc in found.items() if vrc.applied}
    assert {"image_encoder", "memory_attention"} <= applied
    for name, vrc in found.items():
        if not name.startswith("image_encoder."):
            assert vrc.output_error < 0.5, name


def test_blocks_sum_up_their_layers(calibrate):
    report = calibrate(bits="w4a4", vrc="trace")
    names = [f"image_encoder.trunk.blocks.{n}" for n in range(5)]
    assert [block.name for block in report.blocks] == names
    layers = [layer for layer in report.layers if layer.name.startswith(f"{names[0]}.")]
    weights = torch.tensor([layer.vrc.weights for layer in layers]).double()
    before = torch.tensor([layer.vrc.std_before for layer in layers]).double()
    after = before * torch.tensor([layer.vrc.std_ratio for layer in layers])
    expected = ((weights @ after**2) / (weights @ before**2)).sqrt()
    assert report.blocks[0].std_ratio == pytest.approx(float(expected), rel=1e-6)
    assert json.loads(report.to_json())["blocks"][0]["name"] == names[0]
    assert calibrate(vrc="none").blocks == ()


def test_half_precision_is_for_the_whole_model():
    assert not CalibrationConfig().uses_half
    assert CalibrationConfig(scope="all").uses_half
    assert not CalibrationConfig(scope="all", half=False).uses_half


def test_one_image_is_enough_for_every_layer_to_run(float_checkpoint, photos, tmp_path):
    report = calibrated(float_checkpoint, photos / "a" / "0.png", tmp_path, scope="all", vrc="none")
    assert report.images == 1
    assert all(layer.input_absmax > 0 for layer in report.layers)


def test_a_plan_that_fits_nothing_leaves_no_file(float_checkpoint, photos, tmp_path):
    with pytest.raises(InputError, match=r"'memory_encoder\.\*' fits no layer of the scope"):
        calibrated(
            float_checkpoint, photos, tmp_path, plan=(("memory_encoder.*", "w4a4"),), limit=1
        )
    assert not list(tmp_path.iterdir())


def test_minmax_starts_from_the_largest_magnitude(calibrate):
    report = calibrate(method="minmax", vrc="none")
    for layer in report.layers:
        assert layer.input_clip == pytest.approx(layer.input_absmax, rel=1e-5)
    lsc = calibrate(vrc="none", bits="w4a4", first_last_bits=None)
    assert all(layer.input_clip < layer.input_absmax for layer in lsc.layers)


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        slow({"method": "lsq"}, (("lsq", "symmetric"), ("lsq", "symmetric"))),
        ({"method": "lsq+"}, (("lsq+", "symmetric"), ("lsq+", "affine"))),
        ({"method": "pact"}, (("sawb", "midrise"), ("pact", "symmetric"))),
        slow({"method": "statsq"}, (("statsq", "midrise"), ("lsq", "symmetric"))),
        (
            {"method": "sawb,lsc", "activation_grid": "affine", "options": (("momentum", 0.5),)},
            (("sawb", "midrise"), ("lsc", "affine")),
        ),
        (
            {"weight_grid": "midrise", "granularity": "tensor", "vrc": "noise"},
            (("lsc", "midrise"), ("lsc", "symmetric")),
        ),
    ],
)
def test_every_method_is_started_and_stored(calibrate, settings, parts):
    report = calibrate(**{"bits": "w4a6", "vrc": "none", **settings})
    assert 0 < report.feature_error < 1
    loaded = load_checkpoint(report.output)
    layer = quantized_layers(loaded.model)["image_encoder.trunk.blocks.1.mlp.layers.0"]
    quantizers = (layer.weight_quantizer, layer.input_quantizer)
    assert tuple((q.method, q.grid.kind) for q in quantizers) == parts
    if "options" in settings:
        assert all(q.momentum == 0.5 for q in quantizers)
    steps = len(layer.weight_quantizer.scale)
    assert steps == (1 if settings.get("granularity") == "tensor" else layer.out_features)
    assert loaded.quantization["format_version"] == 4
    for each in quantized_layers(loaded.model).values():
        each.export_form()


def test_few_inputs_leave_weights_alone(float_checkpoint, photos, tmp_path):
    report = calibrated(float_checkpoint, photos / "a" / "0.png", tmp_path, vrc="trace")
    # Three stages down, a 128 pixel image has 16 tokens for 128 features.
    deep = [layer for layer in report.layers if ".blocks.4.mlp." in layer.name]
    assert deep
    assert not any(layer.vrc.applied for layer in deep if layer.vrc)
    assert any(layer.vrc.applied for layer in report.layers if layer.vrc)


def test_the_report_is_json_without_secrets_of_the_machine(calibrate):
    report = calibrate()
    data = json.loads(report.to_json())
    assert data["output"] == "quantized.pt"
    assert len(data["layers"]) == len(report.layers)
    assert data["layers"][0]["vrc"]["lam"] > 0
    assert str(report.output.parent) not in report.to_json()


def test_refusals_leave_no_file(float_checkpoint, photos, tmp_path):
    yaml = float_checkpoint.with_suffix(".yaml")
    out = tmp_path / "q.pt"
    cases: list[tuple[type[Exception], str, tuple[Any, ...], dict[str, Any]]] = [
        (CheckpointError, "no checkpoint", (tmp_path / "no.pt", photos, out), {}),
        (CheckpointError, "--config", (float_checkpoint, photos, out), {}),
        (InputError, "folder does not exist", (float_checkpoint, photos, tmp_path / "x" / "q"), {}),
        (InputError, "it is a folder", (float_checkpoint, photos, tmp_path), {}),
        (VideoError, "no calibration data", (float_checkpoint, tmp_path / "no", out), {"m": yaml}),
    ]
    for error, message, arguments, options in cases:
        with pytest.raises(error, match=message):
            calibrate_checkpoint(*arguments, model_config=options.get("m"))
    assert not list(tmp_path.iterdir())


def test_a_quantized_checkpoint_is_not_quantized_again(calibrate, photos):
    output = calibrate(vrc="none").output
    with pytest.raises(CheckpointError, match="quantized already"):
        calibrate_checkpoint(output, photos, output.with_name("twice.pt"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"plan": (("a.*", "w1a1"),)}, r"widths of 'a\.\*' are wrong"),
        ({"bits": "8"}, "such as w8a8, but got '8'"),
        ({"bits": "w1a8"}, "2 to 8 bits, but got 1"),
        ({"bits": "w8a16"}, "2 to 8 bits, but got 16"),
        ({"first_last_bits": 9}, "2 to 8 bits, but got 9"),
        ({"scope": "everything"}, "scope must be one of encoder"),
        ({"vrc": "magic"}, "VRC mode must be one of"),
        ({"vrc_lambda": -1.0}, "not negative"),
        ({"vrc_lambda": math.nan}, "not negative"),
        ({"vrc": "target", "vrc_lambda": 1.0}, "share below 1"),
        ({"limit": 0}, "at least 1"),
        ({"method": "magic"}, "quantizer must be one of"),
        ({"ptq": "magic"}, "PTQ method must be one of brecq, gptq"),
        ({"vrc_scope": "some"}, "scope of VRC must be one of"),
        ({"vrc_tokens": 0}, "tokens of VRC must be at least 1, but got 0"),
        ({"method": "lsc,"}, "quantizer must be one of"),
        ({"method": "lsc,sawb,lsq"}, "quantizer must be one of"),
        ({"weight_grid": "affine"}, "grid of weights must be one of symmetric, midrise"),
        ({"activation_grid": "midrise"}, "grid of activations must be one of symmetric, affine"),
        ({"method": "lsq", "activation_grid": "affine"}, "lsq has no affine grid"),
        ({"granularity": "group"}, "granularity must be one of channel, tensor"),
        ({"options": (("magic", 1.0),)}, "lsc has no option 'magic'"),
        ({"options": (("momentum", 1.0),)}, "momentum must be 0 or more and below 1"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(InputError, match=message):
        CalibrationConfig(**settings)


def test_widths_are_read_in_any_case():
    config = CalibrationConfig(bits="W4A6")
    assert (config.weight_bits, config.activation_bits) == (4, 6)


@needs_data(NANO, DATA / "davis")
def test_a_trained_model_at_eight_bits(tmp_path):
    report = calibrate_checkpoint(
        NANO,
        DATA / "davis" / "JPEGImages" / "480p" / "goat",
        tmp_path / "nano.pt",
        config=CalibrationConfig(limit=8),
        model_config=NANO.with_suffix(".yaml"),
    )
    assert report.feature_error < 0.03
    assert len(report.layers) == 35
