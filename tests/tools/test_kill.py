"""Commands that are killed leave whole files; and what would be found if they did not."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is needed to make the inputs")

from tools.kill import Count, commands, compare, damage, hidden_in, in_child, put_back

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run(tmp_path) -> tuple[Path, Path]:
    """Folders of outputs: after a kill, and of the run before."""
    whole = tmp_path / "whole"
    whole.mkdir()
    (whole / "r.json").write_text('{"a": 1}')
    (whole / "p.html").write_text("<html></html>\n")
    shutil.copytree(whole, tmp_path / "out")
    return tmp_path / "out", whole


def found(out: Path, whole: Path) -> Count:
    count = Count()
    compare(out, whole, count)
    return count


def test_nothing_is_found_where_nothing_is_wrong(run):
    out, whole = run
    assert found(out, whole) == Count()
    (out / "r.json").write_text("{}")  # a new file, whole
    assert found(out, whole) == Count(replaced=1)


def test_a_file_that_is_gone_and_one_half_written_are_found(run):
    out, whole = run
    (out / "r.json").write_text('{"a"')
    (out / "p.html").unlink()
    faults = found(out, whole).faults
    assert faults[0] == "p.html is gone"
    assert faults[1].startswith("r.json: JSONDecodeError")
    put_back(out, whole)
    assert found(out, whole) == Count()


def test_a_new_file_half_written_is_found(run):
    (run[0] / "q.html").write_text("<html>")
    assert found(*run).faults == ["q.html: AssertionError: "]


def test_temporary_files_are_counted(run):
    out, whole = run
    (out / ".r.12-abc.unfinished.json").touch()
    put_back(out, whole)
    assert (found(out, whole).left, hidden_in(out)) == (1, 1)


def test_a_child_that_fails_says_so(tmp_path):
    assert in_child(lambda: "text") == "text"
    assert in_child(lambda: str(1 / 0)) == "ZeroDivisionError: division by zero"
    assert damage([tmp_path / "none.json"])


def test_all_commands_that_write_are_killed():
    names = {"build-kernels", "calibrate", "export", "pack", "report", "segment", "train"}
    assert {*commands(Path("x"))} == names


@pytest.mark.slow
def test_a_few_kills_of_each():
    """In a process of its own, so that nothing has started threads before it forks."""
    command = [sys.executable, "-m", "tools.kill", "--count", "5"]
    result = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=1800, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("`qsam2-") == 7
