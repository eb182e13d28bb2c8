"""Arrays that wait on disk."""

import copy
import gc
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from qsam2_deploy.errors import EngineError
from qsam2_deploy.tracking import spill_file
from qsam2_deploy.tracking.spill_file import SpillFile

ROOT = Path(__file__).parents[2]


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def arrays(seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    strange = np.array([np.nan, -np.nan, np.inf, -np.inf, -0.0, 1e-45, 3e38], np.float32)
    strange.view(np.uint32)[0] |= 5  # a NaN with a payload
    return [
        rng.standard_normal((64, 64)).astype(np.float32),
        np.full((64, 64), -1024, np.float32),
        rng.integers(0, 2**16, (16, 8, 8)).astype(np.uint16),
        strange,
        np.zeros((0, 3), np.float32),
        np.float32(7).reshape(()),
        rng.standard_normal((9, 20)).astype(np.float64)[:, ::3],
    ]


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def test_arrays_come_back_to_the_bit(tmp_path):
    file = SpillFile(tmp_path)
    records = [file.write(arrays(seed)) for seed in range(20)]
    for seed in (19, 0, 7):
        found = file.read(records[seed])
        assert all(map(same_bits, found, arrays(seed)))
        assert len(found) == len(arrays())


def test_what_repeats_takes_little(tmp_path):
    file = SpillFile(tmp_path)
    absent = np.full((256, 256), -1024, np.float32)
    assert file.write([absent]).length < absent.nbytes / 100
    near = np.random.default_rng(0).normal(3, 1, (256, 256)).astype(np.float32)
    assert file.write([near]).length < near.nbytes * 0.8


def test_nobody_else_sees_the_file_and_nothing_is_left(tmp_path):
    file = SpillFile(tmp_path)
    record = file.write(arrays())
    assert list(tmp_path.iterdir()) == []
    before = open_files()
    del file, record
    gc.collect()
    assert open_files() == before - 1


def test_a_file_goes_with_its_last_record(tmp_path, monkeypatch):
    monkeypatch.setattr(spill_file, "_FIRST_BYTES", 1000)
    before = open_files()
    file = SpillFile(tmp_path)
    records = [file.write([np.arange(400.0)]) for _ in range(6)]
    assert open_files() - before > 1
    last = records[-1]
    del records
    assert open_files() == before + 1
    assert file.read(last)[0][399] == 399


def test_hours_take_few_files(tmp_path, monkeypatch):
    monkeypatch.setattr(spill_file, "_FIRST_BYTES", 1000)
    before = open_files()
    file = SpillFile(tmp_path)
    records = [file.write([np.arange(100.0)]) for _ in range(3000)]
    assert len(records) == 3000
    assert open_files() - before < 60


def test_a_copy_shares_what_was_written(tmp_path):
    file = SpillFile(tmp_path)
    record = file.write(arrays(1))
    other, others = copy.deepcopy((file, record))
    mine, its = file.write(arrays(2)), other.write(arrays(3))
    assert all(map(same_bits, other.read(others), arrays(1)))
    assert all(map(same_bits, file.read(mine), arrays(2)))
    assert all(map(same_bits, other.read(its), arrays(3)))


def test_copies_are_written_by_several_threads(tmp_path):
    file = SpillFile(tmp_path)
    file.write([np.zeros(1)])
    numbers = np.arange(8192, dtype=np.float64)

    def write(copied, factor):
        return [(copied.write([numbers * factor * i]), factor * i) for i in range(400)]

    with ThreadPoolExecutor(4) as threads:
        written = threads.map(write, [copy.deepcopy(file) for _ in range(4)], range(1, 5))
    for record, factor in chain.from_iterable(written):
        assert np.array_equal(file.read(record)[0], numbers * factor)


def test_after_a_fork_both_write(tmp_path):
    file = SpillFile(tmp_path)
    record = file.write(arrays(1))
    child = os.fork()
    if child == 0:
        mine = [file.write(arrays(seed)) for seed in range(10)]
        right = all(same_bits(*pair) for r, s in zip(mine, range(10), strict=True)
                    for pair in zip(file.read(r), arrays(s), strict=True))  # fmt: skip
        os._exit(0 if right and same_bits(file.read(record)[0], arrays(1)[0]) else 1)
    mine = [file.write(arrays(20 + seed)) for seed in range(10)]
    assert os.waitpid(child, 0)[1] == 0
    for seed, r in enumerate(mine):
        assert all(map(same_bits, file.read(r), arrays(20 + seed)))


def test_the_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert spill_file._usual_folder() is None  # what tempfile takes, which is TMPDIR
    monkeypatch.delenv("TMPDIR")
    assert spill_file._usual_folder() == "/var/tmp"
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert spill_file._usual_folder() is None


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(EngineError, match=r"cannot keep the memories of .* in .*none: No"):
        SpillFile(tmp_path / "none").write(arrays())


_FILL = """
import sys
import numpy as np
from qsam2_deploy.errors import EngineError
from qsam2_deploy.tracking.spill_file import SpillFile
file = SpillFile(sys.argv[1])
noise = np.random.default_rng(0).random(1000)
kept = [file.write([noise])]
try:
    while True:
        kept.append(file.write([noise]))
except EngineError as error:
    print(error)
assert all((file.read(record)[0] == noise).all() for record in kept)
"""


def test_a_full_disk(tmp_path):
    unshare = shutil.which("unshare")
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f"mount -t tmpfs -o size=64k tmpfs {disk}"
    run = [unshare or "unshare", "--mount", "sh", "-c"]
    if (
        unshare is None
        or subprocess.run([*run, mount], check=False, capture_output=True).returncode
    ):
        pytest.skip("nothing may be mounted here")
    line = f'{mount} && exec "$@"'
    made = subprocess.run(
        [*run, line, "sh", sys.executable, "-c", _FILL, str(disk)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    assert made.stdout == (
        f"cannot keep the memories of tracked frames in {disk}: No space left on device; free "
        "some space, or set TMPDIR to another folder\n"
    )
