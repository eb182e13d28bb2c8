"""The page says what can be computed from the checkpoint and the images by other means."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from qsam2_deploy.calibration.data import calibration_images
from qsam2_deploy.errors import CheckpointError, InputError, VideoError
from qsam2_deploy.quant.checkpoints.checkpoint import load_checkpoint
from qsam2_deploy.quant.layers.modules import quantized_layers
from qsam2_deploy.report import ReportJob, sections, write_report

from .conftest import write_scores
from .html_page import PageReader

PICTURES = {
    "layer-errors", "weights", "lambda", "weight-clips", "input-clips", "curves", "accuracy",
}  # fmt: skip

FEW = ("*.blocks.1.attn.qkv",)
"""Drawing is what takes long; few layers are drawn where the pictures are not looked at."""


@pytest.fixture(scope="module")
def page(full_report) -> PageReader:
    return PageReader(full_report[0].read_text())


@pytest.fixture(scope="module")
def content(inputs):
    return torch.load(inputs.quantized, weights_only=True)


def quantized(x, scale, bits):
    """Values on the grid, and the share of them that are clipped, in float64."""
    codes = np.round(np.float32(x) / np.float32(scale)).astype(np.float64)
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    return np.clip(codes, low, high) * np.float64(scale), ((codes < low) | (codes > high)).mean()


@pytest.mark.slow
def test_errors_of_weights(page, content):
    table = page.table()
    assert table.keys() == content["quantization"]["layers"].keys()
    for name, row in table.items():
        part = content["quantization"]["layers"][name]["weight"]
        weight = content["model"][f"{name}.weight"].numpy().astype(np.float64)
        found, clipped = quantized(weight, part["scale"].numpy()[:, None], part["bits"])
        error = np.linalg.norm(found - weight) / np.linalg.norm(weight)
        assert float(row["weight error"]) == pytest.approx(error, rel=1e-4)
        assert float(row["weights clipped"]) == pytest.approx(clipped, abs=1e-9)
        assert float(row["weights"]) == weight.size


def test_errors_of_inputs(page, content, inputs):
    model = load_checkpoint(inputs.quantized).model
    seen = {name: [] for name in page.table()}
    for name, layer in quantized_layers(model).items():
        layer.register_forward_hook(lambda _, x, y, name=name: seen[name].append(x[0].flatten()))
    with torch.no_grad():
        for image in calibration_images(inputs.photos, 96, 4):
            model.image_encoder(image)
    for name, row in page.table().items():
        part = content["quantization"]["layers"][name]["input"]
        x = torch.cat(seen[name]).numpy().astype(np.float64)
        found, clipped = quantized(x, part["scale"].numpy(), part["bits"])
        error = np.linalg.norm(found - x) / np.linalg.norm(x)
        assert float(row["input error"]) == pytest.approx(error, rel=1e-4)
        assert float(row["inputs clipped"]) == pytest.approx(clipped, abs=1e-9)
        together = math.hypot(error, float(row["weight error"]))
        assert float(row["together"]) == pytest.approx(together, rel=1e-4)


def test_numbers_of_the_calibration(page, content, inputs):
    before = torch.load(inputs.source, weights_only=True)["model"]
    for name, row in page.table().items():
        ratio = content["model"][f"{name}.weight"].std() / before[f"{name}.weight"].std()
        assert float(row["std reduction"]) == pytest.approx(1 - float(ratio), abs=1e-5)
        vrc = content["quantization"]["vrc"][name]
        assert float(row["held-out error"]) == vrc["output_error"]
        condition = {"Infinity": math.inf}.get(row["condition"]) or float(row["condition"])
        assert condition == vrc["condition_number"]


def test_the_worst_layer_comes_first(page):
    together = [float(row["together"]) for row in page.table().values()]
    assert together == sorted(together, reverse=True)
    assert together[0] > 2 * together[-1] > 0


def test_a_ratio_is_at_least_one():
    assert sections._against_bfloat16(4.0) == {"smaller than in bfloat16": "4.00 times"}
    assert sections._against_bfloat16(0.8) == {"larger than in bfloat16": "1.25 times"}


def test_sizes_and_summary(page, content):
    layers, state = content["quantization"]["layers"], content["model"]
    packed = 0
    for name, tensor in state.items():
        part = layers.get(name.removesuffix(".weight")) if name.endswith(".weight") else None
        if part:
            bits = part["weight"]["bits"]
            packed += math.ceil(tensor.numel() * bits / 8) + 4 * len(part["weight"]["scale"]) + 4
        else:
            packed += tensor.numel() * (2 if torch.equal(tensor.half().float(), tensor) else 4)
    count = sum(tensor.numel() for tensor in state.values())
    words = " ".join(page.words)
    for size in (packed, 2 * count, 4 * count):
        assert f"{size / 1e6:.2f} MB" in words
    assert packed > 2 * count, "random weights are no halves"
    assert f"{packed / (2 * count):.2f} times larger than in bfloat16" in words
    assert content["quantization"]["source_sha256"] in words
    assert f"{len(layers) - 2} layers at w4a4, 2 layers at w8a8" in words
    assert "trace, lambda 0.01" in words


def test_the_page_is_self_contained_and_well_formed(full_report, page):
    text = full_report[0].read_text()
    assert page.sources == []
    assert not re.search(r"https?://(?!www\.w3\.org/)", text)
    assert "@import" not in text
    assert len(page.ids) == len(set(page.ids))
    assert page.references <= set(page.ids)
    assert len(page.references) > 20


def test_colours_follow_the_screen(full_report):
    text = full_report[0].read_text()
    assert not re.search(r"#00[ab]00\d", text)  # the placeholders
    light, dark = re.findall(r":root \{(.*?)\}", text, re.DOTALL)
    used = set(re.findall(r"var\((--[\w-]+)\)", text)) - {"--font", "--chart-font"}
    assert {"--ink", "--line", "--series-1", "--series-2"} <= used
    for theme in (light, dark):
        assert used <= set(re.findall(r"(--[\w-]+):", theme))


@pytest.mark.parametrize(
    "title",
    [
        "quantization error, % of the norm",
        "standard deviation of weights",
        "lambda, in mean eigenvalues of the Gram matrix",
        "relative error, %",
        "weight, in steps of its output channel",
        "share of the values, % per bin",
        "minutes of training",
        "score, percent",
        "size of the model, MB",
        "J&F, %",
        "chosen by the recipe",
        "generated J&F",
        "DAVIS, mask, 3 objects",
        "exported",
    ],
)
def test_charts_have_titles_and_units(page, title):
    assert title in {word.strip() for word in page.words}


def test_pictures_are_beside_the_page(full_report):
    first, *pictures = full_report
    assert first.name == "report.html"
    assert {path.stem for path in pictures} == PICTURES
    assert set(first.parent.iterdir()) == set(full_report)
    for path in pictures:
        with Image.open(path) as image:
            assert image.width > 1400
            assert len(np.unique(np.asarray(image.convert("L")))) > 20


def test_what_is_missing_is_said(inputs, tmp_path):
    lonely = tmp_path / "lonely.pt"
    lonely.write_bytes(inputs.quantized.read_bytes())
    first, *pictures = write_report(ReportJob(lonely, tmp_path / "short.html", layers=FEW))
    assert {path.name for path in (first, *pictures)} == {
        "short.html", "short.layer-errors.png", "short.weights.png", "short.weight-clips.png",
    }  # fmt: skip
    text = first.read_text()
    for flags in ("--float FILE", "--data PATH", "--float FILE and --data PATH", "--log FILE",
                  "--scores FILE ..."):  # fmt: skip
        assert f"<code>{flags}</code>" in text
    page = PageReader(text)
    assert "reduction of the deviation, %" in page.words
    assert "input error" not in page.headings
    errors = [float(row["weight error"]) for row in page.table().values()]
    assert errors == sorted(errors, reverse=True)


def test_layers_are_chosen_by_pattern(inputs, tmp_path, refused):
    job = ReportJob(inputs.quantized, tmp_path / "a.html", layers=("*.blocks.1.attn.*",))
    page = PageReader(write_report(job)[0].read_text())
    titles = [word for word in page.words if word.endswith(" levels")]
    assert sorted(titles) == ["blocks.1.attn.proj, 16 levels", "blocks.1.attn.qkv, 16 levels"]
    refused(InputError, r"pattern 'neck\.\*' fits no quantized layer", layers=("neck.*",))


def test_a_model_beside_the_scores_needs_no_naming(inputs, tmp_path, refused):
    model = tmp_path / "m.onnx"
    model.write_bytes(b"x" * 1000)
    scores = (write_scores(tmp_path / "m.json", model, 50.0),)
    page = PageReader(
        write_report(ReportJob(inputs.quantized, tmp_path / "a.html", scores=scores, layers=FEW))[
            0
        ].read_text()
    )
    assert "m" in page.words
    for path in tmp_path.glob("a.*"):
        path.unlink()
    model.write_bytes(b"y" * 1000)
    refused(InputError, r"is not beside them; give it with --models", scores=scores, layers=FEW)


def test_files_that_cannot_be_used(inputs, tmp_path, refused):
    other = tmp_path / "other.pt"
    state = torch.load(inputs.source, weights_only=True)["model"]
    torch.save({"model": state, "note": "another file of the same weights"}, other)
    refused(
        CheckpointError, "is not the float checkpoint that .* was made from", float_checkpoint=other
    )
    refused(CheckpointError, "--config FILE.yaml", checkpoint=inputs.source)
    config = load_checkpoint(inputs.quantized).config
    torch.save({"model": state, "config": config}, other)
    refused(CheckpointError, "is not quantized, so there is nothing to report", checkpoint=other)
    refused(VideoError, "no calibration data", data=tmp_path / "none")
    refused(InputError, "there is no log", log=tmp_path / "none")
    (tmp_path / "log").write_text('{"step": 1}\n{"step": 2}\n')
    refused(InputError, "line 1 of the log .* is damaged", log=tmp_path / "log")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "are damaged or no results of qsam2-eval .*not valid JSON"),
        ("[]", "are damaged or no results of qsam2-eval"),
        ('{"J": 1}', "are damaged or no results of qsam2-eval"),
        ('{"schema_version": 99}', "format version 99, but this version .* reads up to 1"),
    ],
)
def test_damaged_scores(tmp_path, refused, content, message):
    path = tmp_path / "scores.json"
    path.write_text(content)
    refused(InputError, message, scores=(path,))


def test_scores_without_a_model(inputs, tmp_path, refused):
    refused(InputError, "cannot read the scores .*: No such file", scores=(tmp_path / "none",))
    path = write_scores(tmp_path / "s.json", inputs.quantized, 50.0, settings={"prompt": "mask"})
    refused(InputError, "are those of masks, not of a model", scores=(path,))
    write_scores(path, inputs.quantized, float("nan"))
    assert json.loads(path.read_text())["J"] != 50
    refused(InputError, "a mean is not finite", scores=(path,))
    refused(InputError, "there is no model", scores=(path,), models=(tmp_path / "none",))
    refused(InputError, "models are given without scores", models=(inputs.source,))


def test_places_that_cannot_be_written(inputs, tmp_path, refused, monkeypatch):
    refused(InputError, "the folder does not exist", output=tmp_path / "no" / "page")
    refused(InputError, "the folder does not exist", output=tmp_path / "no" / "page.html")
    (tmp_path / "file").write_text("")
    refused(InputError, "is not a folder", output=tmp_path / "file")
    (tmp_path / "busy" / "weights.png").mkdir(parents=True)
    refused(InputError, "weights.png: it is a folder", output=tmp_path / "busy", layers=FEW)
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != tmp_path)
    refused(InputError, "permission denied", output=tmp_path / "page", layers=FEW)
