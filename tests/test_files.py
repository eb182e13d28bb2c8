"""Files appear whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from qsam2_deploy._files import atomic_open, atomic_path, describe_os_error
from qsam2_deploy.errors import InputError


def test_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "model.onnx"
    with atomic_open(target) as stream:
        stream.write(b"whole")
        assert not target.exists()
    assert target.read_bytes() == b"whole"
    assert os.listdir(tmp_path) == ["model.onnx"]


def test_older_file_survives_an_error(tmp_path: Path) -> None:
    target = tmp_path / "model.onnx"
    target.write_bytes(b"older")

    def fail() -> None:
        with atomic_open(target) as stream:
            stream.write(b"half")
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fail()
    assert target.read_bytes() == b"older"
    assert os.listdir(tmp_path) == ["model.onnx"]


def test_nothing_is_left_after_an_interruption(tmp_path: Path) -> None:
    def interrupt() -> None:
        with atomic_path(tmp_path / "film.mp4") as temporary:
            temporary.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert os.listdir(tmp_path) == []


def test_temporary_name_keeps_the_suffix(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "film.mp4") as temporary:
        assert temporary.suffix == ".mp4"
        assert temporary.parent == tmp_path


def test_permissions_are_those_of_an_ordinary_file(tmp_path: Path) -> None:
    (tmp_path / "ordinary").touch()
    with atomic_open(tmp_path / "ours"):
        pass
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("ordinary", "ours")]
    assert modes[0] == modes[1]


def test_missing_folder_is_one_sentence(tmp_path: Path) -> None:
    def write() -> None:
        with atomic_open(tmp_path / "none" / "model.onnx"):
            pytest.fail("the block must not run")

    with pytest.raises(InputError, match="folder does not exist") as caught:
        write()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "disk is full"), (errno.EACCES, "permission denied"),
     (errno.ENOENT, "create it first"), (errno.EIO, "Input/output error")],
)  # fmt: skip
def test_errors_of_the_system_are_explained(number: int, words: str) -> None:
    text = describe_os_error(OSError(number, os.strerror(number)), "out.mp4")
    assert words in text
    assert "out.mp4" in text


def test_full_disk_inside_the_block_is_an_input_error(tmp_path: Path) -> None:
    def fill() -> None:
        with atomic_open(tmp_path / "model.onnx"):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(InputError, match="disk is full"):
        fill()
    assert os.listdir(tmp_path) == []
