"""The table of trainings: which cells are measured, which rate is chosen, what is shown."""

import json
from argparse import Namespace
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the benchmark trains")
pytest.importorskip("sam2", reason="the benchmark trains")

from benchmarks.accuracy import _qat_results, qsam2_table
from benchmarks.accuracy._qat_results import KEYS
from benchmarks.accuracy.qsam2_table import Cell
from qsam2_deploy.calibration import CalibrationConfig
from qsam2_deploy.errors import InputError
from qsam2_deploy.training.recipe import read_recipe
from qsam2_deploy.training.train import TrainJob

METHODS, RATES, SEEDS = ["lsc", "minmax"], [0.5, 2.0], [3, 4]


class _Workplace:
    """Scores that follow from the cell: rate 2 validates best, but tests worst."""

    def __init__(self, folder: Path) -> None:
        self.args = Namespace(
            output=folder, regimes=["plain"], bits=["w2a2"], methods=METHODS, vrc=["none"],
            rates=RATES, seeds=SEEDS, variants=["-"],
        )  # fmt: skip
        self.measured: list[Cell] = []

    def measure(self, cell: Cell) -> dict[str, Any]:
        self.measured.append(cell)
        test = 90.0 if cell.bits == "float" else 50 - 10 * cell.rate + cell.seed
        numbers = {"generated": test + 1, "J&F": test, "mIoU": test + 2}
        return {"validation": 10 * cell.rate + cell.seed, **numbers}


@pytest.fixture
def folder(tmp_path) -> Path:
    work: Any = _Workplace(tmp_path)
    qsam2_table.run(work, {"frames": 3})
    first = list(work.measured)
    assert first[0] == Cell("plain", "float")
    assert first[1:6] == [
        Cell("plain", "w2a2", "lsc", "none", rate, seed)
        for rate, seed in ((0.0, 0), (0.5, 3), (2.0, 3), (2.0, 4))
    ] + [Cell("plain", "w2a2", "minmax", "none", 0.0, 0)]
    qsam2_table.run(work, {"frames": 3})
    assert work.measured == first, "what is there is kept"
    qsam2_table.run(work, {"frames": 4})
    assert work.measured == first + first, "other settings are measured anew"
    return tmp_path


def test_the_table_shows_the_rate_that_validates_best(folder):
    scores = ("50.0 → 33.5 ± 0.7", "51.0 → 34.5 ± 0.7", "52.0 → 35.5 ± 0.7")
    trained = f"none | - | 2 | 2 | {' | '.join(scores)} |"
    lines = qsam2_table.table(folder).splitlines()
    assert lines[0] == "W2A2, weights: plain"
    assert lines[4:] == [
        "| float | none | - |  |  | 90.0 | 91.0 | 92.0 |",
        f"| lsc | {trained}",
        f"| minmax | {trained}",
    ]


def test_the_table_at_one_rate(folder):
    lines = qsam2_table.table(folder, 0.5).splitlines()
    assert lines[5] == "| lsc | none | - | 0.5 | 1 | 50.0 → 48.0 | 51.0 → 49.0 | 52.0 → 50.0 |"


def test_each_regime_and_width_has_its_table_and_variants_come_last(tmp_path):
    cells = [
        Cell("plain", "float"),
        Cell("outliers", "float"),
        Cell("plain", "w4a4", "lsc", "noise", 1.0, variant="fixed-alpha"),
        Cell("plain", "w4a4", "lsq", "none", 1.0),
        Cell("plain", "w4a4", "lsc", "noise", 1.0),
        Cell("plain", "w2a2", "lsc", "none"),
        Cell("outliers", "w4a4", "lsc", "none"),
    ]
    for cell in cells:
        scores = dict.fromkeys(KEYS, 1.0)
        content = {**asdict(cell), "settings": {}, "results": scores}
        (tmp_path / cell.file).write_text(json.dumps(content))
    lines = qsam2_table.table(tmp_path).splitlines()
    titles = [line for line in lines if "weights:" in line]
    assert titles == ["W4A4, weights: plain", "W2A2, weights: plain", "W4A4, weights: outliers"]
    names = [line.split(" | ")[:3] for line in lines[4:8]]
    assert names == [
        ["| float", "none", "-"],
        ["| lsc", "noise", "-"],
        ["| lsq", "none", "-"],
        ["| lsc", "noise", "fixed-alpha"],
    ]
    panels = _qat_results._panels([row for row in _qat_results.rows(tmp_path) if row.seeds])
    assert [(title, [row.label for row in rows]) for title, rows in panels] == [
        ("W4A4, weights: plain", ["lsc + VRC", "lsq"]),
        ("W4A4, weights: plain, variants", ["lsc + VRC", "lsc + VRC, fixed-alpha"]),
    ]


def test_the_plot_is_drawn_from_the_files(folder, tmp_path):
    pytest.importorskip("matplotlib")
    target = tmp_path / "table.png"
    arguments = ["-o", str(folder), "--table", "--plot", str(target)]
    assert qsam2_table.main(arguments) == 0
    assert target.read_bytes().startswith(b"\x89PNG")


def test_nothing_trained_nothing_drawn(tmp_path):
    with pytest.raises(InputError, match="run the benchmark first"):
        qsam2_table.table(tmp_path)
    cell = {"regime": "plain", "bits": "float", "method": "float", "vrc": "none", "rate": 0.0}
    scores = dict.fromkeys(KEYS, 1.0)
    content = {**cell, "seed": 0, "variant": "-", "settings": {}, "results": scores}
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="nothing was trained"):
        qsam2_table.plot(tmp_path, tmp_path / "x.png")


def test_the_data_are_needed_to_measure(capsys, tmp_path):
    assert qsam2_table.main(["-o", str(tmp_path)]) == 2
    assert "needs --davis ROOT" in capsys.readouterr().err


def test_rates_seeds_and_steps_of_a_cell(tmp_path):
    recipe = read_recipe(qsam2_table.RECIPE)
    work: Any = qsam2_table.QatWorkplace.__new__(qsam2_table.QatWorkplace)
    work.recipe, work.args = recipe, Namespace(scale=0.5)
    changed = work._recipe(Cell("plain", "w2a2", "lsc", "none", 2.0, 7)).train
    (stage,), (original,) = changed.stages, recipe.train.stages
    assert changed.seed == 7
    assert stage.steps == round(0.5 * original.steps)
    assert stage.learning_rate == tuple(2.0 * rate for rate in original.learning_rate)


@pytest.mark.parametrize("variant", qsam2_table.VARIANTS)
def test_a_variant_changes_one_part(variant):
    recipe = read_recipe(qsam2_table.RECIPE)
    work: Any = qsam2_table.QatWorkplace.__new__(qsam2_table.QatWorkplace)
    work.recipe, work.args = recipe, Namespace(scale=1.0)
    changed = work._recipe(Cell("plain", "w2a2", "lsc", "noise", 1.0, variant=variant)).train
    usual = CalibrationConfig(bits="w2a2", method="lsq" if "from-" in variant else "lsc")
    calibrated = replace(usual, **qsam2_table.VARIANTS[variant].calibration)
    same = [
        changed.stages == recipe.train.stages,
        changed.quantizers == recipe.train.quantizers,
        calibrated == usual,
    ]
    assert same.count(False) == (variant != "-")
    file = Cell("plain", "w2a2", variant=variant).file
    assert (variant in file) == (variant != "-")


@pytest.mark.parametrize(("variant", "follows"), [("-", True), ("no-teacher", False)])
def test_only_stages_that_distil_get_a_teacher(tmp_path, monkeypatch, variant, follows):
    jobs: list[TrainJob] = []

    def train(job: TrainJob) -> Path:
        jobs.append(job)
        job.output.write_bytes(b"")
        return job.output

    monkeypatch.setattr(qsam2_table, "train_model", train)
    work: Any = qsam2_table.QatWorkplace.__new__(qsam2_table.QatWorkplace)
    work.recipe, work.folder, work.train = read_recipe(qsam2_table.RECIPE), tmp_path, []
    work.args = Namespace(scale=1.0, checkpoint="float.pt")
    cell = Cell("plain", "w2a2", "lsc", "noise", 1.0, variant=variant)
    assert work._trained(cell, tmp_path / "q.pt") == tmp_path / "trained.pt"
    assert (jobs[0].teacher == Path("float.pt")) == follows
    assert (jobs[0].teacher is None) != follows
