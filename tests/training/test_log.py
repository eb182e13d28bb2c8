"""The log of a run and its curves."""

import json

import numpy as np
import pytest
from PIL import Image

from qsam2_deploy.errors import InputError
from qsam2_deploy.training.run.curves import draw_curves
from qsam2_deploy.training.run.log import TrainingLog, read_log


def lines(steps=40):
    found = []
    for step in range(1, steps + 1):
        stage = "images" if step <= 20 else "clips"
        common = {"step": step, "stage": stage, "seconds": 60.0 * step}
        found.append({**common, "losses": {"mask": 10 / step, "dice": 1 / step}})
        if step % 10 == 0:
            found.append({**common, "scores": {"J&F": 50 + step, "IoU box": 40 + step}})
    return found


def test_means_between_lines(tmp_path):
    log = TrainingLog(tmp_path / "log.jsonl", every=2, quiet=True)
    for step, value in enumerate((1.0, 3.0, 5.0, 8.0), 1):
        log.add_step(step, "s", 10.04 * step, 1e-4, {"mask": value, "total": 2 * value})
    log.add_scores(4, "s", 40.0, {"J&F": 51.23456})
    log.add_note(4, "s", 40.0, "the statistics are frozen")
    assert read_log(log.path) == [
        {"step": 2, "stage": "s", "seconds": 20.1, "learning_rate": 1e-4,
         "losses": {"mask": 2.0, "total": 4.0}},
        {"step": 4, "stage": "s", "seconds": 40.2, "learning_rate": 1e-4,
         "losses": {"mask": 6.5, "total": 13.0}},
        {"step": 4, "stage": "s", "seconds": 40.0, "scores": {"J&F": 51.23}},
        {"step": 4, "stage": "s", "seconds": 40.0, "note": "the statistics are frozen"},
    ]  # fmt: skip


def test_it_speaks_unless_quiet(tmp_path, capsys):
    for quiet in (False, True):
        log = TrainingLog(tmp_path / "log.jsonl", every=1, quiet=quiet)
        log.add_step(1, "images", 90.0, 1e-4, {"mask": 2.5})
        out, err = capsys.readouterr()
        assert out == ""
        assert err == ("" if quiet else "images step 1  1.5 min  mask 2.5\n")


def write(path, items, end=""):
    path.write_text("".join(json.dumps(line) + "\n" for line in items) + end)
    return path


def test_truncate(tmp_path):
    log = TrainingLog(write(tmp_path / "log", lines()), quiet=True)
    log.truncate(25)
    assert [line for line in lines() if line["step"] <= 25] == read_log(log.path)
    TrainingLog(tmp_path / "none", quiet=True).truncate(3)
    assert read_log(tmp_path / "none") == []


def test_an_earlier_log_stays_until_the_first_line(tmp_path):
    path = write(tmp_path / "log", lines())
    before = path.read_bytes()
    log = TrainingLog(path, quiet=True)
    log.start_anew()
    assert path.read_bytes() == before
    log.add_note(0, "s", 1.0, "first")
    log.begin()
    assert [line["note"] for line in read_log(path)] == ["first"]


def test_a_state_without_a_line_has_an_empty_log(tmp_path):
    log = TrainingLog(write(tmp_path / "log", lines()), quiet=True)
    log.start_anew()
    log.begin()
    assert read_log(log.path) == []


@pytest.mark.parametrize("end", ['{"step": 41, "st', '{"step": 41, "losses": {"mask": 1.5}'])
def test_a_half_written_last_line_is_dropped(tmp_path, end):
    assert read_log(write(tmp_path / "log", lines(), end)) == lines()


def test_damaged(tmp_path):
    path = write(tmp_path / "log", lines(1), "not JSON\n" + json.dumps(lines(1)[0]) + "\n")
    with pytest.raises(InputError, match=r"the log .*log is damaged; delete it"):
        read_log(path)


def test_no_folder(tmp_path):
    with pytest.raises(InputError, match="the folder does not exist"):
        TrainingLog(tmp_path / "none" / "log", quiet=True).add_scores(1, "s", 1.0, {"a": 1.0})


def test_curves(tmp_path):
    draw_curves(lines(), tmp_path / "all.png")
    pixels = np.asarray(Image.open(tmp_path / "all.png").convert("RGB")).astype(int)
    height, width, _ = pixels.shape
    assert width > 2 * height > 800
    coloured = np.ptp(pixels, axis=2) > 60
    for half in (coloured[:, : width // 2], coloured[:, width // 2 :]):
        assert half.sum() > 300  # two curves on each side
    # The stages are marked: without the change of stage there is less grey.
    draw_curves([line | {"stage": "one"} for line in lines()], tmp_path / "one.png")
    other = np.asarray(Image.open(tmp_path / "one.png").convert("RGB")).astype(int)
    assert (pixels < 200).all(2).sum() > (other < 200).all(2).sum()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.png", "one.png"]


def test_curves_without_lines(tmp_path):
    draw_curves([], tmp_path / "empty.png")
    draw_curves([line for line in lines() if "scores" in line], tmp_path / "scores.svg")
    assert (tmp_path / "empty.png").stat().st_size > 1000
    assert "<svg" in (tmp_path / "scores.svg").read_text()


def test_curves_nowhere(tmp_path):
    with pytest.raises(InputError, match="the folder does not exist"):
        draw_curves(lines(), tmp_path / "none" / "curves.png")
