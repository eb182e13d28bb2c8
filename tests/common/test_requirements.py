"""Packages that are installed but too old, and the bounds that say so."""

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from qsam2_deploy._common import requirements as _requirements
from qsam2_deploy._common.requirements import OLDEST, check_imported, check_installed
from qsam2_deploy.cli.export import main as export
from qsam2_deploy.engines.onnxruntime.cpu import OrtBackend
from qsam2_deploy.engines.openvino.backend import OpenVinoBackend
from qsam2_deploy.errors import MissingDependencyError, OutdatedDependencyError
from qsam2_deploy.media.reading.sources import open_frames
from qsam2_deploy.model_file.bundle import read_model

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
# Checked where they are loaded, for reasons of their own, or tools of the developers.
ELSEWHERE = {"cuda-python", "tensorrt", "tensorrt_rtx_cu13_bindings", "tensorrt_rtx_cu13_libs"}


def module(version: str | None) -> ModuleType:
    made = ModuleType("made")
    if version is not None:
        made.__version__ = version
    return made


def declared() -> dict[str, set[str]]:
    text = PYPROJECT.read_text(encoding="utf-8")
    extras = text.split("[project.optional-dependencies]")[1].split("\n[")[0].split("\ndev = ")[0]
    found: dict[str, set[str]] = {}
    for name, bound in re.findall(r'"([A-Za-z0-9_-]+)>=([0-9.]+)"', extras):
        found.setdefault(name, set()).add(bound)
    return found


def test_the_table_is_what_the_project_declares():
    bounds = declared()
    assert set(bounds) == set(OLDEST) | ELSEWHERE
    for package, oldest in OLDEST.items():
        assert bounds[package] == {".".join(map(str, oldest))}, package


@pytest.mark.parametrize("version", ["13.1.0", "9", "13.99.1rc1"])
def test_too_old(version):
    with pytest.raises(OutdatedDependencyError) as caught:
        check_imported(module(version), "av", "video", "reading a video")
    assert str(caught.value) == (
        "reading a video needs the package 'av' in version 14.0 or newer, but "
        f"{version} is installed; run: pip install 'av>=14.0'"
    )
    assert isinstance(caught.value, MissingDependencyError)
    assert (caught.value.found, caught.value.needed) == (version, "14.0")


@pytest.mark.parametrize("version", ["14", "14.0", "14.0.0", "14.0.0rc1", "18.1.0", None, "main"])
def test_new_enough_or_unknown(version):
    check_imported(module(version), "av", "video", "reading a video")


def test_builds_with_names_of_their_own() -> None:
    check_imported(module("2025.0.0-17942-releases/2025/0"), "openvino", "openvino", "running")
    check_imported(module("2.5.1+cpu"), "torch", "train", "training")
    with pytest.raises(OutdatedDependencyError, match=r"2\.5\.0a0\+872d97"):
        check_imported(module("2.5.0a0+872d97"), "torch", "train", "training")


def test_installed_without_importing(monkeypatch):
    asked = []
    monkeypatch.setattr(_requirements, "version", lambda name: asked.append(name) or "4.8.1")
    with pytest.raises(OutdatedDependencyError, match=r"opencv-python-headless>=4\.9"):
        check_installed("cv2", "train", "training")
    assert asked == ["opencv-python-headless"]
    check_installed("something", "train", "training")


def test_without_metadata_it_is_taken():
    check_installed("no-such-package", "train", "training")


@pytest.mark.parametrize(
    ("name", "version", "call"),
    [
        ("av", "12.3.0", lambda path: open_frames(path / "film.mp4")),
        ("onnx", "1.17.0", lambda path: read_model(path / "model.onnx")),
        ("onnxruntime", "1.18.0", lambda path: OrtBackend(path / "model.onnx")),
        ("openvino", "2023.3.0-1-x", lambda path: OpenVinoBackend(path / "model.onnx")),
    ],
)
def test_where_packages_are_loaded(name, version, call, tmp_path, monkeypatch):
    (tmp_path / "film.mp4").touch()
    monkeypatch.setitem(sys.modules, name, module(version))
    with pytest.raises(OutdatedDependencyError, match=rf"but {version} is installed; run: pip"):
        call(tmp_path)


def test_a_command_says_it_in_one_line(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(
        _requirements, "version", lambda name: "1.17.0" if name == "onnx" else "999"
    )
    assert export([str(tmp_path / "checkpoint.pt"), str(tmp_path / "model.onnx")]) == 2
    message = capsys.readouterr().err
    assert "'onnx' in version 1.20 or newer, but 1.17.0 is installed" in message
    assert "Traceback" not in message
