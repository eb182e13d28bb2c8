"""All commands under one name, and what a shell needs to complete their options."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from qsam2_deploy import __version__
from qsam2_deploy.cli.deploy import completion, main
from tests.test_dependencies import COMMANDS

OTHERS = sorted(COMMANDS.keys() - {"deploy"})
ROOT = Path(__file__).parents[2]


def test_every_command_is_told(capsys):
    assert main([]) == 0
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    told = dict(line for line in lines if line and line[0] in OTHERS)
    assert sorted(told) == OTHERS
    assert all(told.values())


@pytest.mark.parametrize("name", OTHERS)
def test_a_command_by_its_name(capsys, name):
    assert main([name, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"usage: qsam2-{name} ")


def test_status_and_words_are_the_command_s(capsys):
    assert main(["segment", "none.mp4", "--model", "m.onnx", "--click", "1,1"]) == 2
    assert capsys.readouterr().err.startswith("qsam2-segment: error: nothing would be written")


def test_version_and_unknown_names(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"qsam2-deploy {__version__}\n"
    assert main(["segmnt", "x"]) == 2
    assert "there is no command 'segmnt'; expected one of batch, bench," in capsys.readouterr().err
    for words in (["completion"], ["completion", "cmd"], ["completion", "bash", "zsh"]):
        assert main(words) == 2
        assert "completion: expected one of bash, zsh, tcsh" in capsys.readouterr().err


def test_as_a_module():
    line = [sys.executable, "-m", "qsam2_deploy", "pack", "--help"]
    made = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True)
    assert made.stdout.startswith("usage: qsam2-pack")


# ---------------------------------------------------------------- completion
BASH = """
source "$1"
complete_at() {
    COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
    "_shtab_${1//-/_}" "$1" "${COMP_WORDS[-1]}" "${COMP_WORDS[-2]}"
    echo "${COMPREPLY[@]}"
}
complete_at qsam2-segment --contact
complete_at qsam2-build-engine --int
complete_at qsam2-segment --model "$2/mod"
complete_at qsam2-segment --masks "$2/mod"
"""


def test_bash_completes_options_and_files(tmp_path):
    pytest.importorskip("shtab", reason="pip install shtab")
    script = tmp_path / "script"
    script.write_text(completion("bash"))
    (tmp_path / "model.onnx").touch()
    (tmp_path / "models").mkdir()
    line = ["bash", "-c", BASH, "bash", str(script), str(tmp_path)]
    made = subprocess.run(line, capture_output=True, text=True, check=True)
    contact, integers, files, folders = made.stdout.splitlines()
    assert contact == "--contact-sheet"
    assert set(integers.split()) == {"--int4", "--int8"}
    assert {Path(name).name for name in files.split()} == {"model.onnx", "models"}
    assert {Path(name).name for name in folders.split()} == {"models"}


def test_zsh_takes_it():
    pytest.importorskip("shtab", reason="pip install shtab")
    zsh = shutil.which("zsh")
    if zsh is None:
        pytest.skip("there is no zsh")
    code = 'autoload -Uz compinit; compinit -u -D; eval "$(cat)"\n'
    code += "print -l ${(k)_comps[(I)qsam2-*]}"
    made = subprocess.run(
        [zsh, "-f", "-c", code], input=completion("zsh"), capture_output=True, text=True, check=True
    )
    assert made.stderr == ""
    assert sorted(made.stdout.split()) == [f"qsam2-{name}" for name in OTHERS]


def test_what_makes_it_is_missing(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash"]) == 2
    assert "pip install" in capsys.readouterr().err
