"""Freezing the list of a wheel: of a small one in the place of the bindings."""

import json
import shutil
import zipfile
from pathlib import Path

import pytest

from qsam2_deploy.errors import InputError
from tests.tensorrt_double import VERSIONS
from tests.tensorrt_double.api_list import path_of
from tools.tensorrt_api import FROZEN, compact, list_name, listing_of_wheel, main

needs_cc = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")

BINDINGS = """
import ctypes, os
_library = ctypes.CDLL(os.path.join(os.path.dirname(__file__), "libnvinfer.so.12"))
_library.createInferBuilder_INTERNAL()

class Builder:
    def build(self, network): "Documentation."
    max_threads = property(lambda self: 1)

def volume(iterable): ...
"""


def _wheel(folder: Path, files: dict[str, str]) -> Path:
    """Write a wheel of the bindings of TensorRT 12.5."""
    path = folder / "tensorrt_cu14_bindings-12.5-py3-none-any.whl"
    info = "tensorrt_cu14_bindings-12.5.dist-info"
    metadata = "Metadata-Version: 2.1\nName: tensorrt_cu14_bindings\nVersion: 12.5\n"
    tags = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(f"{info}/WHEEL", tags)
        archive.writestr(f"{info}/RECORD", "")
    return path


@needs_cc
def test_the_names_of_a_wheel_are_frozen(tmp_path, capsys):
    wheel = _wheel(
        tmp_path,
        {
            "tensorrt_bindings/__init__.py": BINDINGS,
            "tensorrt_bindings/tensorrt.so": "\0libnvinfer.so.12\0libc.so.6\0",
        },
    )
    assert main([str(wheel), "--output", str(tmp_path)]) == 0
    path = tmp_path / "tensorrt-12.5.json"
    assert str(path) in capsys.readouterr().out
    listing = json.loads(path.read_text())
    assert listing["version"] == "12.5"
    assert listing["functions"] == {"volume": [[[["iterable", ""]], ""]]}
    builder = listing["classes"]["Builder"]
    assert builder["methods"] == {"build": [[[["network", ""]], ""]]}
    assert builder["properties"] == {"max_threads": ["", None]}
    assert "Documentation" not in path.read_text()


def test_a_wheel_of_something_else_is_refused(tmp_path):
    wheel = _wheel(tmp_path, {"other/__init__.py": ""})
    with pytest.raises(InputError, match="holds no TensorRT bindings"):
        listing_of_wheel(wheel, tmp_path / "unpacked")


@needs_cc
def test_bindings_that_do_not_import_are_refused(tmp_path):
    files = {"tensorrt_bindings/__init__.py": "import nothing_of_this_name\n",
             "tensorrt_bindings/tensorrt.so": "libnvinfer.so.12"}  # fmt: skip
    with pytest.raises(InputError, match=r"cannot import tensorrt_bindings .*nothing_of_this_name"):
        listing_of_wheel(_wheel(tmp_path, files), tmp_path / "unpacked")


def test_what_pip_cannot_find_is_refused(tmp_path, capsys):
    assert main([str(tmp_path / "missing.whl"), "--output", str(tmp_path)]) == 2
    assert "cannot download" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("requirement", FROZEN)
def test_the_committed_lists_are_those_of_the_program(requirement):
    distribution, version = requirement.split("==")
    name = list_name({"distribution": distribution, "version": version})
    text = path_of(Path(name).stem).read_text()
    listing = json.loads(text)
    assert (listing["distribution"], listing["version"]) == (distribution, version)
    assert compact(listing) == text


def test_no_list_is_without_its_requirement():
    assert len(VERSIONS) == len(FROZEN)
    assert sum(path_of(name).stat().st_size for name in VERSIONS) < 400_000
