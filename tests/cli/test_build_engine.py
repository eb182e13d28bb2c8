"""``qsam2-build-engine`` as a user runs it; the library is a stand-in."""

import json
import sys
from pathlib import Path

import pytest

from qsam2_deploy.cli.build_engine import main
from qsam2_deploy.engine_build import build as build_module
from qsam2_deploy.engines.tensorrt.engine_file import read_engine
from qsam2_deploy.engines.tensorrt.gpu import Gpu
from qsam2_deploy.engines.tensorrt.library import BUILDERS, Library
from qsam2_deploy.spec import COMPONENTS
from tests.cli.refusal import assert_refused
from tests.engines.tensorrt.fake_library import FakeTensorRT
from tests.support.lowered_gpu import LoweredGpu, not_finite
from tests.support.weights import load_written, small_config, write_checkpoint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    config = small_config(64, d_model=32, memory_dim=8, embed_dim=8)
    return write_checkpoint(tmp_path_factory.mktemp("engine") / "small.pt", config)


@pytest.fixture(scope="module")
def quantized(checkpoint) -> Path:
    from qsam2_deploy.export import onnx_from_checkpoint
    from tests.support.quantized_model import quantize_model

    path = checkpoint.with_name("quantized.onnx")
    loaded = load_written(checkpoint)
    onnx_from_checkpoint(quantize_model(loaded, 4), path, show_progress=False)
    return path


@pytest.fixture
def trt(monkeypatch) -> FakeTensorRT:
    fake = FakeTensorRT()

    def find(name: str | None) -> Library:
        return fake.library(name or BUILDERS[0])

    monkeypatch.setattr(build_module, "find_library", find)
    return fake


@pytest.mark.parametrize("precision", ["int8", "int4", "fp16"])
def test_it_builds_and_says_what(trt, quantized, tmp_path, precision, capsys):
    output, numbers = tmp_path / "m.engine", tmp_path / "m.json"
    status = main([str(quantized), str(output), f"--{precision}", "--json", str(numbers)])
    out, err = capsys.readouterr()
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert [line.split()[0] for line in lines] == ["component", *COMPONENTS, "self-test:", "wrote"]
    assert "not run: no GPU was found" in lines[-2]
    assert lines[-1].endswith(f"{precision}, tensorrt 10.3.0)")
    assert read_engine(output).header.precision == precision
    assert json.loads(numbers.read_text())["precision"] == precision


def test_options_are_passed_on(trt, model_path, tmp_path, capsys):
    output, cache = tmp_path / "m.engine", tmp_path / "timings"
    asked = (
        "--workspace 64 --optimization-level 2 --version-compatible --quiet --max-objects 2 "
        "--hardware-compatibility ampere_plus --max-points 3 --max-conditioning 1"
    )
    flags = [*asked.split(), "--timing-cache", str(cache)]
    assert main([str(model_path), str(output), "--fp16", *flags]) == 0
    assert capsys.readouterr() == ("", "")
    config = trt.configs[2]
    assert config.pools == {"workspace": 64 << 20}
    assert config.builder_optimization_level == 2
    assert config.profiles[0]["point_labels"][2] == (2, 3)
    assert cache.exists()
    header = read_engine(output).header
    assert header.target.version_compatible
    assert header.profiles["memory_attention"][0].dimensions["F"] == (1, 7, 7)
    assert main([str(model_path), str(output), "--fp16", "--builder", "tensorrt-rtx",
                 "--compute-capability", "8.6", "--compute-capability", "8.9"]) == 0  # fmt: skip
    assert read_engine(output).header.target.compute_capabilities == ("8.6", "8.9")


def test_verbose_prints_what_the_library_says(trt, model_path, tmp_path, capsys):
    assert main([str(model_path), str(tmp_path / "m.engine"), "--fp16", "--verbose"]) == 0
    assert capsys.readouterr().err.splitlines() == ["warning: a warning"] * 4


def test_what_the_self_test_did_is_said(quantized, tmp_path, monkeypatch, capsys):
    gpu = LoweredGpu()
    gpu.times = {("image_encoder", "int8"): 2.5, ("image_encoder", "fp16"): 4.0}
    gpu.faults["mask_decoder"] = not_finite
    monkeypatch.setattr(build_module, "find_library", lambda name: gpu.library)
    monkeypatch.setattr(build_module, "current_gpu", lambda: Gpu("Orin", "8.7"))
    monkeypatch.setattr(build_module, "_on_gpu", lambda library: gpu.open_runner)
    output, numbers = tmp_path / "m.engine", tmp_path / "m.json"
    assert main([str(quantized), str(output), "--fp16"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[3].startswith("mask_decoder ")
    assert lines[3].endswith("  attention not fused")
    assert lines[-2].startswith("self-test: passed; with fused attention mask_decoder was wrong")
    assert main([str(quantized), str(output), "--auto", "--json", str(numbers)]) == 0
    out = capsys.readouterr().out
    table = [line.split() for line in out.split("\n\n")[0].splitlines()]
    assert table[0] == ["component", "precision", "attention", "ms", "error"]
    rows = [row for row in table if row[:2] == ["*", "image_encoder"]]
    assert [row[2:5] for row in rows] in (
        [["int8", "fused", "2.500"]],
        [["int4", "fused", "1.000"]],
    )
    assert any("inf" in row and "wrong," in row and row[0] == "mask_decoder" for row in table)
    report = json.loads(numbers.read_text())
    assert sum(trial["milliseconds"] > 0 for trial in report["tried"]) == len(table) - 1


@pytest.mark.parametrize("flags", [[], ["--no-self-test"]])
def test_attention_can_be_kept_from_fusing(trt, model_path, tmp_path, flags, capsys):
    output = tmp_path / "m.engine"
    assert main([str(model_path), str(output), "--fp16", "--no-fused-attention", *flags]) == 0
    out = capsys.readouterr().out
    assert out.count("attention not fused") == len(COMPONENTS)
    assert ("it was not asked for" in out) == bool(flags)
    assert not read_engine(output).header.variant("image_encoder").fused_attention


@pytest.mark.parametrize("precision", ["int8", "int4", "fp16", "auto"])
def test_without_paths_it_says_what_it_needs(precision, capsys):
    assert main([f"--{precision}"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert 7 <= len(lines) <= 24
    assert max(map(len, lines)) <= 100
    assert lines[0].startswith(f"--{precision} ")
    assert lines[-1].strip() == f"then     qsam2-build-engine model.onnx model.engine --{precision}"
    for wanted in (
        "apt install python3-libnvinfer-dev",
        "qsam2-deploy[tensorrt-rtx]",
        "model.onnx",
    ):
        assert wanted in out


def test_bad_input_is_one_line(trt, model_path, tmp_path, capsys):
    path, output = str(model_path), str(tmp_path / "m.engine")
    text = tmp_path / "text.onnx"
    text.write_text("no model")
    for arguments, message in (
        ([path, output], "say which engine to build: --int8, --int4, --fp16 or --auto"),
        ([path, "--int8"], "say which file to write"),
        ([path, output, "--int8", "--int4"], "not allowed with argument"),
        ([path, output, "--int4"], "no weights that fit INT4"),
        ([path, output, "--auto"], "--auto times engines on the GPU that they are for, but no GPU"),
        ([path, output, "--auto", "--no-fused-attention"], "auto tries attention both ways"),
        ([path, output, "--int8"], "no integers to multiply"),
        ([str(text), output, "--fp16"], "is not an ONNX model"),
        ([path, str(tmp_path), "--fp16"], "it is a folder"),
        ([path, output, "--fp16", "--workspace", "0"], "expected a whole number from 1"),
        ([path, output, "--fp16", "--optimization-level", "9"], "must be from 0 to 5"),
        ([path, output, "--fp16", "--compute-capability", "8.9"], "has no compute capability"),
        ([path, output, "--fp16", "--json", str(tmp_path / "no" / "x")], "does not exist"),
    ):
        assert_refused("qsam2-build-engine", main(arguments), message, capsys)
    assert list(tmp_path.iterdir()) == [text]


def test_without_a_library_it_says_which_extra(model_path, tmp_path, capsys, monkeypatch):
    for name in ("tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings"):
        monkeypatch.setitem(sys.modules, name, None)
    for machine, message in (
        ("x86_64", "pip install 'qsam2-deploy[tensorrt]'"),
        ("aarch64", "sudo apt install python3-libnvinfer-dev"),
    ):
        monkeypatch.setattr("platform.machine", lambda machine=machine: machine)
        assert main([str(model_path), str(tmp_path / "m.engine"), "--fp16"]) == 2
        assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
