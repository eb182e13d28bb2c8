"""The command: what it prints, writes and refuses."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from qsam2_deploy.cli.calibrate import main
from tests.cli.refusal import assert_refused
from tests.support.weights import write_checkpoint


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    """A folder with ``small.pt``, ``small.yaml`` and a folder ``images``."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("inputs")
    write_checkpoint(folder / "small.pt")
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    for index in range(4):
        coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((160, 120)).save(folder / "images" / f"{index}.png")
    return folder


def test_the_whole_job(inputs, tmp_path, capsys):
    output, report = tmp_path / "q.pt", tmp_path / "report.json"
    status = main(
        [
            *(str(inputs / "small.pt"), "--data", str(inputs / "images"), "-o", str(output)),
            *("--config", str(inputs / "small.yaml"), "--bits", "w4a8", "--images", "4"),
            *("--vrc", "trace", "--vrc-lambda", "0.01", "--image-size", "96"),
            *("--report", str(report), "--vrc-tokens", "500"),
            *("--ptq", "gptq", "--ptq-option", "act_order=no", "--ptq-option", "damping=0.02"),
            *("--method", "sawb,lsc", "--activation-grid", "affine", "--granularity", "tensor"),
            *("--option", "momentum=0.9", "--option", "learn_alpha=false"),
        ]
    )
    assert status == 0
    printed = capsys.readouterr().out
    assert "at w4a8" in printed
    assert "weight std reduction" in printed
    assert printed.endswith(f"wrote {output}\n")
    config = json.loads(report.read_text())["config"]
    assert (config["vrc"], config["vrc_lambda"], config["limit"]) == ("trace", 0.01, 4)
    assert (config["ptq"], config["vrc_tokens"]) == ("gptq", 500)
    assert config["ptq_options"]["act_order"] is False
    assert config["ptq_options"]["damping"] == 0.02
    content = torch.load(output, weights_only=True)
    assert content["quantization"]["weight_bits"] == 4
    assert content["config"]["model"]["image_size"] == 96
    layer = next(iter(content["quantization"]["layers"].values()))
    assert (layer["weight"]["method"], layer["input"]["grid"]) == ("sawb", "affine")
    assert layer["input"]["options"] == {"momentum": 0.9, "learn_alpha": False}
    assert layer["granularity"] == "tensor"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--bits", "w9a8"], "2 to 8 bits"),
        (["--method", "magic"], "quantizer must be one of lsc, lsq, "),
        (["--option", "momentum"], "must be such as momentum=0.95"),
        (["--option", "momentum=high"], "below 1, but got high"),
        (["--option", "learn_alpha=maybe"], "learn_alpha must be true or false, but got maybe"),
        (["--option", "start_from=0", "--method", "lsq"], "must be own or mse or extremes"),
        (["--option", "learn_alpha=1", "--method", "lsq"], "lsq has no option 'learn_alpha'"),
        (["--activation-grid", "midrise"], "must be one of symmetric, affine"),
        (["--vrc", "magic"], "VRC mode must be one of"),
        (["--scope", "some"], "scope must be one of encoder, all"),
        (["--ptq", "magic"], "PTQ method must be one of brecq, gptq"),
        (["--ptq-option", "magic=1"], "name=value with one of act_order"),
        (["--ptq-option", "drop=1"], "drop must be at least 0 and below 1"),
        (["--vrc-tokens", "0"], "at least 1"),
        (["--plan", "{missing}/plan.yaml"], "cannot read the plan"),
        (["--plan", "{plan}"], "'memory_encoder.*' fits no layer of the scope"),
        (["--image-size", "100"], "positive multiple of 32"),
        (["--images", "0"], "at least 1"),
        (["--images", "many"], "invalid int value"),
        (["--report", "{missing}/r.json"], "folder does not exist"),
    ],
)
def test_bad_arguments_are_one_line(inputs, tmp_path, capsys, arguments, message):
    plan = inputs / "plan.yaml"
    plan.write_text("memory_encoder.*: w4a4\n")
    filled = [a.format(missing=tmp_path / "missing", plan=plan) for a in arguments]
    status = main(
        [
            *(str(inputs / "small.pt"), "--data", str(inputs / "images")),
            *("-o", str(tmp_path / "q.pt"), "--config", str(inputs / "small.yaml"), *filled),
        ]
    )
    assert_refused("qsam2-calibrate", status, message, capsys)
    assert not list(tmp_path.iterdir())


def test_the_whole_model_with_a_plan(inputs, tmp_path, capsys):
    output, plan = tmp_path / "q.pt", tmp_path / "plan.yaml"
    plan.write_text("memory_attention.*: w2a8\nmemory_encoder.*: float\n")
    arguments = ["--config", str(inputs / "small.yaml"), "--images", "1", "--image-size", "96"]
    arguments += ["--scope", "all", "--bits", "w4a8", "--vrc", "none", "--plan", str(plan)]
    data = str(inputs / "images" / "0.png")
    assert main([str(inputs / "small.pt"), "--data", data, "-o", str(output), *arguments]) == 0
    printed = capsys.readouterr().out
    for words in ("at w4a8 (", "at w2a8", "at w8a8"):
        assert words in printed
    entry = torch.load(output, weights_only=True)["quantization"]
    assert entry["scope"] == "all"
    assert not any(name.startswith("memory_encoder") for name in entry["layers"])


def test_missing_torch_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "torch" else name)
    status = main(["x.pt", "--data", ".", "-o", str(tmp_path / "q.pt")])
    assert_refused("qsam2-calibrate", status, "qsam2-deploy[train]", capsys)
