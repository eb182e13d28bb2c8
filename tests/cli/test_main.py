"""What every command does with errors."""

import os
import subprocess
import sys

import pytest

from qsam2_deploy.cli._main import Parser, command
from qsam2_deploy.errors import VideoError


def make(action):
    @command("qsam2-test")
    def main(argv=None):
        """Do it."""
        return action(argv)

    return main


def raising(error):
    def action(_argv):
        raise error

    return action


def test_status_and_arguments_go_through():
    assert make(lambda argv: 0 if argv == ["a"] else 1)(["a"]) == 0
    assert make(lambda argv: 0 if argv is None else 1)() == 0
    assert make(lambda argv: 7)() == 7


def test_error_is_one_line(capsys):
    assert make(raising(VideoError("there is no file x")))() == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", "qsam2-test: error: there is no file x\n")


def test_debug_shows_the_traceback(monkeypatch):
    monkeypatch.setenv("QSAM2_DEBUG", "1")
    with pytest.raises(VideoError):
        make(raising(VideoError("no")))()
    monkeypatch.setenv("QSAM2_DEBUG", "0")
    assert make(raising(VideoError("no")))() == 2


def test_a_warning_is_one_line():
    code = (
        "import warnings\n"
        "from qsam2_deploy.cli._main import command\n"
        "@command('qsam2-test')\n"
        "def main(argv=None):\n"
        "    warnings.warn('this is slow', RuntimeWarning)\n"
        "    return 0\n"
        "raise SystemExit(main([]))\n"
    )
    for debug, wanted in (("0", "qsam2-test: warning: this is slow\n"), ("1", "RuntimeWarning")):
        run = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "QSAM2_DEBUG": debug},
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0
        assert run.stderr == wanted if debug == "0" else wanted in run.stderr


def test_interrupt(capsys):
    assert make(raising(KeyboardInterrupt()))() == 130
    assert capsys.readouterr().err == "\nqsam2-test: interrupted\n"


def test_faults_of_our_own_are_not_hidden():
    with pytest.raises(ZeroDivisionError):
        make(raising(ZeroDivisionError()))()


def test_exit_becomes_a_status(capsys):
    assert make(raising(SystemExit()))() == 0
    assert make(raising(SystemExit(3)))() == 3
    assert make(raising(SystemExit("a sentence")))() == 2
    assert capsys.readouterr().err == "a sentence\n"


def test_usage_errors_are_short(capsys):
    def action(argv):
        parser = Parser("qsam2-test", "Test.")
        parser.add_argument("file")
        parser.add_argument("--number", type=int)
        parser.parse_args(argv)
        return 0

    main = make(action)
    assert main([]) == 2
    assert capsys.readouterr().err == (
        "qsam2-test: error: the following arguments are required: file (see qsam2-test --help)\n"
    )
    assert main(["f", "--num", "3"]) == 2
    assert "unrecognized arguments" in capsys.readouterr().err
    assert main(["f", "--number", "x"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert main(["--help"]) == 0
    assert "usage: qsam2-test" in capsys.readouterr().out
    assert main(["f", "--number", "3"]) == 0


def test_closed_pipe_is_quiet():
    code = (
        "from qsam2_deploy.cli._main import command\n"
        "@command('qsam2-test')\n"
        "def main(argv=None):\n"
        "    for _ in range(100000): print('line')\n"
        "    return 0\n"
        "raise SystemExit(main())\n"
    )
    run = subprocess.run(
        ["bash", "-c", f'{sys.executable} -c "$CODE" | head -1; echo ${{PIPESTATUS[0]}}'],
        env={"CODE": code, "PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stderr == ""
    assert run.stdout.split() == ["line", "141"]
