"""The time of the demo: what it prints becomes numbers, and what fails becomes a sentence."""

import json
from pathlib import Path

import pytest

from benchmarks.speed import demo_time
from qsam2_deploy.errors import InputError

TABLE = """\
[5/5] compare: float and w4a4
                                     float        w4a4
J&F, percent                          90.3        89.25
  J, overlap of the masks             85.7        85.6
"""
SCRIPT = """\
import sys
from pathlib import Path
assert sys.argv[1:3] == ["--bits", "w4a4"]
assert not any(Path(sys.argv[4]).iterdir())
print({table!r})
sys.exit({status})
"""


@pytest.fixture
def demo(tmp_path, monkeypatch):
    """Put a script with a given output and exit status in the place of the demo."""

    def write(table: str = TABLE, status: int = 0) -> Path:
        path = tmp_path / "demo.py"
        path.write_text(SCRIPT.format(table=table, status=status))
        monkeypatch.setattr(demo_time, "DEMO", path)
        return path

    return write


def run(report: Path, *more: str) -> int:
    return demo_time.main(["--bits", "w4a4", "--repeat", "2", "--json", str(report), *more])


def test_report_has_times_and_scores(demo, tmp_path, monkeypatch):
    demo()
    report = tmp_path / "report.json"
    assert run(report) == 0
    data = json.loads(report.read_text())
    assert data["benchmark"] == "demo_time"
    assert data["environment"]["cores"] >= 1
    results = data["results"]
    times = [single["seconds"] for single in results["runs"]]
    assert len(times) == 2
    assert min(times) > 0
    assert results["seconds"] == pytest.approx(sum(times) / 2)
    assert all(s["j_and_f"] == {"float": 90.3, "w4a4": 89.25} for s in results["runs"])
    monkeypatch.setattr(demo_time, "LIMIT_SECONDS", 0.0)
    assert run(report) == 1


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({"status": 2}, "the demo failed with exit status 2"),
        ({"table": "no scores"}, "must print one row 'J&F, percent', but printed 0"),
    ],
)
def test_demo_without_scores_leaves_no_report(demo, tmp_path, capsys, written, message):
    demo(**written)
    report = tmp_path / "report.json"
    assert run(report) == 2
    assert message in capsys.readouterr().err
    assert not report.exists()


def test_row_of_the_real_demo_is_read(load):
    """The title is the one that ``examples/demo.py`` prints."""
    assert f'yield "{demo_time._SCORES}"' in Path(load("demo").__file__).read_text()
    assert demo_time.scores(TABLE) == (90.3, 89.25)
    with pytest.raises(InputError, match="printed 2"):
        demo_time.scores(TABLE * 2)
