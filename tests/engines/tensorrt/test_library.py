"""Which library is used, and what is said where there is none."""

import sys
from types import ModuleType

import pytest

from qsam2_deploy.engines.tensorrt.library import find_library, version_numbers
from qsam2_deploy.errors import EngineError, InputError, MissingDependencyError

MODULES = ("tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings")


@pytest.fixture(autouse=True)
def nothing_installed(monkeypatch) -> None:
    """Hide what may be installed here: None in ``sys.modules`` makes an import fail."""
    for name in MODULES:
        monkeypatch.setitem(sys.modules, name, None)


def install(monkeypatch: pytest.MonkeyPatch, name: str, version: str) -> None:
    module = ModuleType(name)
    module.__version__ = version
    monkeypatch.setitem(sys.modules, name, module)


def test_the_first_that_is_installed_is_used(monkeypatch):
    install(monkeypatch, "tensorrt_rtx_bindings", "1.7.1.116")
    found = find_library()
    assert (found.name, found.title) == ("tensorrt-rtx", "TensorRT-RTX 1.7.1.116")
    install(monkeypatch, "tensorrt", "10.3.0")
    assert find_library().title == "TensorRT 10.3.0"
    assert find_library("tensorrt-rtx") == found


@pytest.mark.parametrize(
    ("module", "version"),
    [("tensorrt", "10.2.0"), ("tensorrt", "8.6.1"), ("tensorrt", "12.0.0"),
     ("tensorrt_rtx", "1.6.9"), ("tensorrt_rtx", "2.0.0")],
)  # fmt: skip
def test_other_versions_are_refused(monkeypatch, module, version):
    install(monkeypatch, module, version)
    with pytest.raises(EngineError, match=f"{version} is not supported: expected"):
        find_library()


@pytest.mark.parametrize("version", ["10.3.0", "10.13.3.9", "11.4.0.106"])
def test_these_versions_are_taken(monkeypatch, version):
    install(monkeypatch, "tensorrt", version)
    assert find_library("tensorrt").version == version


@pytest.mark.parametrize("name", [None, "tensorrt", "tensorrt-rtx"])
def test_a_missing_library_is_told_with_its_extra(monkeypatch, name):
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    with pytest.raises(MissingDependencyError) as caught:
        find_library(name)
    for extra in ("tensorrt", "tensorrt-rtx"):
        assert (f"qsam2-deploy[{extra}]'" in str(caught.value)) == (name in (None, extra))
    assert "apt" not in str(caught.value)


def test_on_a_jetson_it_comes_from_apt(monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    for name in (None, "tensorrt"):
        with pytest.raises(MissingDependencyError, match="sudo apt install python3-libnvinfer-dev"):
            find_library(name)


def test_one_that_cannot_be_loaded_is_told_apart(monkeypatch, tmp_path):
    (tmp_path / "tensorrt.py").write_text("raise OSError('libnvinfer.so.10: cannot open')")
    monkeypatch.delitem(sys.modules, "tensorrt")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(EngineError, match="installed but cannot be loaded: libnvinfer"):
        find_library("tensorrt")


def test_an_unknown_name_is_refused():
    with pytest.raises(InputError, match="the builder is tensorrt or tensorrt-rtx, but got 'trt'"):
        find_library("trt")


def test_numbers_of_a_version():
    assert version_numbers("10.13.3.9") == (10, 13, 3, 9)
    assert version_numbers("10.3.0") < version_numbers("10.13.0")
