"""benchmarks.speed.qat_memory: what is timed, and what it reports."""

import json
from types import SimpleNamespace

import pytest
import yaml

pytest.importorskip("torch", reason="the benchmark trains")
pytest.importorskip("sam2", reason="the benchmark trains")

from benchmarks.speed import qat_memory
from qsam2_deploy.training.model.clip_model import ClipModel
from qsam2_deploy.training.model.quantizers import QuantizerTrainer
from qsam2_deploy.training.run.loop import TrainingRun
from tests.training.small import SIZE, tiny_config


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(tiny_config(SIZE)))
    return str(path)


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still but for what a test adds to it."""
    clock = SimpleNamespace(now=0.0)
    fake = SimpleNamespace(perf_counter=lambda: clock.now)
    monkeypatch.setattr(qat_memory, "time", fake)
    return clock


def takes(monkeypatch, clock, owner, name, seconds):
    """Let a method take so many seconds."""
    real = getattr(owner, name)

    def slow(self, *arguments, **options):
        clock.now += seconds
        return real(self, *arguments, **options)

    monkeypatch.setattr(owner, name, slow)


def test_a_step_is_timed_whole(model, clock, monkeypatch, capsys):
    """Two periods: steps 4 and 8 update statistics, and the last one looks at the clips."""
    takes(monkeypatch, clock, ClipModel, "forward", 1.0)
    takes(monkeypatch, clock, TrainingRun, "_update", 10.0)
    takes(monkeypatch, clock, QuantizerTrainer, "_joined_samples", 100.0)
    takes(monkeypatch, clock, QuantizerTrainer, "_keep_positive", 1000.0)
    takes(monkeypatch, clock, TrainingRun, "_after_step", 1e6)  # logs and saves
    assert qat_memory.main([model, "--kind", "quantized", "--device", "cpu", "--clips", "1"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["seconds_others"] == 11.0
    assert found["seconds_observing"] == 111.0 + 0.5 * 1000.0
    assert found["seconds"] == (found["seconds_observing"] + 3 * found["seconds_others"]) / 4


def test_times():
    """The first step is not counted; of five or more the median is not the slowest."""
    found = qat_memory.times([99.0, 1, 1, 9, 5, 1, 1, 1, 7], 4)
    assert found == {"seconds": (6.0 + 3 * 1.0) / 4, "seconds_observing": 6.0, "seconds_others": 1}


def test_too_few_steps(model, capsys):
    assert qat_memory.main([model, "--steps", "8"]) == 2
    assert "expected a whole number from 9, but got '8'" in capsys.readouterr().err


def test_the_table_and_the_report(model, tmp_path, monkeypatch, capsys):
    numbers = {
        "seconds": 2.0, "seconds_observing": 5.0, "seconds_others": 1.0,
        "peak_mebibytes": 300.0, "process_mebibytes": 800.0,
    }  # fmt: skip
    twice = {name: 2 * value for name, value in numbers.items()}
    kinds = {"float": numbers, "quantized": twice, "quantized, distilled": numbers}
    monkeypatch.setattr(qat_memory, "_in_a_process", lambda kind, argv: kinds[kind])
    assert qat_memory.main([model, "--json", str(tmp_path / "out.json")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split() == ["quantized", "4.000", "10.000", "2.000", "600", "1600", "2.00x",
                                "2.00x"]  # fmt: skip
    results = json.loads((tmp_path / "out.json").read_text())["results"]
    assert results["kinds"] == kinds
    assert results["options"]["steps"] == 9


@pytest.mark.slow
def test_a_kind_has_a_process_of_its_own(model):
    """In this one the peak may be that of an earlier test."""
    found = qat_memory._in_a_process(
        "quantized, distilled", [model, "--device", "cpu", "--frames", "2"]
    )
    assert min(found[name] for name in found if name.startswith("seconds")) > 0
    assert 0 < found["peak_mebibytes"] < found["process_mebibytes"]
