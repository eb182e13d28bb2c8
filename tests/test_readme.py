"""What README.md and docs/ promise exists: commands, flags, make targets, files, Python names."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]


def _blocks(language: str) -> list[str]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", README.read_text(), re.DOTALL | re.MULTILINE)
    return [text for found, text in fenced if found == language]


def _shell_lines() -> list[list[str]]:
    text = "\n".join(_blocks("")).replace("\\\n", " ")
    return [shlex.split(line, comments=True) for line in text.splitlines() if line[:1].isalpha()]


def _help(name: str, capsys: pytest.CaptureFixture[str]) -> str:
    command = name.removeprefix("qsam2-").replace("-", "_")
    module = importlib.import_module(f"qsam2_deploy.cli.{command}")
    assert module.main(["--help"]) == 0
    return capsys.readouterr().out


def test_commands_have_the_flags_that_the_readme_uses(capsys):
    lines = [words for words in _shell_lines() if words[0].startswith("qsam2-")]
    assert {words[0] for words in lines} == {
        f"qsam2-{name}"
        for name in (
            "bench",
            "build-engine",
            "calibrate",
            "eval",
            "export",
            "inspect",
            "pack",
            "report",
            "segment",
            "train",
        )
    }
    for name, *arguments in lines:
        flags = [word for word in arguments if word.startswith("-")]
        known = set(re.findall(r"(?<![\w-])--?[a-z][a-z0-9-]*", _help(name, capsys)))
        assert not set(flags) - known, f"{name} has no such flag"


def test_make_targets_exist():
    targets = {words[1] for words in _shell_lines() if words[0] == "make"}
    assert targets == {"demo", "test"}
    makefile = (ROOT / "Makefile").read_text()
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets | {"bench"})


def test_extras_exist():
    declared = re.findall(r"^([a-z-]+) = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    used = re.findall(r"pip install '\.\[(.*?)\]'", README.read_text())
    assert len(used) == 2
    assert {extra for group in used for extra in group.split(",")} <= set(declared)


def test_python_parses_and_its_names_exist():
    blocks = _blocks("python")
    assert len(blocks) == 3
    imports = [n for b in blocks for n in ast.walk(ast.parse(b)) if isinstance(n, ast.ImportFrom)]
    assert len(imports) == 3
    for node in imports:
        module = importlib.import_module(node.module or "")
        assert all(hasattr(module, alias.name) for alias in node.names)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page):
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text())
    assert page is not README or len(links) > 5
    assert all((page.parent / link).exists() for link in links)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_paths_in_backticks_exist(page):
    text = page.read_text()
    files = re.findall(
        r"`((?:qsam2_deploy|examples|tests|docs|runtime|calibration)/[\w./]+)`", text
    )
    homes = (ROOT, ROOT / "qsam2_deploy")
    assert all(any((home / file).exists() for home in homes) for file in files), files
