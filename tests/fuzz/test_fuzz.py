"""A short run of the fuzzer, and proof that it finds each kind of failure."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qsam2_deploy.errors import ModelFileError

pytest.importorskip("torch", reason="torch is needed to make the files")
pytest.importorskip("onnxruntime", reason="the models are opened in ONNX Runtime")

from tests.fuzz import server
from tests.fuzz.readers import READERS

ROOT = Path(__file__).parents[2]


def _run(*arguments: str, patch: str = "") -> subprocess.CompletedProcess[str]:
    program = (
        f"import sys; {patch}\nfrom tests.fuzz.__main__ import main\nsys.exit(main(sys.argv[1:]))"
    )
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_changed_files_are_accepted_or_refused_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "counts.json"
    done = _run("--count", "150", "--seconds", "1", "--json", str(path))
    assert done.returncode == 0, done.stdout + done.stderr
    counts = json.loads(path.read_text())
    assert set(counts) == set(READERS)
    for count in counts.values():
        assert count.get(server.SENTENCE, 0) + count.get(server.ACCEPTED, 0) >= 10


def _raise(error: BaseException) -> None:
    raise error


def _use_memory() -> None:
    assert len(bytearray(1 << 30)) > 0


def _spin() -> None:
    while True:
        pass


@pytest.mark.parametrize(
    ("read", "kind", "detail"),
    [
        (lambda: None, server.ACCEPTED, ""),
        (lambda: _raise(ModelFileError("it is damaged; copy it again")), server.SENTENCE, "damag"),
        (lambda: _raise(ModelFileError("on two\nlines, like a traceback")), server.WORDING, "two"),
        (lambda: _raise(ModelFileError("half of a pair: \ud800")), server.WORDING, "half"),
        (lambda: {}["x"], server.TRACEBACK, "KeyError: 'x'"),
        (lambda: _raise(SystemExit(0)), server.TRACEBACK, "SystemExit"),
        (os.abort, server.CRASH, "status 6"),
        (lambda: os._exit(3), server.CRASH, ""),
        (lambda: time.sleep(60), server.HANG, "longer than 1"),
        (_spin, server.HANG, "longer than 1"),
        (_use_memory, server.MEMORY, "MemoryError"),
    ],
)
def test_each_outcome_is_told(read: Callable[[], Any], kind: str, detail: str) -> None:
    outcome = server.run_isolated(read, seconds=1, memory=1 << 29)
    assert outcome.kind == kind
    assert detail in outcome.detail
    assert outcome.good == (kind in (server.ACCEPTED, server.SENTENCE))


def test_without_the_gate_there_are_failures(tmp_path: Path) -> None:
    patch = (
        "from contextlib import nullcontext\n"
        "from qsam2_deploy.model_file import bundle\nfrom qsam2_deploy.runtime import sessions\n"
        "bundle.check_model = lambda *_: None\n"
        "sessions.contradictions = lambda *_: nullcontext()"
    )
    done = _run("--reader", "model", "--count", "30", "--keep", str(tmp_path), patch=patch)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "traceback: " in done.stdout
    assert any(tmp_path.iterdir())


def test_an_input_is_always_the_same(tmp_path: Path) -> None:
    for name in ("prompts", "plan", "engine", "log"):
        made = {READERS[name].make(random.Random(5)) for _ in range(3)}
        assert len(made) == 1
