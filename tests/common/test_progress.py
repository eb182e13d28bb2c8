"""Bars on standard error, where it is a terminal."""

import sys

from qsam2_deploy._common.progress import progress


def test_a_bar_that_is_not_shown_loads_nothing(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    assert list(progress(range(3), "counting", enabled=False)) == [0, 1, 2]
    assert list(progress(range(3), "counting")) == [0, 1, 2]  # pytest's is no terminal
    assert capsys.readouterr().err == ""


def test_a_bar_says_what_is_done(capsys):
    assert list(progress(iter("abc"), "counting", total=3, unit="letter", enabled=True)) == [*"abc"]
    assert "counting: 100%" in capsys.readouterr().err
