"""What `docker stop`, systemd and a closed terminal leave behind."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
FRAMES = 400


@pytest.fixture
def frames(tmp_path) -> Path:
    folder = tmp_path / "frames"
    folder.mkdir()
    first = folder / "0000.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)).save(first)
    for number in range(1, FRAMES):
        os.link(first, folder / f"{number:04d}.png")
    return folder


def _segmenting(frames: Path, model: Path, out: Path, **options) -> subprocess.Popen:
    line = [sys.executable, "-m", "qsam2_deploy.cli.segment", str(frames), "--model", str(model)]
    line += ["--click", "20,20", "--masks", "masks", "--json", "out.json", "--backend", "ort"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    out.mkdir()
    process = subprocess.Popen(
        line, cwd=out, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        **options,
    )  # fmt: skip
    while len(_masks(out)) < 3 and process.poll() is None:
        time.sleep(0.01)
    return process


def _masks(out: Path) -> list[str]:
    return os.listdir(out / "masks") if (out / "masks").exists() else []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_they_end_a_run_as_ctrl_c_does(frames, model_path, tmp_path, number):
    out = tmp_path / "out"
    process = _segmenting(frames, model_path, out)
    process.send_signal(number)
    told, errors = process.communicate()
    assert (process.returncode, errors) == (130, "")
    assert told.startswith("interrupted after ")
    done = int(told.split()[2])
    assert 3 <= done < FRAMES
    assert sorted(os.listdir(out)) == ["masks", "out.json"]
    data = json.loads((out / "out.json").read_text())
    assert (data["complete"], len(data["frames"])) == (False, done)
    assert len(_masks(out)) == done


def test_a_run_under_nohup_goes_on(frames, model_path, tmp_path):
    def ignore() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    process = _segmenting(frames, model_path, tmp_path / "out", preexec_fn=ignore)
    process.send_signal(signal.SIGHUP)
    told, errors = process.communicate()
    assert (process.returncode, errors) == (0, "")
    assert told.startswith(f"{FRAMES} frames ")


def test_handlers_of_others_stay():
    code = """
import signal
from qsam2_deploy.cli._main import command
seen = []
signal.signal(signal.SIGTERM, lambda *_: seen.append(1))
@command("qsam2-test")
def main(argv=None):
    signal.raise_signal(signal.SIGTERM)
    return len(seen)
assert main([]) == 1
assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
