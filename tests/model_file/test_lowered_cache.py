"""A cache can be stale, foreign, damaged, or impossible: the model opens all the same."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qsam2_deploy.engines.onnxruntime import cpu as ort
from qsam2_deploy.engines.onnxruntime.cpu import OrtBackend
from qsam2_deploy.engines.open import open_backend
from qsam2_deploy.errors import InputError
from qsam2_deploy.model_file import lowered_cache
from qsam2_deploy.model_file.lowered_cache import LoweredCache
from qsam2_deploy.predictors.segmenter import VideoSegmenter
from qsam2_deploy.spec import COMPONENTS
from tests.support.components import all_outputs, assert_equal

ABOUT = {"digest": "d" * 64, "engine": "e", "engine_version": "1", "options": "o"}


@pytest.fixture
def lowerings(monkeypatch) -> list[str]:
    """The components that have been lowered since the start of the test."""
    calls: list[str] = []

    def counted(component: Any, **options: bool) -> None:
        calls.append(component.graph.name)
        original(component, **options)

    original = ort.lower_for_ort
    monkeypatch.setattr(ort, "lower_for_ort", counted)
    return calls


def outputs(model: Path, cache: Path | None) -> dict[str, Any]:
    with OrtBackend(model, threads=1, cache=cache) as backend:
        return all_outputs(backend)


def test_the_second_opening_lowers_nothing_and_computes_the_same(
    quantized_path, tmp_path, lowerings
):
    plain = outputs(quantized_path, None)
    folder = tmp_path / "made" / "for it"
    lowerings.clear()
    assert_equal(outputs(quantized_path, folder), plain)
    assert lowerings == list(COMPONENTS)
    assert len(list(folder.iterdir())) == len(COMPONENTS)
    lowerings.clear()
    assert_equal(outputs(quantized_path, folder), plain)
    assert lowerings == []


def test_all_ways_to_open_a_model_can_use_it(model_path, tmp_path):
    from qsam2_deploy.runtime import SAM2ImagePredictor, SAM2VideoPredictor

    for number, make in enumerate((VideoSegmenter, SAM2VideoPredictor, SAM2ImagePredictor)):
        folder = tmp_path / str(number)
        with make(model_path, "ort", threads=1, cache=folder):
            assert len(list(folder.iterdir())) == len(COMPONENTS)


def test_nothing_is_kept_unless_asked(model_path, tmp_path):
    model = Path(shutil.copy(model_path, tmp_path / "m.onnx"))
    with open_backend(model, threads=1):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


# ------------------------------------------------------------------ what is not trusted
@given(st.data())
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=80
)
def test_any_flipped_bit_or_cut_is_a_miss(tmp_path, data):
    cache = LoweredCache(tmp_path, **ABOUT)
    assert cache.store("c", b"a lowered model")
    path = cache.path("c")
    whole = path.read_bytes()
    assert cache.load("c") == whole
    position = data.draw(st.integers(0, len(whole) * 8 - 1))
    damaged = bytearray(whole)
    damaged[position // 8] ^= 1 << position % 8
    for bad in (bytes(damaged), whole[: data.draw(st.integers(0, len(whole) - 1))], whole + b"x"):
        path.write_bytes(bad)
        assert cache.load("c") is None


@pytest.mark.parametrize("changed", ABOUT)
def test_another_model_engine_version_or_option_is_a_miss(tmp_path, changed):
    LoweredCache(tmp_path, **ABOUT).store("c", b"model")
    other = LoweredCache(tmp_path, **{**ABOUT, changed: "f" * 64})
    assert other.load("c") is None
    # Not even under the name that it would have itself.
    shutil.copy(LoweredCache(tmp_path, **ABOUT).path("c"), other.path("c"))
    assert other.load("c") is None
    assert other.store("c", b"other")
    assert other.load("c") is not None


def test_another_component_is_a_miss(tmp_path):
    cache = LoweredCache(tmp_path, **ABOUT)
    cache.store("c", b"model")
    shutil.copy(cache.path("c"), cache.path("d"))
    assert cache.load("d") is None


@pytest.mark.parametrize("name", ["__version__", "lowering_digest"])
def test_another_version_of_this_package_is_a_miss(tmp_path, monkeypatch, name):
    LoweredCache(tmp_path, **ABOUT).store("c", b"model")
    monkeypatch.setattr(lowered_cache, name, "9.9" if name == "__version__" else lambda: "other")
    assert LoweredCache(tmp_path, **ABOUT).load("c") is None


def test_damage_is_repaired(quantized_path, tmp_path, lowerings):
    expected = outputs(quantized_path, tmp_path)
    files = sorted(tmp_path.iterdir())
    whole = {path: path.read_bytes() for path in files}
    flipped = bytearray(whole[files[0]])
    flipped[len(flipped) // 2] ^= 1
    files[0].write_bytes(flipped)
    files[1].write_bytes(b"")
    files[2].write_bytes(whole[files[3]])  # sealed, but another component
    lowerings.clear()
    assert_equal(outputs(quantized_path, tmp_path), expected)
    assert len(lowerings) == 3
    assert {path: path.read_bytes() for path in files} == whole


# ------------------------------------------------------------------ what does not stop it
def test_a_folder_that_cannot_be_used(model_path, tmp_path):
    (tmp_path / "file").write_bytes(b"not a folder")
    expected = outputs(model_path, None)
    assert_equal(outputs(model_path, tmp_path / "file"), expected)
    assert_equal(outputs(model_path, tmp_path / "file" / "below"), expected)
    assert (tmp_path / "file").read_bytes() == b"not a folder"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(model_path, tmp_path):
    tmp_path.chmod(0o500)
    try:
        assert_equal(outputs(model_path, tmp_path), outputs(model_path, None))
        assert list(tmp_path.iterdir()) == []
    finally:
        tmp_path.chmod(0o700)


def test_a_read_only_file_system(tmp_path, monkeypatch):
    cache = LoweredCache(tmp_path, **ABOUT)
    cache.store("c", b"model")

    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("qsam2_deploy._common.files.tempfile.mkstemp", refused)
    assert not cache.store("d", b"model")
    assert cache.load("c") is not None, "what is there can be used"
    monkeypatch.setattr(Path, "mkdir", refused)
    assert not LoweredCache(tmp_path / "new", **ABOUT).store("c", b"model")


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), InputError("full")]
)
def test_a_full_disk(model_path, tmp_path, monkeypatch, error):
    expected = outputs(model_path, None)

    def full(_: bytes) -> bytes:
        raise error

    # Fails in the middle of writing the file.
    monkeypatch.setattr("qsam2_deploy.model_file.lowered_cache._seal.seal", full)
    assert_equal(outputs(model_path, tmp_path), expected)
    assert list(tmp_path.iterdir()) == [], "half of a file was left behind"


def test_processes_may_write_at_the_same_time(tmp_path):
    code = (
        "import sys\n"
        "from qsam2_deploy.model_file.lowered_cache import LoweredCache\n"
        f"cache = LoweredCache(sys.argv[1], **{ABOUT!r})\n"
        "for _ in range(50):\n"
        "    assert cache.store('c', b'model' * 20000)\n"
        "    assert cache.load('c') is not None\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    processes = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    assert len(list(tmp_path.iterdir())) == 1


def test_a_kept_model_is_ordinary_onnx(model_path, tmp_path):
    import onnx

    with OrtBackend(model_path, threads=1, cache=tmp_path):
        pass
    for path in tmp_path.iterdir():
        model = onnx.load(path)
        entries = [entry.key for entry in model.metadata_props]
        assert entries == [lowered_cache.KEY_ENTRY, "qsam2.sha256"]
        assert path.name.endswith(f".{model.graph.name}.onnx")


def test_the_key_covers_the_code_of_the_passes(monkeypatch):
    read: set[str] = set()
    whole = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: (read.add(path.name), whole(path))[1])
    lowered_cache.lowering_digest.__wrapped__()
    assert {"fused_linear.py", "index.py", "packing.py"} <= read
