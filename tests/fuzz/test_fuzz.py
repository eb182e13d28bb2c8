"""A short run of the fuzzer, and proof that it finds each kind of failure."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qsam2_deploy.errors import ModelFileError

pytest.importorskip("torch", reason="torch is needed to make the files")
pytest.importorskip("onnxruntime", reason="the models are opened in ONNX Runtime")

from tests.fuzz import server
from tests.fuzz.readers import READERS

ROOT = Path(__file__).parents[2]


PROGRAM = """
import sys
from contextlib import nullcontext
from tests.fuzz.__main__ import main
from qsam2_deploy.engines import sessions
from qsam2_deploy.model_file import bundle
from qsam2_deploy.inspection.engines import ENGINES

ENGINES.pop("openvino", None)
counts, kept = sys.argv[1:]
status = main(["--count", "150", "--seconds", "0.2", "--json", counts])
print("without the gate", flush=True)
bundle.check_model = lambda *_: None
sessions.contradictions = lambda *_: nullcontext()
sys.exit(status + 2 * main(["--reader", "model", "--count", "20", "--keep", kept]))
"""
"""Both runs are in one process, for it imports everything that is read with.

OpenVINO, which compiles for seconds what is accepted, takes part in ``make fuzz`` only.
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module")
def done(folder) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder / "counts.json"), str(folder / "kept")],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_changed_files_are_accepted_or_refused_in_one_sentence(done, folder):
    assert done.returncode in (0, 2), done.stdout + done.stderr
    counts = json.loads((folder / "counts.json").read_text())
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
def test_each_outcome_is_told(read, kind, detail):
    outcome = server.run_isolated(read, seconds=1, memory=1 << 29)
    assert outcome.kind == kind
    assert detail in outcome.detail
    assert outcome.good == (kind in (server.ACCEPTED, server.SENTENCE))


def test_without_the_gate_there_are_failures(done, folder):
    assert done.returncode in (2, 3), done.stdout + done.stderr
    assert "traceback: " in done.stdout.partition("without the gate\n")[2]
    assert any((folder / "kept").iterdir())


def test_an_input_is_always_the_same(tmp_path):
    for name in ("prompts", "plan", "engine", "log"):
        made = {READERS[name].make(random.Random(5)) for _ in range(3)}
        assert len(made) == 1
