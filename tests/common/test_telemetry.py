"""The engines keep no identity of the machine and talk to nobody."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ENGINES = {"onnxruntime", "openvino"}

SILENT_PACKAGES = ("qsam2_deploy", "benchmarks", "tools", "tests")
"""Packages that switch telemetry off when they are imported, so before any module of theirs."""

SEGMENT = """
import sys
from qsam2_deploy.cli.segment import main
sys.exit(main({arguments!r}))
"""
NO_NETWORK = re.compile(r"\b(socket|connect|sendto|sendmsg|sendmmsg)\((?!AF_UNIX|.*AF_UNIX)")


def child_environment(home: Path, **more: str) -> dict[str, str]:
    """Return this environment with another home, and nothing that points past it."""
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("XDG_", "ORT_", "QSAM2_"))}
    return {**kept, "HOME": str(home), "OMP_NUM_THREADS": "1", **more}


def run(code: str, home: Path, *before: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in a child with another home, perhaps under a command ``before`` it."""
    return subprocess.run(
        [*before, sys.executable, "-c", code],
        env=child_environment(home, **more),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def segment(model: Path, folder: Path, engine: str) -> str:
    """Return the code that segments two frames with an engine."""
    arguments = [str(folder / "frames"), "--model", str(model), "--click", "20,20", "--quiet"]
    arguments += ["--backend", engine, "--threads", "1", "--masks", str(folder / f"{engine}.out")]
    return SEGMENT.format(arguments=arguments)


@pytest.fixture
def frames(tmp_path) -> Path:
    from PIL import Image

    (tmp_path / "frames").mkdir()
    for number in range(2):
        Image.new("RGB", (64, 48), (number, 90, 60)).save(tmp_path / f"frames/{number:05d}.jpg")
    (tmp_path / "home").mkdir()
    return tmp_path


def strangers(home: Path) -> list[str]:
    """Return the files in a home that are not of this package."""
    files = (p.relative_to(home).as_posix() for p in home.rglob("*") if not p.is_dir())
    return sorted(name for name in files if not name.startswith(".cache/qsam2-deploy/"))


def attempts(trace: Path) -> list[str]:
    """Return the lines of a trace in which somebody outside this machine is asked for."""
    return [line for line in trace.read_text().splitlines() if NO_NETWORK.search(line)]


def strace(trace: Path) -> list[str]:
    if shutil.which("strace") is None:
        pytest.skip("there is no strace")
    return ["strace", "-f", "-e", "trace=network", "-o", str(trace)]


@pytest.mark.parametrize("engine", ["ort", "openvino"])
def test_segmenting_leaves_no_file_of_anybody_else(model_path, frames, engine):
    pytest.importorskip({"ort": "onnxruntime"}.get(engine, engine))
    trace = frames / "trace"
    result = run(segment(model_path, frames, engine), frames / "home", *strace(trace))
    assert (result.returncode, result.stderr) == (0, "")
    assert any((frames / f"{engine}.out").iterdir())
    assert strangers(frames / "home") == []
    assert attempts(trace) == []


def test_files_and_connections_would_be_seen(tmp_path):
    trace, home = tmp_path / "trace", tmp_path / "home"
    (home / ".cache/qsam2-deploy").mkdir(parents=True)
    code = "import pathlib, socket\n"
    code += "home = pathlib.Path.home()\n"
    code += "(home / '.cache/qsam2-deploy/ours').write_text('')\n"
    code += "(home / '.cache/theirs').write_text('')\n"
    code += "with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:\n"
    code += "    s.connect(('127.0.0.1', 9))\n"
    result = run(code, home, *strace(trace))
    assert result.returncode == 0, result.stderr
    assert strangers(home) == [".cache/theirs"]
    assert len(attempts(trace)) == 2


@pytest.mark.parametrize("engine", sorted(ENGINES))
def test_what_is_kept_off_is_there(tmp_path, engine):
    """Without this package, or where it is allowed, an engine may leave its files."""
    pytest.importorskip(engine)
    home = tmp_path / "home"
    home.mkdir()
    code = f"import qsam2_deploy, {engine}, os, sys\n"
    code += "print(os.environ.get('ORT_DISABLE_TELEMETRY'), 'openvino_telemetry' in sys.modules)"
    off = run(code, home)
    assert (off.returncode, off.stdout.strip(), off.stderr) == (0, "1 True", "")
    assert strangers(home) == []
    allowed = run(code, home, QSAM2_ALLOW_TELEMETRY="1")
    assert allowed.stdout.split()[0] == "None"


def test_an_engine_that_was_imported_first_is_asked_to_stop(tmp_path):
    code = "import sys, types\n"
    code += "engine = sys.modules['onnxruntime'] = types.ModuleType('onnxruntime')\n"
    code += "engine.disable_telemetry_events = lambda: print('asked')\n"
    code += "import qsam2_deploy"
    assert run(code, tmp_path).stdout == "asked\n"
    assert run(code, tmp_path, QSAM2_ALLOW_TELEMETRY="1").stdout == ""


def test_importing_openvino_works_without_its_telemetry(tmp_path):
    pytest.importorskip("openvino")
    code = "import qsam2_deploy, openvino, sys\n"
    code += "print(sys.modules['openvino_telemetry'], openvino.convert_model is not None)"
    result = run(code, tmp_path)
    assert (result.stdout, result.stderr) == ("None True\n", "")


@pytest.mark.skipif(shutil.which("unshare") is None or os.getuid() != 0, reason="needs root")
def test_a_home_that_cannot_be_written_to_says_nothing(model_path, frames):
    """A file system for reading only, because nothing else keeps root from writing."""
    home = frames / "home"
    mount = f'mount --bind {home} {home} && mount -o remount,ro,bind {home} && exec "$@"'
    before = ("unshare", "--mount", "sh", "-c", mount, "sh")
    if subprocess.run([*before, "true"], capture_output=True, check=False).returncode:
        pytest.skip("nothing may be mounted here")
    result = run(segment(model_path, frames, "ort"), home, *before)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("package", SILENT_PACKAGES)
def test_packages_switch_it_off(tmp_path, package):
    code = f"import {package}, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    result = run(code, tmp_path)
    assert (result.returncode, result.stdout) == (0, "1\n"), result.stderr


def imported(path: Path) -> set[str]:
    """Return the packages that a file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add((node.module or "").partition(".")[0])
    return found


def test_every_import_of_an_engine_is_in_such_a_package():
    files = [p for p in ROOT.rglob("*.py") if not p.relative_to(ROOT).parts[0].startswith(".")]
    using = [p.relative_to(ROOT) for p in files if imported(p) & ENGINES]
    assert len(using) > 10
    outside = [str(p) for p in using if p.parts[0] not in SILENT_PACKAGES]
    assert outside == []
    for path in using:  # each folder on the way is a package, whose parents are imported first
        for parent in list(path.parents)[:-1]:
            assert (ROOT / parent / "__init__.py").exists(), path
