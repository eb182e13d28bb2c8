"""The shipped checkpoints are those of the card, and the card has the numbers of the results."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks.accuracy._model_card import SECTIONS, filled, tables
from qsam2_deploy._common.files import file_digest

ROOT = Path(__file__).parents[1]
ASSETS, RESULTS = ROOT / "assets", ROOT / "benchmarks" / "results"
CARD = (ASSETS / "README.md").read_text()
REPORT = json.loads((RESULTS / "demo_model.json").read_text())
LOW_BIT = ("w2a2", "w4a4")


def load(name: str) -> Any:
    for package in ("torch", "sam2", "yaml"):
        pytest.importorskip(package, reason="opening a checkpoint needs torch, sam2 and pyyaml")
    from qsam2_deploy.quant.checkpoints.checkpoint import load_checkpoint

    return load_checkpoint(ASSETS / name)


def test_the_shipped_checkpoint_is_the_measured_one():
    path = ASSETS / "demo.pt"
    size = path.stat().st_size
    assert size <= 16e6
    assert size == REPORT["results"]["bytes"]["checkpoint"]
    digest = file_digest(path)
    assert digest == REPORT["results"]["settings"]["model_sha256"]
    assert re.findall(r"`([0-9a-f]{64})`", CARD) == [digest]


def test_the_shipped_checkpoint_has_the_size_that_the_card_says():
    loaded, said = load("demo.pt"), REPORT["results"]["model"]
    assert loaded.quantization is None
    assert loaded.model.image_size == said["image_size"] >= 256
    assert loaded.model.hidden_dim == said["d_model"]
    assert loaded.model.mem_dim == said["memory_dim"]
    assert sum(p.numel() for p in loaded.model.parameters()) == said["parameters"]


def test_tables_of_the_card_are_those_of_the_results():
    found = tables(REPORT)
    assert set(found) == set(SECTIONS)
    assert filled(CARD, found, "the card") == CARD


def test_the_exported_models_agree_within_the_limits_of_the_card():
    results = REPORT["results"]
    limited = [row for row in results["differences"] if row["within"] is not None]
    assert {(row["dataset"], row["engine"]) for row in limited} == {
        (dataset, engine) for dataset in ("generated", "davis") for engine in results["limits"]
    }
    for row in limited:
        loss = -row["difference"] if row["engine"] == "onnx w8a8" else abs(row["difference"])
        assert loss <= results["limits"][row["engine"]]


@pytest.mark.parametrize("bits", LOW_BIT)
def test_low_bit_checkpoints_are_packed_versions_of_the_shipped_one(bits):
    low, shipped = load(f"demo-{bits}.pt"), load("demo.pt")
    from qsam2_deploy.quant.checkpoints.entry import float_state
    from qsam2_deploy.quant.layers.modules import quantized_layers

    assert low.path.stat().st_size < 0.7 * shipped.path.stat().st_size
    assert low.config == shipped.config
    assert float_state(low.model).keys() == float_state(shipped.model).keys()
    layers = low.quantization["layers"].values()
    assert len(layers) == len(quantized_layers(low.model)) > 30
    assert all("packed" in layer for layer in layers)
    widths = [f"w{layer['weight']['bits']}a{layer['input']['bits']}" for layer in layers]
    assert sorted(set(widths)) == sorted({bits, "w8a8"})
    assert widths.count("w8a8") == 2


@pytest.mark.parametrize("bits", LOW_BIT)
def test_low_bit_checkpoints_are_the_measured_ones(bits):
    path = ASSETS / f"demo-{bits}.pt"
    files = [RESULTS / f"demo_{bits}_{kind}mask.json" for kind in ("untrained_", "", "onnx_")]
    scored = [json.loads(file.read_text()) if file.exists() else None for file in files]
    assert scored[1]["settings"]["model_sha256"] == file_digest(path)
    (row,) = re.findall(rf"^\| {bits.upper()}, `{path.name}` \| (.*) \|$", CARD, re.MULTILINE)
    size, *scores = (cell.strip() for cell in row.split("|"))
    assert size == f"{path.stat().st_size / 1e6:.1f} MB"
    assert scores == ["" if found is None else f"{found['J&F']:.1f}" for found in scored]
