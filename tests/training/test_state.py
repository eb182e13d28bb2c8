"""The training state on disk."""

import errno
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from qsam2_deploy.errors import CheckpointError, InputError
from qsam2_deploy.training.config import Stage, TrainConfig
from qsam2_deploy.training.run.state import TrainingState, run_digest
from tests.training.small import CLIPS, TRAIN, assert_equal_states, tiny_config

FULL_DISK = Path("/dev/full")


def new_state(*, digest="d", seed=0):
    torch.manual_seed(seed)
    model, average = nn.Linear(300, 200), nn.Linear(3, 2)
    state = TrainingState(model, average, torch.optim.AdamW(model.parameters()), digest)
    model(torch.randn(4, 300)).square().sum().backward()
    state.optimizer.step()
    state.step, state.seconds = 10 + seed, 1.5
    return state


def contents(state):
    parts = [part.state_dict() for part in (state.model, state.average, state.optimizer)]
    return [*parts, state.step, state.seconds]


def test_round_trip(tmp_path):
    saved, other = new_state(), new_state(seed=1)
    saved.save(tmp_path / "s.state")
    other.load(tmp_path / "s.state")
    assert_equal_states(contents(saved), contents(other))
    assert [path.name for path in tmp_path.iterdir()] == ["s.state"]


def test_missing(tmp_path):
    with pytest.raises(CheckpointError, match=r"no training state .*s.state to resume; run witho"):
        new_state().load(tmp_path / "s.state")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_truncated(tmp_path, share):
    path = tmp_path / "s.state"
    new_state().save(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(CheckpointError, match=r"s.state is damaged or not a training state; st"):
        new_state().load(path)


@pytest.mark.parametrize("junk", [b"junk", b"\x80\x02", b"PK\x03\x04" + bytes(99), bytes(999)])
def test_foreign(tmp_path, junk):
    (tmp_path / "s.state").write_bytes(junk)
    with pytest.raises(CheckpointError, match="is damaged or not a training state"):
        new_state().load(tmp_path / "s.state")


@pytest.mark.parametrize(
    "content", [{"model": {}}, {"format": 1, "step": 3}, [1, 2], torch.ones(3), 3, "text"]
)
def test_other_torch_files(tmp_path, content):
    torch.save(content, tmp_path / "s.state")
    with pytest.raises(CheckpointError, match="is damaged or not a training state"):
        new_state().load(tmp_path / "s.state")


def test_newer_format(tmp_path):
    torch.save({"format": 2}, tmp_path / "s.state")
    with pytest.raises(CheckpointError, match="has format 2, but this version reads format 1"):
        new_state().load(tmp_path / "s.state")


def test_of_another_run(tmp_path):
    new_state(digest="other").save(tmp_path / "s.state")
    with pytest.raises(CheckpointError, match="another recipe, seed, architecture or data"):
        new_state().load(tmp_path / "s.state")


def test_what_the_digest_covers():
    same = [
        replace(TRAIN, log_every=7, save_every=9, validate_every=3, workers=2),
        TrainConfig(**vars(TRAIN)),
    ]
    other = [
        replace(TRAIN, seed=1),
        replace(TRAIN, ema=0.5),
        replace(TRAIN, from_scratch=True),
        replace(TRAIN, stages=(*TRAIN.stages[:1], replace(CLIPS, learning_rate=(1e-3, 1e-4)))),
        replace(TRAIN, stages=(*TRAIN.stages, Stage("more", 1, 1, 1, 32))),
    ]
    digest = run_digest(TRAIN, tiny_config())
    assert {run_digest(config, tiny_config()) for config in same} == {digest}
    others = {run_digest(config, tiny_config()) for config in other}
    others.add(run_digest(TRAIN, tiny_config(96)))
    assert len(others) == len(other) + 1
    assert digest not in others


def raises(error):
    def save(content, target):
        target.write(b"half a file")
        raise error

    return save


def saves_to_full_disk(real):
    def save(content, target):
        with FULL_DISK.open("wb") as stream:
            real(content, stream)

    return save


def hides_the_reason(content, target):
    try:
        raise OSError(errno.ENOSPC, "No space left on device")
    finally:
        raise RuntimeError("unexpected pos 704 vs 598")


@pytest.mark.parametrize("failure", ["error", "hidden", "real"])
def test_full_disk_keeps_the_earlier_state(tmp_path, monkeypatch, failure):
    if failure == "real" and not FULL_DISK.exists():
        pytest.skip("this system has no /dev/full")
    path, earlier = tmp_path / "s.state", new_state()
    earlier.save(path)
    fake = {
        "error": raises(OSError(errno.ENOSPC, "No space left on device")),
        "hidden": hides_the_reason,
        "real": saves_to_full_disk(torch.save),
    }[failure]
    monkeypatch.setattr(torch, "save", fake)
    with pytest.raises(InputError, match=r"cannot write .*s.state: the disk is full; free some"):
        new_state(seed=1).save(path)
    monkeypatch.undo()
    assert [item.name for item in tmp_path.iterdir()] == ["s.state"]
    loaded = new_state(seed=1)
    loaded.load(path)
    assert_equal_states(contents(loaded), contents(earlier))


def test_unknown_failure_of_the_writer(tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "save", raises(RuntimeError("writer broke")))
    with pytest.raises(InputError, match=r"cannot write .*s.state: writer broke"):
        new_state().save(tmp_path / "s.state")
    assert list(tmp_path.iterdir()) == []
