"""Building, finding and refusing the library."""

import os
import shutil
import stat
from pathlib import Path

import numpy as np
import pytest

from qsam2_deploy.cli.build_kernels import main
from qsam2_deploy.engines.onnxruntime.cpu import OrtBackend, ort_cache
from qsam2_deploy.engines.onnxruntime.kernels import (
    build_kernels,
    find_kernels,
    kernels_path,
    processor_path,
)
from qsam2_deploy.errors import EngineError, InputError
from qsam2_deploy.lowering.fused_attention import OPERATOR
from tests.support.components import all_outputs, random_inputs


@pytest.fixture
def folder(tmp_path, library, monkeypatch) -> Path:
    """An empty folder in place of the one with the library."""
    monkeypatch.setenv("QSAM2_KERNEL_CACHE", str(tmp_path / "kernels"))
    return tmp_path / "kernels"


@pytest.fixture
def _quick_compiler(library, tmp_path, monkeypatch) -> None:
    """A compiler that copies the library, which was really compiled once."""
    compiler = tmp_path / "quick-cc"
    compiler.write_text(f'#!/bin/sh\nfor output; do :; done\ncp "{library}" "$output"\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))


def place(library: Path) -> Path:
    """Copy the library to where it is looked for."""
    path = kernels_path()
    path.parent.mkdir()
    shutil.copyfile(library, path)
    return path


@pytest.mark.usefixtures("_quick_compiler")
def test_building_once(folder):
    assert find_kernels() is None
    path = build_kernels()
    assert path.parent == folder
    assert find_kernels() == find_kernels(True) == path
    assert [p.name for p in folder.iterdir()] == [path.name]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o755
    before = path.stat().st_mtime_ns
    assert build_kernels() == path
    assert path.stat().st_mtime_ns == before


def test_the_default_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("QSAM2_KERNEL_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert kernels_path().parent == tmp_path / "qsam2-deploy" / "kernels"


def test_no_compiler(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(EngineError, match="needs a C compiler, and there is none"):
        build_kernels()
    assert not folder.exists()


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo 'k.c:1: error: no such thing' >&2; exit 1", "k.c:1: error: no such thing"),
        ("exit 3", "no message"),
        ("exit 0", "do not load"),
    ],
)
def test_a_compiler_that_fails(folder, tmp_path, monkeypatch, script, message):
    compiler = tmp_path / "bad-cc"
    compiler.write_text(f"#!/bin/sh\n{script}\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", f"{compiler} -pipe")
    with pytest.raises(EngineError, match=message):
        build_kernels()
    assert list(folder.iterdir()) == []
    monkeypatch.setenv("CC", "none-such-cc")
    with pytest.raises(EngineError, match="'none-such-cc', which is not there"):
        build_kernels()


def test_a_folder_that_cannot_be_made(folder):
    folder.write_text("a file")
    with pytest.raises(InputError, match="cannot write"):
        build_kernels()


def test_a_library_that_is_wanted_and_not_built(folder, model_path):
    with pytest.raises(EngineError, match="not built; run: qsam2-build-kernels"):
        OrtBackend(model_path, threads=1, kernels=True)
    assert OrtBackend(model_path, threads=1).kernels is None


@pytest.mark.parametrize("content", [b"", b"no library at all" * 100])
def test_a_damaged_library(folder, library, model_path, content):
    path = place(library)
    path.write_bytes(content)
    with pytest.raises(EngineError, match="run: qsam2-build-kernels --force"):
        find_kernels(True)
    with pytest.warns(RuntimeWarning, match="cannot use the kernels"):
        backend = OrtBackend(model_path, threads=1)
    assert backend.kernels is None
    with backend:
        assert backend.run("image_encoder", random_inputs(backend.spec, "image_encoder"))


def test_a_library_that_anybody_could_change(folder, library):
    path = place(library)
    path.chmod(0o777)
    with pytest.raises(EngineError, match="everybody can write"):
        find_kernels(True)
    path.chmod(0o755)
    if os.getuid() == 0:
        os.chown(path, 12345, -1)
        os.utime(path)
        with pytest.raises(EngineError, match="belongs to another user"):
            find_kernels(True)


def test_switching_off(library, integer_attention_path, monkeypatch):
    assert OrtBackend(integer_attention_path).kernels == library
    assert OrtBackend(integer_attention_path, kernels=False).kernels is None
    monkeypatch.setenv("QSAM2_KERNELS", "0")
    assert OrtBackend(integer_attention_path).kernels is None
    assert OrtBackend(integer_attention_path, kernels=True).kernels == library


def test_the_cache_knows_which_kernels(library, tmp_path):
    digest = "d" * 64
    other = library.with_name("qsam2-kernels-of-another-version.so")
    paths = {ort_cache(tmp_path, digest, k).path("c") for k in (None, library, other)}
    assert len(paths) == 3


def test_a_model_computes_the_same(library, integer_attention_path, tmp_path):
    """With random weights; parity with the official predictor has its own tests."""
    outputs = {}
    for kernels in (False, True, True):
        with OrtBackend(integer_attention_path, 1, cache=tmp_path, kernels=kernels) as backend:
            outputs[kernels] = all_outputs(backend)
    found = sum(OPERATOR.encode() in p.read_bytes() for p in tmp_path.iterdir())
    assert found == 2  # the encoder and the memory attention
    for name, value in outputs[True].items():
        apart = np.abs(value - outputs[False][name])
        assert apart.mean() <= 0.01 * outputs[False][name].std() + 1e-6, name


@pytest.mark.usefixtures("_quick_compiler")
def test_the_command(folder, capsys, monkeypatch):
    assert main([]) == 0
    path = kernels_path()
    assert capsys.readouterr().out == f"{path} ({processor_path(path)})\n"
    assert main(["--force"]) == 0
    path.unlink()
    monkeypatch.setenv("CC", "none-such-cc")
    capsys.readouterr()
    assert main([]) == 2
    assert capsys.readouterr().err.startswith("qsam2-build-kernels: error: $CC names")
    assert main(["--if-possible"]) == 0
    assert capsys.readouterr().out.startswith("no kernels: $CC names")
