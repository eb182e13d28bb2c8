"""Paths for other processors: compiled for them, and run where they can be emulated."""

import shutil
import subprocess
from pathlib import Path

import pytest

from qsam2_deploy.engines.onnxruntime.kernels import processor_path
from qsam2_deploy.engines.onnxruntime.kernels.library import FLAGS, SOURCES

PROGRAM = Path(__file__).with_name("compare_paths.c")


def compiled(compiler: str, output: Path, *more: str) -> Path:
    """Compile the program that compares two paths."""
    if shutil.which(compiler) is None:
        pytest.skip(f"there is no {compiler}")
    sources = [
        str(p)
        for p in SOURCES.glob("*.c")
        if p.name != "register.c" and not p.name.endswith("op.c")
    ]
    flags = [flag for flag in FLAGS if flag not in ("-shared", "-fPIC")]
    command = [compiler, *flags, "-O1", "-Wall", "-Wextra", "-Werror", *more, f"-I{SOURCES}"]
    command += [str(PROGRAM), *sources, "-lm", "-o", str(output)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return output


def test_neon_is_plain_c_to_the_bit(tmp_path):
    program = compiled("aarch64-linux-gnu-gcc", tmp_path / "compare", "-static")
    if shutil.which("qemu-aarch64-static") is None:
        pytest.skip("there is no qemu-aarch64-static")
    command = ["qemu-aarch64-static", "-cpu", "max", str(program), "neon"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.stdout, result.returncode) == ("neon: 0 differ\n", 0)
    command[2] = "cortex-a53"
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2, "a processor without the dot product must not have this path"


def test_avxvnni_in_another_encoding_is_plain_c_to_the_bit(tmp_path, library):
    if processor_path(library, "avx512vnni") is None:
        pytest.skip("this processor has no VNNI")
    program = compiled("gcc", tmp_path / "compare", "-DQSAM2_OTHER_ENCODING")
    result = subprocess.run([program, "avxvnni"], capture_output=True, text=True, check=False)
    assert (result.stdout, result.returncode) == ("avxvnni: 0 differ\n", 0)
