"""Two processes train what one does with all the clips; devices."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from qsam2_deploy.errors import InputError
from qsam2_deploy.training.distributed import joined_world
from qsam2_deploy.training.log import read_log
from tests.training.small import assert_equal_states, new_run, tiny_model
from tests.training.two_processes import KINDS, config, gradients_of, run_of

ROOT = Path(__file__).parents[2]


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What two processes left."""
    folder = tmp_path_factory.mktemp("two")
    for kind in KINDS:
        (folder / kind).mkdir()
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    command = [sys.executable, "-m", "tests.training.two_processes", str(folder)]
    processes = [
        subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        errors = [process.communicate(timeout=300)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], errors
    return folder


def result(folder, name):
    return torch.load(folder / f"{name}.pt", weights_only=True)


@pytest.mark.parametrize("kind", KINDS)
def test_all_processes_hold_the_same_weights(folder, kind):
    one, other = result(folder, f"{kind}0"), result(folder, f"{kind}1")
    assert one["size"] == other["size"] == 2
    assert_equal_states(dict(one["weights"]), dict(other["weights"]))
    start = tiny_model().state_dict()
    assert any(not torch.equal(start[n], one["weights"][f"sam2.{n}"]) for n in start)


def test_equal_to_one_process_with_all_clips(folder, tmp_path):
    """Clips of a batch hold different numbers of objects, so means of means would be wrong."""
    alone = new_run(tmp_path, config("clips"))
    counts = torch.bincount(next(iter_batches(alone)).clip_of)
    assert counts[0] != counts[1]
    alone.train()
    both = result(folder, "clips0")
    expected = gradients_of(alone)
    assert both["gradients"].keys() == expected.keys()
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    assert largest > 1e-3
    for name, gradient in expected.items():
        torch.testing.assert_close(both["gradients"][name], gradient, rtol=1e-3, atol=1e-5)
    for name, value in alone.model.state_dict().items():
        # Adam makes a whole step of a gradient that is nothing but rounding.
        noise = expected[name].abs() < 1e-6 if name in expected else torch.zeros_like(value) > 0
        torch.testing.assert_close(
            both["weights"][name].masked_fill(noise, 0), value.masked_fill(noise, 0),
            rtol=0, atol=1e-5,
        )  # fmt: skip


def test_statistics_are_those_of_all_clips(folder, tmp_path):
    """One step: the next would start from weights that differ where Adam follows rounding."""
    alone = run_of("quantized", tmp_path)
    alone.train()
    (tmp_path / "one").mkdir()
    one_clip = run_of("quantized", tmp_path / "one", clips=1)
    one_clip.train()
    both = result(folder, "quantized0")
    different = 0
    wanted, of_one = alone.sam2.state_dict(), one_clip.sam2.state_dict()
    names = [name for name in wanted if name.endswith("input_quantizer.sigma")]
    for name in names:
        found = both["weights"][f"sam2.{name}"]
        torch.testing.assert_close(found, wanted[name], rtol=1e-5, atol=0)
        different += not torch.allclose(of_one[name], wanted[name], rtol=1e-5, atol=0)
    assert different > 0.5 * len(names)
    for name, gradient in gradients_of(alone).items():
        if float(gradient.norm()) > 1e-3:
            error = (both["gradients"][name] - gradient).norm() / gradient.norm()
            assert float(error) < 0.02, name  # rounding flips a code here and there


def iter_batches(run):
    from qsam2_deploy.training.loader import batches

    return batches(run._clips(0))


def test_one_process_writes(folder):
    for kind, steps in (("clips", 2), ("mixed", 2), ("quantized", 1)):
        names = sorted(path.name for path in (folder / kind).iterdir())
        assert names == ["run.log.jsonl", "run.state"]
        assert len(read_log(folder / kind / "run.log.jsonl")) == steps


def test_a_single_process(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined_world("cpu") as world:
        assert (world.rank, world.size, world.device.type) == (0, 1, "cpu")
        assert world.is_first
        assert world.mean(2.5) == 2.5


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("gpu", "there is no device 'gpu'; expected cpu or cuda"),
        ("meta", "training on 'meta' is not supported; expected cpu or cuda"),
        ("cuda", "PyTorch finds no GPU on this machine; train on the device cpu"),
    ],
)
def test_devices_that_are_not_there(monkeypatch, device, message):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=message), joined_world(device):
        pass
