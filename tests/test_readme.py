"""What README.md and other pages promise exists: commands, flags, files, sections, Python names."""

import ast
import functools
import importlib
import io
import re
import shlex
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from tools.rooms import rooms

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
OTHERS = ("CONTRIBUTING.md", "CHANGELOG.md", "assets/README.md", "benchmarks/README.md")
PAGES = [README, *(ROOT / name for name in OTHERS), *sorted((ROOT / "docs").glob("*.md"))]
FLAG = r"(?<![\w-])--?[a-z][a-z0-9-]*"

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def _blocks(language: str, page: Path = README) -> list[str]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)
    return [text for found, text in fenced if found == language]


def _prose(page: Path) -> str:
    """A page without its blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def _shell_lines(page: Path = README) -> list[list[str]]:
    """The commands of a page's blocks, as words."""
    text = "\n".join(_blocks("", page)).replace("\\\n", " ")
    lines = [line for line in text.splitlines() if re.match(r"(qsam2-|make |pip |python)", line)]
    return [shlex.split(line, comments=True) for line in lines]


def _commands(page: Path) -> list[list[str]]:
    """The package's commands in a page's blocks, and those with flags in its sentences."""
    inline = re.findall(r"`(qsam2-[a-z-]+ [^`]*)`", page.read_text())
    return [words for words in _shell_lines(page) if words[0].startswith("qsam2-")] + [
        text.split() for text in inline
    ]


@functools.cache
def _known_flags(name: str) -> frozenset[str]:
    command = name.removeprefix("qsam2-").replace("-", "_")
    module = importlib.import_module(f"qsam2_deploy.cli.{command}")
    with redirect_stdout(io.StringIO()) as out:
        assert module.main(["--help"]) == 0
    return frozenset(re.findall(FLAG, out.getvalue()))


def _flags(words: list[str]) -> set[str]:
    """Those of the command; what follows a script is the script's own."""
    script = next((i for i, word in enumerate(words) if word.endswith(".py")), len(words))
    words = words[:script]
    return {word.partition("=")[0] for word in words if re.match("--?[a-z]", word)}


def test_the_readme_uses_every_command():
    assert {words[0] for words in _shell_lines() if words[0].startswith("qsam2-")} == {
        f"qsam2-{name}"
        for name in (
            "batch",
            "bench",
            "build-engine",
            "calibrate",
            "eval",
            "export",
            "inspect",
            "pack",
            "report",
            "run",
            "segment",
            "train",
        )
    }


def test_pages_hold_commands():
    assert sum(len(_commands(page)) for page in PAGES) > 60


@each_page
def test_commands_have_the_flags_that_pages_use(page):
    for name, *arguments in _commands(page):
        assert not _flags(arguments) - _known_flags(name), f"{name} has no such flag"


@each_page
def test_scripts_have_the_flags_that_pages_use(page):
    """Flags of scripts are looked for in their text: importing them may need torch."""
    shared = [*(ROOT / "benchmarks").rglob("_*.py"), ROOT / "qsam2_deploy" / "cli" / "_main.py"]
    for program, *words in _shell_lines(page):
        name = words[1] if words[:1] == ["-m"] else words[0] if words else ""
        path = ROOT / (name if name.endswith(".py") else f"{name.replace('.', '/')}.py")
        if not program.startswith("python") or not name.startswith(
            ("benchmarks", "examples", "tools")
        ):
            continue
        texts = [file.read_text() for file in (path, *shared)]
        missing = {flag for flag in _flags(words[1:]) - {"-m"} if not any(
            f'"{flag}"' in text for text in texts
        )}  # fmt: skip
        assert not missing, f"{name} has no such flag"


def test_benchmarks_are_listed():
    scripts = {path.stem for path in (ROOT / "benchmarks").rglob("[a-z]*.py")}
    text = (ROOT / "benchmarks" / "README.md").read_text()
    assert set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)) == scripts


def test_every_page_is_listed():
    index = (ROOT / "docs/README.md").read_text()
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert set(re.findall(r"\]\(([a-z]+\.md)\)", index)) == pages


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
    assert len(blocks) == 4
    imports = [n for b in blocks for n in ast.walk(ast.parse(b)) if isinstance(n, ast.ImportFrom)]
    assert len(imports) == 4
    for node in imports:
        module = importlib.import_module(node.module or "")
        assert all(hasattr(module, alias.name) for alias in node.names)


def _sections(page: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", _prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


@each_page
def test_links_lead_to_files_and_sections(page):
    links = re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)", page.read_text())
    assert page is not README or len(links) > 20
    for link, section in links:
        target = page.parent / link if link else page
        assert target.exists(), link
        assert not section or section in _sections(target), f"{link}#{section}"


_ROOMS = "|".join(rooms())


@each_page
def test_paths_in_backticks_exist(page):
    text = page.read_text()
    files = re.findall(
        rf"`((?:qsam2_deploy|examples|tests|docs|benchmarks|{_ROOMS})/[\w./]+)`", text
    )
    homes = (ROOT, ROOT / "qsam2_deploy")
    absent = [file for file in files if not any((home / file).exists() for home in homes)]
    assert not absent


@each_page
def test_tables_are_whole(page):
    """A row that an empty line cuts off has no header, and is no row any more."""
    unescaped = _prose(page).replace(r"\|", "")
    for table in re.findall(r"(?:^\|.*\n)+", unescaped, re.MULTILINE):
        header, ruler, *rows = table.splitlines()
        assert re.fullmatch(r"\|(?: ?:?-+:? ?\|)+", ruler), header
        assert {row.count("|") for row in (ruler, *rows)} == {header.count("|")}, header
