"""Files appear whole or not at all."""

import errno
import fcntl
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from qsam2_deploy._common import files as _files
from qsam2_deploy._common.files import atomic_open, atomic_path, describe_os_error
from qsam2_deploy.errors import InputError

ROOT = Path(__file__).parents[2]


def test_file_appears_when_the_block_ends(tmp_path):
    target = tmp_path / "model.onnx"
    with atomic_open(target) as stream:
        stream.write(b"whole")
        assert not target.exists()
    assert target.read_bytes() == b"whole"
    assert os.listdir(tmp_path) == ["model.onnx"]


def test_older_file_survives_an_error(tmp_path):
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


def test_nothing_is_left_after_an_interruption(tmp_path):
    def interrupt() -> None:
        with atomic_path(tmp_path / "film.mp4") as temporary:
            temporary.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert os.listdir(tmp_path) == []


def test_temporary_name_keeps_the_suffix(tmp_path):
    with atomic_path(tmp_path / "film.mp4") as temporary:
        assert temporary.suffix == ".mp4"
        assert temporary.parent == tmp_path


def test_permissions_are_those_of_an_ordinary_file(tmp_path):
    (tmp_path / "ordinary").touch()
    with atomic_open(tmp_path / "ours"):
        pass
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("ordinary", "ours")]
    assert modes[0] == modes[1]


def test_missing_folder_is_one_sentence(tmp_path):
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
def test_errors_of_the_system_are_explained(number, words):
    text = describe_os_error(OSError(number, os.strerror(number)), "out.mp4")
    assert words in text
    assert "out.mp4" in text


def test_full_disk_inside_the_block_is_an_input_error(tmp_path):
    def fill() -> None:
        with atomic_open(tmp_path / "model.onnx"):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(InputError, match="disk is full"):
        fill()
    assert os.listdir(tmp_path) == []


# ------------------------------------------------------------------ what a killed process leaves
HOLD = """
import sys, time
from qsam2_deploy._common.files import atomic_path
with atomic_path(sys.argv[1]) as temporary:
    temporary.write_bytes(b"theirs")
    print(temporary, flush=True)
    sys.stdin.read(1)
"""


class Writer:
    """Another process, in the middle of writing a file."""

    def __init__(self, target: Path) -> None:
        command = [sys.executable, "-c", HOLD, str(target)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT)
        assert self.process.stdout is not None
        self.temporary = Path(self.process.stdout.readline().strip())

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def finish(self) -> None:
        self.process.communicate("x")
        assert self.process.returncode == 0


@pytest.fixture
def _new_process(monkeypatch) -> None:
    """Look for what others left behind as a new process does."""
    monkeypatch.setattr(_files, "_cleared", set())


def write(target: Path, content: bytes) -> None:
    with atomic_open(target) as stream:
        stream.write(content)


@pytest.mark.usefixtures("_new_process")
def test_what_a_killed_process_leaves_goes_with_the_next_file(tmp_path):
    target = tmp_path / "model.onnx"
    target.write_bytes(b"older")
    writer = Writer(target)
    writer.kill()
    assert writer.temporary.exists()
    assert target.read_bytes() == b"older"
    write(tmp_path / "another.onnx", b"new")
    assert sorted(os.listdir(tmp_path)) == ["another.onnx", "model.onnx"]


@pytest.mark.usefixtures("_new_process")
def test_what_another_process_writes_stays(tmp_path):
    target = tmp_path / "model.onnx"
    writer = Writer(target)
    write(target, b"ours")
    assert writer.temporary.read_bytes() == b"theirs"
    assert target.read_bytes() == b"ours"
    writer.finish()
    assert target.read_bytes() == b"theirs"
    assert os.listdir(tmp_path) == ["model.onnx"]


def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.mark.usefixtures("_new_process")
def test_a_lock_counts_where_numbers_of_processes_do_not(tmp_path):
    """In another container the writer has another number, which may be nobody's here."""
    locked = tmp_path / f".a.{dead_process()}-abc.unfinished.pt"
    locked.touch()
    with locked.open() as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        write(tmp_path / "a.pt", b"")
        assert locked.exists()


@pytest.mark.usefixtures("_new_process")
def test_ones_own_number_is_no_proof(tmp_path):
    """In a container each run may have the same one."""
    (tmp_path / f".a.{os.getpid()}-abc.unfinished.pt").touch()
    with atomic_path(tmp_path / "b.pt") as ours:
        _files._cleared.clear()
        write(tmp_path / "a.pt", b"")
        assert sorted(os.listdir(tmp_path)) == [ours.name, "a.pt"]


@pytest.mark.usefixtures("_new_process")
def test_other_hidden_files_stay(tmp_path):
    process = dead_process()
    names = [".a.pt", ".a.unfinished.pt", f".a.{process}-abc.pt", f"a.{process}-abc.unfinished.pt"]
    for name in names:
        (tmp_path / name).touch()
    (tmp_path / f".link.{process}-abc.unfinished.pt").symlink_to(tmp_path / ".a.pt")
    os.mkfifo(tmp_path / f".pipe.{process}-abc.unfinished")  # opening it could wait forever
    write(tmp_path / "a.pt", b"")
    assert {*names} < {*os.listdir(tmp_path)}


def test_long_names_have_room(tmp_path):
    name = "n" * 250 + ".pt"
    write(tmp_path / name, b"whole")
    assert os.listdir(tmp_path) == [name]


def test_a_full_disk_leaves_the_older_file(tmp_path):
    """A limit on the size of files is as near to a full disk as one comes without being root."""
    target = tmp_path / "model.onnx"
    target.write_bytes(b"older")
    code = "import resource, signal, sys\n"
    code += "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    code += "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
    code += "from qsam2_deploy._common.files import atomic_open\n"
    code += "from qsam2_deploy.errors import InputError\n"
    code += "try:\n    with atomic_open(sys.argv[1]) as stream: stream.write(bytes(5000))\n"
    code += "except InputError as error: print(error)"
    command = [sys.executable, "-c", code, str(target)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert result.stdout == f"cannot write {target}: File too large\n", result.stderr
    assert target.read_bytes() == b"older"
    assert os.listdir(tmp_path) == ["model.onnx"]


def test_a_user_without_a_home(monkeypatch):
    def no_home(_: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "expanduser", no_home)
    assert _files.user_cache_folder().name == f"qsam2-deploy-{os.getuid()}"
