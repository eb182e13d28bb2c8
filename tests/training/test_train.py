"""Training from files to a file."""

from types import SimpleNamespace

import pytest

from qsam2_deploy.errors import InputError, TrainingError
from qsam2_deploy.quant.checkpoints.checkpoint import load_checkpoint
from qsam2_deploy.training import train
from qsam2_deploy.training.recipe import read_recipe
from qsam2_deploy.training.run import loop
from qsam2_deploy.training.train import TrainJob, train_model
from tests.training.jobs import validate_little, write_job

STAGE = {"name": "only", "steps": 1, "frames": 1, "clips": 1, "image_size": 32}


@pytest.fixture
def job(tmp_path, monkeypatch):
    """Options of a job of one step."""
    validate_little(monkeypatch)
    recipe = read_recipe(write_job(tmp_path, stages=[STAGE]))
    return {"recipe": recipe, "output": tmp_path / "new.pt", "device": "cpu", "quiet": True}


def test_quiet(job, capsys):
    assert train_model(TrainJob(**job)) == job["output"]
    assert capsys.readouterr() == ("", "")
    assert load_checkpoint(job["output"]).model.image_size == 32


def test_a_loss_that_is_not_finite_leaves_no_checkpoint(job, monkeypatch):
    real = loop.clip_losses
    monkeypatch.setattr(
        loop, "clip_losses", lambda *a, **k: {n: v / 0 for n, v in real(*a, **k).items()}
    )
    with pytest.raises(TrainingError, match="not finite at step 0; no state was saved yet"):
        train_model(TrainJob(**job))
    assert not list(job["output"].parent.glob("new.*"))


def test_a_quantized_start_is_refused(job, monkeypatch):
    found = SimpleNamespace(quantization={"bits": 4})
    monkeypatch.setattr(train, "load_checkpoint", lambda *a, **k: found)
    with pytest.raises(InputError, match=r"q.pt is quantized; float training starts from a float"):
        train_model(TrainJob(**job, init="q.pt"))


def test_an_earlier_run_is_not_overwritten(job):
    state = job["output"].with_name("new.state")
    state.write_bytes(b"earlier")
    with pytest.raises(InputError, match=r"new.state holds the state of an earlier run; pass --r"):
        train_model(TrainJob(**job))
    assert state.read_bytes() == b"earlier"


def test_a_stale_log_is_replaced(job):
    log = job["output"].with_name("new.log.jsonl")
    log.write_text("of an earlier run whose state was deleted\n")
    train_model(TrainJob(**job))
    assert "earlier" not in log.read_text()
