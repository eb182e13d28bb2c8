"""Kill commands at random moments, and look at what they leave.

    python -m tools.kill [--count 200] [--seed 0] [--only NAME ...]

Each command writes where an earlier run has left whole files, and gets SIGKILL at some moment
between its start and a little after its usual end. Afterwards every file that was there has to be
there, each whole, and after a last run that nobody kills no temporary file may be left. The exit
status is 1 if anything else is found. Inputs are tiny random models.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

HIDDEN = ".unfinished"
LONGEST_S = 300.0

_status_of: dict[int, int] = {}
"""What the system says of the children that have ended."""


@dataclass
class Count:
    """What was found of one command.

    Attributes:
        killed: how often it was killed, and not too late for that.
        ended: how often it had ended before.
        replaced: how often files were others than before; of most commands the new ones are equal.
        left: temporary files that were there after a kill, at most.
        left_at_last: likewise after the last run.
        faults: what should not have been, in words.
    """

    killed: int = 0
    ended: int = 0
    replaced: int = 0
    left: int = 0
    left_at_last: int = 0
    faults: list[str] = field(default_factory=list)


def commands(folder: Path) -> dict[str, list[str]]:
    """Return the arguments of each command, whose outputs are below ``folder/out/NAME``."""
    lines = {
        "calibrate": "G/small.pt --config G/small.yaml --data G/frames --images 2 "
        "-o O/calibrate/q.pt --report O/calibrate/r.json",
        "pack": "G/q.pt O/pack/p.pt",
        "export": "G/q.pt O/export/m.onnx",
        "segment": "G/frames --model G/m.onnx --click 20,20 --backend ort --threads 1 --quiet "
        "--out O/segment/o.mp4 --masks O/segment/masks --json O/segment/o.json "
        "--contact-sheet O/segment/s.png",
        "train": "G/recipe.yaml --davis G/davis -o O/train/t.pt --device cpu",
        "report": "G/q.pt -o O/report/r.html",
        "build-kernels": "--force",
    }
    places = {"G": str(folder / "given"), "O": str(folder / "out")}

    def placed(word: str) -> str:
        first, slash, rest = word.partition("/")
        return f"{places[first]}/{rest}" if slash else word

    return {name: [placed(word) for word in line.split()] for name, line in lines.items()}


def make_inputs(given: Path) -> None:
    """Write a small checkpoint, a quantized one, a model, frames and a recipe.

    Raises:
        RuntimeError: that failed.
    """
    if fault := in_child(lambda: _make_inputs(given)):
        raise RuntimeError(fault)


def _make_inputs(given: Path) -> str:
    import numpy as np
    from PIL import Image

    from qsam2_deploy.calibration import CalibrationConfig, calibrate_checkpoint
    from qsam2_deploy.export import onnx_from_checkpoint
    from tests.support.weights import small_config, write_checkpoint
    from tests.training.jobs import write_job

    rng = np.random.default_rng(0)
    (given / "frames").mkdir(parents=True)
    for number in range(4):
        picture = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(picture).save(given / f"frames/{number:05d}.jpg")
    small = write_checkpoint(given / "small.pt", small_config(64, d_model=32, memory_dim=8))
    yaml, quantized = small.with_suffix(".yaml"), given / "q.pt"
    config = CalibrationConfig(bits="w4a4", vrc="none", limit=2)
    calibrate_checkpoint(small, given / "frames", quantized, config=config, model_config=yaml)
    onnx_from_checkpoint(quantized, given / "m.onnx", show_progress=False)
    write_job(given)
    return ""


def start(name: str, arguments: list[str], folder: Path) -> int:
    """Run a command in a child with its own group of processes; return its number.

    It is forked from this process, which has imported what all of them need, so that kills meet the
    command's work and not Python's start.
    """
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        log = os.open(folder / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        for descriptor, to in ((0, null), (1, log), (2, log)):
            os.dup2(to, descriptor)
        os.environ["QSAM2_KERNEL_CACHE"] = str(folder / "out/build-kernels")
        module = importlib.import_module(f"qsam2_deploy.cli.{name.replace('-', '_')}")
        status = module.main(arguments)
    finally:
        os._exit(status)


def run_whole(name: str, arguments: list[str], folder: Path) -> float:
    """Run a command to its end; return the seconds that it took.

    Raises:
        RuntimeError: it failed, or takes longer than minutes.
    """
    began = time.monotonic()
    if kill_at(child := start(name, arguments, folder), LONGEST_S) or _status_of[child]:
        raise RuntimeError(f"{name} failed: {(folder / f'{name}.log').read_text()[-2000:]}")
    return time.monotonic() - began


def kill_at(child: int, seconds: float) -> bool:
    """Kill a child after some time; return False if it had ended."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            _status_of[child] = status
            return False
        time.sleep(min(0.002, max(end - time.monotonic(), 0)))
    try:
        os.killpg(child, signal.SIGKILL)
    except ProcessLookupError:  # before its first step, or after its last
        os.kill(child, signal.SIGKILL)
    _status_of[child] = os.waitpid(child, 0)[1]
    return os.waitstatus_to_exitcode(_status_of[child]) == -signal.SIGKILL


def files_of(folder: Path) -> dict[str, Path]:
    """Return the files below a folder by name, without temporary ones."""
    found = (p for p in folder.rglob("*") if p.is_file() and HIDDEN not in p.name)
    return {p.relative_to(folder).as_posix(): p for p in found}


def hidden_in(folder: Path) -> int:
    """Return how many temporary files are below a folder: all whose names begin with a dot."""
    return sum(p.name.startswith(".") for p in folder.rglob("*"))


def in_child(work: Callable[[], str]) -> str:
    """Return what ``work`` returns, done in a child.

    This process must not compute anything itself: threads that torch starts would be missing in the
    children that are forked later, which would wait for them forever.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            text = work()
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
        os.write(writing, text.encode()[:4096])
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8", errors="replace") as stream:
        text = stream.read()
    status = os.waitpid(child, 0)[1]
    return text if status == 0 else f"exit status {status}"


def damage(paths: Iterable[Path]) -> list[str]:
    """Return which files are not whole, and why."""
    return in_child(lambda: "\n".join(fault for p in paths if (fault := _fault(p)))).splitlines()


def _fault(path: Path) -> str | None:
    try:
        _CHECKS[path.suffix](path)
    except Exception as error:  # whatever a reader says
        return f"{path.name}: {type(error).__name__}: {error}"
    return None


def _check_torch(path: Path) -> None:
    import torch

    torch.load(path, weights_only=True)


def _check_model(path: Path) -> None:
    from qsam2_deploy.model_file.bundle import read_bundle

    read_bundle(path)


def _check_video(path: Path) -> None:
    import av

    with av.open(str(path)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 4


def _check_picture(path: Path) -> None:
    from PIL import Image

    with Image.open(path) as picture:
        picture.load()


def _check_log(path: Path) -> None:
    from qsam2_deploy.training.run.log import read_log

    read_log(path)


def _check_page(path: Path) -> None:
    assert path.read_text().rstrip().endswith("</html>")


def _check_library(path: Path) -> None:
    from qsam2_deploy.engines.onnxruntime.kernels import processor_path

    assert processor_path(path)


_CHECKS: dict[str, Callable[[Path], Any]] = {
    ".pt": _check_torch,
    ".state": _check_torch,
    ".onnx": _check_model,
    ".mp4": _check_video,
    ".png": _check_picture,
    ".json": lambda path: json.loads(path.read_text()),
    ".jsonl": _check_log,
    ".html": _check_page,
    ".so": _check_library,
}


def put_back(out: Path, whole: Path) -> None:
    """Give every file of ``out`` the bytes of the earlier run; temporary files stay.

    The state of a training goes, because it asks to be resumed.
    """
    for state in out.rglob("*.state"):
        state.unlink()
    for name, path in files_of(whole).items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, out / name)


def compare(out: Path, whole: Path, count: Count) -> None:
    """Look at the files of a killed command."""
    found, earlier = files_of(out), files_of(whole)
    count.faults += [f"{name} is gone" for name in earlier if name not in found]
    changed = [
        path
        for name, path in found.items()
        if name not in earlier or path.read_bytes() != earlier[name].read_bytes()
    ]
    count.faults += damage(changed) if changed else []
    count.replaced += bool(changed)
    count.left = max(count.left, hidden_in(out))


def kill_often(name: str, folder: Path, times: int, rng: random.Random) -> Count:
    """Kill one command so many times."""
    arguments, out, whole = commands(folder)[name], folder / "out" / name, folder / "whole" / name
    count = Count()
    out.mkdir(parents=True)
    seconds = run_whole(name, arguments, folder)
    faults = damage(files_of(out).values())
    if faults or hidden_in(out):
        raise RuntimeError(f"{name} cannot be judged: {faults}, {hidden_in(out)} hidden files")
    shutil.copytree(out, whole, ignore=shutil.ignore_patterns("*.state"))
    for _ in range(times):
        put_back(out, whole)
        if kill_at(start(name, arguments, folder), rng.uniform(0, 1.1 * seconds)):
            count.killed += 1
        else:
            count.ended += 1
        compare(out, whole, count)
    put_back(out, whole)
    run_whole(name, arguments, folder)
    count.left_at_last = hidden_in(out)
    if count.left_at_last:
        count.faults.append(f"{count.left_at_last} temporary files are left")
    return count


def load() -> None:
    """Import what all commands need, and let a training validate on less."""
    import onnxruntime  # noqa: F401
    import torch

    import qsam2_deploy.calibration
    import qsam2_deploy.export
    import qsam2_deploy.report
    import qsam2_deploy.runtime  # noqa: F401
    from qsam2_deploy.training import train

    torch.set_num_threads(1)
    train.generated_validation = partial(train.generated_validation, count=1, frames=3)


def table(counts: dict[str, Count]) -> str:
    """Return what was found as Markdown."""
    lines = ["| command | kills | had ended | files differ | most left behind | left at last |"]
    lines.append("|---|---|---|---|---|---|")
    for name, c in counts.items():
        row = (c.killed, c.ended, c.replaced, c.left, c.left_at_last)
        lines.append(f"| `qsam2-{name}` | {' | '.join(map(str, row))} |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Kill, print what was found, and return the exit status."""
    names = list(commands(Path()))
    parser = argparse.ArgumentParser(prog="python -m tools.kill")
    parser.add_argument("--count", type=int, default=200, help="kills of each command")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    args = parser.parse_args(argv)
    load()
    counts = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_inputs(folder / "given")
        for command in args.only:
            rng = random.Random(f"{args.seed} {command}")
            counts[command] = kill_often(command, folder, args.count, rng)
    print(table(counts))
    faults = [f"{name}: {fault}" for name, c in counts.items() for fault in c.faults]
    print(*faults, sep="\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
