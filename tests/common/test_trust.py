"""What somebody else could have put there decides nothing."""

import os
import warnings
from pathlib import Path

import pytest

from qsam2_deploy._common.trust import distrust, trusted_cache
from qsam2_deploy.engines.onnxruntime.kernels import build_kernels
from qsam2_deploy.engines.onnxruntime.kernels.library import unsafe
from qsam2_deploy.errors import InputError
from qsam2_deploy.model_file.lowered_cache import LoweredCache

root = pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
SOMEBODY = 12345


def cache(folder: Path) -> LoweredCache:
    return LoweredCache(folder, digest="d", engine="e", engine_version="1")


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder with a cached component."""
    made = tmp_path / "cache"
    assert cache(made).store("c", b"")
    assert cache(made).load("c") is not None
    return made


def check_refused(folder: Path, reason: str) -> None:
    with pytest.warns(RuntimeWarning, match=f"is not used as a cache: {reason}") as seen:
        refused = cache(folder)
    assert len(seen) == 1
    assert "\n" not in str(seen[0].message)
    assert refused.load("c") is None
    assert not refused.store("d", b"")


def test_a_folder_that_everybody_can_write_to(folder):
    folder.chmod(0o777)
    check_refused(folder, "everybody can write to the folder")


@root
def test_a_folder_of_somebody_else(folder):
    os.chown(folder, SOMEBODY, -1)
    check_refused(folder, "the folder belongs to another user")


def test_files_of_a_folder_like_tmp(folder):
    """Others can make files there, and not replace ours."""
    folder.chmod(0o1777)
    assert trusted_cache(folder)
    path = cache(folder).path("c")
    assert cache(folder).load("c") is not None
    path.chmod(0o666)
    assert cache(folder).load("c") is None
    path.chmod(0o644)
    if os.getuid() == 0:
        os.chown(path, SOMEBODY, -1)
        assert cache(folder).load("c") is None


def test_what_is_made_is_trusted_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        assert cache(tmp_path / "new").store("c", b"")
    finally:
        os.umask(before)
    assert cache(tmp_path / "new").load("c") is not None


def test_what_is_absent_may_be_made(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert trusted_cache(tmp_path / "none")
    assert distrust(tmp_path / "none") is None


def test_kernels_in_a_folder_that_everybody_can_write_to(tmp_path, monkeypatch):
    library = tmp_path / "kernels.so"
    library.touch(0o755)
    assert unsafe(library) is None
    tmp_path.chmod(0o777)
    assert unsafe(library) == "everybody can write to the folder"
    monkeypatch.setenv("QSAM2_KERNEL_CACHE", str(tmp_path))
    monkeypatch.setenv("CC", "true")
    with pytest.raises(InputError, match=r"cannot build .* everybody can write"):
        build_kernels()
