"""Outliers that change no output, and results that are kept cell by cell."""

import csv
import json
from pathlib import Path
from statistics import median
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the benchmarks run checkpoints")
pytest.importorskip("sam2", reason="the benchmarks run checkpoints")

from benchmarks.accuracy import outliers, ptq, vrc_effect, weight_statistics  # noqa: E402
from benchmarks.accuracy._outliers import add_outliers, peak_ratio, real_peaks  # noqa: E402
from qsam2_deploy.calibration import CalibrationConfig, CalibrationReport  # noqa: E402
from qsam2_deploy.calibration.report import LayerReport  # noqa: E402
from qsam2_deploy.calibration.vrc import VrcReport  # noqa: E402
from qsam2_deploy.errors import InputError  # noqa: E402
from qsam2_deploy.quant.checkpoints.architecture import build_model  # noqa: E402
from qsam2_deploy.quant.checkpoints.checkpoint import load_checkpoint  # noqa: E402
from tests.support.weights import random_state_dict, small_config  # noqa: E402

ROLES = ("attn.qkv", "attn.proj", "mlp.layers.0")
PEAKS = {"attn.qkv": [7.0, 9.0, 11.0], "attn.proj": [8.0], "mlp.layers.0": [6.0, 10.0]}


def _gaussian_model() -> Any:
    """A model with realistic norms and biases, whose linear layers have no outliers."""
    model: Any = build_model(small_config(64))
    model.load_state_dict(random_state_dict(model))
    generator = torch.Generator().manual_seed(0)
    for block in model.image_encoder.trunk.blocks:
        for layer in block.modules():
            if isinstance(layer, torch.nn.Linear):
                weight = torch.randn(layer.weight.shape, generator=generator)
                layer.weight.copy_(weight / layer.in_features**0.5)
    return model


def _statistics(path: Path) -> Path:
    lines = ["name,numel,mean,std,min,max"]
    for role, ratios in PEAKS.items():
        lines += [
            f"image_encoder.trunk.blocks.{n}.{role}.weight,100,0,0.5,{-0.5 * ratio},0.1"
            for n, ratio in enumerate(ratios)
        ]
    path.write_text("\n".join([*lines, "memory_encoder.out_proj.weight,9,0,1,-1,1"]))
    return path


def test_outliers_change_no_output():
    model = _gaussian_model()
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    before = model.image_encoder(image)
    rows = add_outliers(model, PEAKS)
    after = model.image_encoder(image)
    for name in ("vision_features", *range(2)):
        old, new = (
            x["backbone_fpn"][name] if isinstance(name, int) else x[name] for x in (before, after)
        )
        assert float((new - old).abs().max() / old.abs().max()) < 1e-4
    assert len(rows) == 3 * len(model.image_encoder.trunk.blocks)
    modules = dict(model.named_modules())
    for row in rows:
        assert row.before < 6 < row.wanted + 1e-3
        assert peak_ratio(modules[row.name].weight) == pytest.approx(row.after, rel=1e-6)
        # A narrow layer cannot have every peak: with one large column it is at most about this.
        if row.wanted < modules[row.name].in_features ** 0.5:
            assert row.after == pytest.approx(row.wanted, rel=0.02)
        assert row.after > 1.3 * row.before
    assert median(row.after for row in rows) > 2 * median(row.before for row in rows)


def test_layers_take_the_peaks_of_their_depth():
    rows = {row.name: row.wanted for row in add_outliers(_gaussian_model(), PEAKS)}
    wanted = [rows[f"image_encoder.trunk.blocks.{n}.attn.qkv"] for n in range(8)]
    assert wanted == sorted(wanted)
    assert (wanted[0], wanted[-1]) == (7.0, 11.0)


def test_statistics_of_a_checkpoint(tmp_path):
    assert real_peaks(_statistics(tmp_path / "real.csv")) == PEAKS
    row = "image_encoder.trunk.blocks.0.attn.qkv.weight,x,1,2"
    for content in ("name,std\n", "", f"name,std,min,max\n{row}"):
        (tmp_path / "bad.csv").write_text(content)
        with pytest.raises(InputError, match="weight statistics"):
            real_peaks(tmp_path / "bad.csv")
    with pytest.raises(InputError, match="cannot read"):
        real_peaks(tmp_path / "none.csv")


def test_the_command_writes_a_checkpoint(tmp_path, capsys):
    from qsam2_deploy.quant.checkpoints.checkpoint import save_checkpoint

    model = _gaussian_model()
    save_checkpoint(tmp_path / "a.pt", model.state_dict(), config=small_config(64))
    arguments = [tmp_path / "a.pt", "-o", tmp_path / "b.pt"]
    arguments += ["--statistics", _statistics(tmp_path / "real.csv")]
    assert outliers.main([str(argument) for argument in arguments]) == 0
    assert "median" in capsys.readouterr().out
    changed: Any = load_checkpoint(tmp_path / "b.pt").model
    weight, original = (m.image_encoder.trunk.blocks[0].attn.qkv.weight for m in (changed, model))
    assert peak_ratio(weight) > 1.3 * peak_ratio(original)


def test_statistics_of_all_tensors(tmp_path):
    from qsam2_deploy.quant.checkpoints.checkpoint import save_checkpoint

    model = _gaussian_model()
    save_checkpoint(tmp_path / "a.pt", model.state_dict(), config=small_config(64))
    arguments = [str(tmp_path / "a.pt"), "-o", str(tmp_path / "a.csv")]
    assert weight_statistics.main(arguments) == 0
    with (tmp_path / "a.csv").open(newline="") as stream:
        rows = {row["name"]: row for row in csv.DictReader(stream)}
    assert rows.keys() == model.state_dict().keys()
    weight = model.image_encoder.trunk.blocks[0].attn.qkv.weight
    row = rows["image_encoder.trunk.blocks.0.attn.qkv.weight"]
    assert float(row["std"]) == pytest.approx(float(weight.std()), rel=1e-5)
    peak = real_peaks(tmp_path / "a.csv")["attn.qkv"][0]
    assert peak == pytest.approx(peak_ratio(weight), rel=1e-5)


def test_errors_of_vrc_are_relative_to_the_weights_before():
    reports = [
        VrcReport(
            applied=True, lam=0.1, condition_number=1.0, std_ratio=0.6, norm_ratio=norm,
            absmax_ratio=0.5, output_error=error, weight_error_before=0.4, weight_error_after=0.5,
            std_before=1.0, weights=10,
        )
        for norm, error in ((0.5, 0.001), (0.9, 0.001), (0.5, 0.2))
    ]  # fmt: skip
    layers = tuple(
        LayerReport(f"trunk.blocks.{n}.attn.qkv", 4, 4, 1.0, 3.0, 2.0, 0, report)
        for n, report in enumerate(reports)
    )
    report = CalibrationReport(
        Path("q.pt"), "", CalibrationConfig(), 4, layers, feature_error=0.1, feature_images=2
    )
    found = vrc_effect.summary(report)
    assert found["weight_error_after"] == pytest.approx(0.25)
    assert found["layers_with_small_output_error"] == 2
    assert found["of_these_with_lower_weight_error"] == 1


class _Workplace:
    """Stands for the data: every measurement gives other numbers."""

    def __init__(self, folder: Path) -> None:
        self.args = type("Args", (), {"output": folder})()
        self.measured: list[ptq.Cell] = []

    def measure(self, cell: ptq.Cell) -> dict[str, Any]:
        self.measured.append(cell)
        number = float(len(self.measured))
        return {"feature_error": number / 10, "J&F": number, "mIoU": number + 0.5, "notes": {}}


def test_cells_are_kept_and_the_table_is_made_of_files(tmp_path):
    work: Any = _Workplace(tmp_path)
    cells = [
        ptq.Cell("gptq", "w2a2", "none", "outliers"),
        ptq.Cell("mse", "w4a4", "noise", "plain"),
        ptq.Cell("float", "float", "none", "plain"),
    ]
    for cell in cells + cells:
        ptq.run_cell(work, cell, {"frames": 3, "test": ("a", "b")})
    assert work.measured == cells
    assert len(list(tmp_path.glob("*.json"))) == 3
    ptq.run_cell(work, cells[0], {"frames": 4, "test": ("a", "b")})
    assert work.measured == [*cells, cells[0]]
    lines = ptq.table(tmp_path).splitlines()
    assert lines[2:] == [
        "| plain | float | none | float | 0.3000 | 3.00 | 3.50 |",
        "| plain | w4a4 | noise | mse | 0.2000 | 2.00 | 2.50 |",
        "| outliers | w2a2 | none | gptq | 0.4000 | 4.00 | 4.50 |",
    ]


def test_foreign_results_are_refused(tmp_path):
    with pytest.raises(InputError, match="run the benchmark first"):
        ptq.table(tmp_path)
    for content in ("{", json.dumps([1]), json.dumps({"results": {}})):
        (tmp_path / "x.json").write_text(content)
        with pytest.raises(InputError, match="no result of this benchmark; delete it"):
            ptq.table(tmp_path)
