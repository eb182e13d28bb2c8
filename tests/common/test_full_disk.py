"""On a disk that is full a command says so in one sentence, and the earlier file stays."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SIZE = "64k"


@pytest.fixture
def run(tmp_path):
    """Run a command with a small disk as ``disk``, which holds an earlier output; list it then."""
    unshare = shutil.which("unshare")
    if unshare is None or os.getuid() != 0:
        pytest.skip("only root can mount a small disk")
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = [unshare, "--mount", "sh", "-c", f"mount -t tmpfs -o size={SIZE} tmpfs {disk} && "]
    if subprocess.run(
        [*mount[:-1], mount[-1] + "true"], check=False, capture_output=True
    ).returncode:
        pytest.skip("nothing may be mounted here")

    def run(module: str, *arguments: str, before: str = "true") -> tuple[str, str]:
        command = f"cd {disk} && echo older > out.mp4 && {before} && cd {ROOT} && "
        command += '"$@"; status=$?; ls -A ' + f"{disk}; cat {disk}/out.mp4; exit $status"
        line = [sys.executable, "-m", f"qsam2_deploy.cli.{module}", *arguments]
        environment = {**os.environ, "QSAM2_KERNEL_CACHE": str(disk)}
        result = subprocess.run(
            [*mount[:-1], mount[-1] + command, "sh", *line],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 2, result.stderr
        assert result.stderr.count("\n") == 1
        return result.stdout, result.stderr

    return run


def test_segmenting(run, model_path, tmp_path):
    from PIL import Image

    pytest.importorskip("av")
    (tmp_path / "frames").mkdir()
    for number in range(2):
        Image.new("RGB", (64, 48), (number, 90, 60)).save(tmp_path / f"frames/{number:05d}.jpg")
    left, message = run(
        "segment",
        *(str(tmp_path / "frames"), "--model", str(model_path), "--click", "20,20", "--quiet"),
        *("--backend", "ort", "--threads", "1", "--out", str(tmp_path / "disk/out.mp4")),
        before="head -c 60000 /dev/zero > fill",
    )
    assert left == "fill\nout.mp4\nolder\n"
    assert "out.mp4: the disk is full; free some space and run again" in message


def test_a_batch(run, tmp_path):
    """What was finished before stays, and nothing else."""
    pytest.importorskip("onnxruntime")
    from PIL import Image

    from tests.support.tiny_model import tiny_bytes

    (tmp_path / "m.onnx").write_bytes(tiny_bytes())
    (tmp_path / "videos").mkdir()
    for number in range(10, 30):
        Image.new("RGB", (64, 48), (number, 90, 60)).save(tmp_path / f"videos/{number}.gif")
    left, message = run(
        "batch",
        *(str(tmp_path / "videos"), "--click", "20,20", "--model", str(tmp_path / "m.onnx")),
        *("--out", str(tmp_path / "disk"), "--json", "r.json", "--masks", "m", "--quiet"),
        *("--backend", "ort", "--workers", "1"),
    )
    *files, older = left.splitlines()
    done = [name for name in files if name.isdecimal()]
    assert set(files) - {"summary.csv"} == {".qsam2-batch.lock", "out.mp4", *done}
    assert 0 < len(done) < 20
    assert done == [str(number) for number in range(10, 10 + len(done))]
    assert older == "older"
    assert f"disk/{10 + len(done)}/" in message
    assert f"the disk is full; free some space and run again ({19 - len(done)} videos" in message


def test_building_kernels(run, library):
    left, message = run("build_kernels", before="chmod 755 .")
    assert left == "out.mp4\nolder\n"
    assert "No space left on device" in message
