"""The API reference shows every public name and command, and nothing that is not there."""

from __future__ import annotations

import importlib
import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = {path.stem: path.read_text() for path in (ROOT / "docs/reference").glob("*.rst")}
TEXT = "\n".join(PAGES.values())
PUBLIC = ("batch", "calibration", "evaluation", "export", "report", "runtime")


def _named(directive: str) -> list[str]:
    return re.findall(rf"^\.\. {directive}:: (\S+)$", TEXT, re.MULTILINE)


@pytest.mark.parametrize("package", PUBLIC)
def test_public_names_are_shown(package: str) -> None:
    names = importlib.import_module(f"qsam2_deploy.{package}").__all__
    shown = {*_named("autoclass"), *_named("autofunction")}
    assert {f"qsam2_deploy.{package}.{name}" for name in names} <= shown


def test_names_of_the_package_are_on_the_first_page() -> None:
    import qsam2_deploy

    homes = {"qsam2_deploy", *(f"qsam2_deploy.{home}" for home in qsam2_deploy._LAZY.values())}
    assert homes <= {"qsam2_deploy", *(f"qsam2_deploy.{package}" for package in PUBLIC)}
    assert all(re.search(rf"\b{name}\b", PAGES["index"]) for name in qsam2_deploy.__all__)


def test_shown_modules_exist_and_are_public() -> None:
    modules = _named("automodule")
    assert len(modules) > 50
    assert len(modules) == len(set(modules))
    for module in modules:
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__init__.py").exists(), module
        assert "._" not in module


def test_every_command_is_shown() -> None:
    scripts = re.findall(r"^qsam2-(\S+) = ", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert sorted(_named("command")) == sorted(scripts)


def test_every_page_is_in_the_menu() -> None:
    menu = PAGES["index"].partition(".. toctree::")[2]
    assert set(re.findall(r"^   (\w+)$", menu, re.MULTILINE)) == set(PAGES) - {"index"}
