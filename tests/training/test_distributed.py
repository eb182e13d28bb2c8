"""Two processes train what one does with all the clips; devices."""

import os
import re
import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import torch

from qsam2_deploy.errors import InputError
from qsam2_deploy.training.distributed import World, joined_world
from qsam2_deploy.training.run.log import read_log
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


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A quantized run of one process with all clips.

    One step: the next would start from weights that differ where Adam follows rounding.
    """
    run = run_of("quantized", tmp_path_factory.mktemp("alone"))
    run.train()
    return run


def test_statistics_are_those_of_all_clips(folder, alone, tmp_path):
    one_clip = run_of("quantized", tmp_path, clips=1)
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


IMAGES = r"(image_encoder|sam_mask_decoder\.conv_s)"
AGES = r"obj_ptr_tpos_proj"
PARTS = {
    "weights": r".*(?<!_quantizer\.log_alpha)",
    "clips of weights": r".*\.weight_quantizer\.log_alpha",
    "clips of inputs from images": rf"sam2\.{IMAGES}.*\.input_quantizer\.log_alpha",
    "clips of inputs from objects": rf"sam2\.(?!{IMAGES}|{AGES}).*\.input_quantizer\.log_alpha",
    "clip of the ages of pointers": rf"sam2\.{AGES}\.input_quantizer\.log_alpha",
}


@pytest.mark.parametrize("part", PARTS)
def test_quantized_gradients_are_those_of_one_process(folder, alone, part):
    """Those of clips are tiny, so they are compared among themselves.

    They are divided by the root of the number of values: of all processes, whose clips hold
    different numbers of objects.
    """
    gradients = gradients_of(alone)
    names = [name for name in gradients if re.fullmatch(PARTS[part], name)]
    wanted = torch.cat([gradients[name].flatten() for name in names])
    both = result(folder, "quantized0")["gradients"]
    found = torch.cat([both[name].flatten() for name in names])
    assert float(wanted.norm()) > 0
    assert float((found - wanted).norm() / wanted.norm()) < 0.01  # rounding may flip a code


def test_every_gradient_was_compared(alone):
    names = list(gradients_of(alone))
    matches = [[name for name in names if re.fullmatch(part, name)] for part in PARTS.values()]
    assert sorted(name for found in matches for name in found) == sorted(names)


def test_the_first_process_reads_the_state_for_all(folder):
    one, other = result(folder, "resumed0"), result(folder, "resumed1")
    trained = result(folder, "clips0")
    assert trained["step"] == 2
    for found in (one, other):
        assert found["message"].startswith("there is no training state")
        assert found["step"] == 2
        for part in ("weights", "gradients"):
            assert_equal_states(dict(found[part]), dict(trained[part]))


def iter_batches(run):
    from qsam2_deploy.training.inputs.loader import batches

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
        assert world.shares((3, 0)) == [1.0, 1.0]
        assert world.from_first(lambda: "made") == "made"


def test_shares(monkeypatch):
    """Of 3 and 5 clips, of which one process has 1 and 0; nobody has any of the third."""
    world = World(0, 2, torch.device("cpu"))
    monkeypatch.setattr(World, "_sums", lambda self, values: [3.0, 5.0, 0.0])
    assert world.shares((1, 0, 0)) == [1 / 3, 0.5, 0.5]


@pytest.fixture
def gpus(monkeypatch):
    """Two GPUs that nothing computes on; what was asked of them and of the process group."""
    asked = {}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: asked.update(device=device))
    monkeypatch.setattr(
        torch.distributed, "init_process_group", lambda name, timeout: asked.update(
            backend=name, patience=timeout)
    )  # fmt: skip
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: asked.update(left=True))
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: int(os.environ["RANK"]))
    return asked


@pytest.mark.parametrize("device", [None, "cuda", "cuda:0", "cuda:1"])
def test_every_process_has_a_gpu_of_its_own(gpus, monkeypatch, device):
    for name, value in {"WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    with joined_world(device) as world:
        assert (world.rank, world.size, world.device) == (3, 4, torch.device("cuda:1"))
    assert gpus["device"] == world.device
    assert gpus["backend"] == "nccl"
    assert gpus["left"]
    # The others wait while the first one validates; the default of NCCL is ten minutes.
    assert gpus["patience"] >= timedelta(hours=12)


def test_more_processes_than_gpus(gpus, monkeypatch):
    for name, value in {"WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "2"}.items():
        monkeypatch.setenv(name, value)
    message = r"no GPU for process 3 on this machine, which has 2; start at most 2 processes"
    with pytest.raises(InputError, match=message), joined_world("cuda"):
        pass
    assert gpus == {}


def test_a_single_process_takes_the_gpu_that_is_named(gpus, monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    for name, number in {"cuda": 0, "cuda:1": 1}.items():
        with joined_world(name) as world:
            assert world.device == torch.device("cuda", number)
        assert gpus == {"device": world.device}
    message = "there is no device 'cuda:2'; this machine has cuda:0 to cuda:1"
    with pytest.raises(InputError, match=message), joined_world("cuda:2"):
        pass


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
