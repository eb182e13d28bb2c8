"""The command: its errors, what it prints."""

from pathlib import Path

import pytest

from qsam2_deploy.cli.report import main
from tests.cli.refusal import assert_refused


def test_arguments_become_a_job(monkeypatch, capsys):
    jobs = []

    def write(job):
        jobs.append(job)
        return job.output / "report.html", job.output / "a.png", job.output / "b.png"

    monkeypatch.setattr("qsam2_deploy.report.write_report", write, raising=False)
    arguments = ["q.pt", "-o", "out", "--float", "f.pt", "--data", "frames", "--images", "3"]
    arguments += ["--layers", "*.0.*, *.1.*", "--scores", "a.json", "b.json", "--models", "a.onnx"]
    assert main(arguments) == 0
    assert capsys.readouterr().out == "wrote out/report.html and 2 pictures beside it\n"
    (job,) = jobs
    assert (job.checkpoint, job.float_checkpoint, job.images) == (Path("q.pt"), Path("f.pt"), 3)
    assert job.layers == ("*.0.*", "*.1.*")
    assert job.scores == (Path("a.json"), Path("b.json"))
    assert job.models == (Path("a.onnx"),)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.pt", "-o", "x.html"], "there is no checkpoint none.pt"),
        (["none.pt", "-o", "no/x.html"], "the folder does not exist; create it first"),
        (["none.pt", "-o", "x", "--images", "0"], "expected a whole number from 1, but got '0'"),
        (["none.pt"], "the following arguments are required: -o/--output"),
    ],
)
def test_errors_are_one_line(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert_refused("qsam2-report", main(arguments), message, capsys)
    assert not list(tmp_path.iterdir())
