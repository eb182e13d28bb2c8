"""Wheel and sdist, checked as people will install them.

The wheel is built from the tree and again from the sdist, and both must hold the same files. Then
``twine`` and ``check-wheel-contents`` look at them, and each interpreter that is found installs the
wheel with the extras of a device in an environment of its own, where the commands are there and the
demo clip is segmented.

``make dist`` runs this with ``build``, ``twine``, ``check-wheel-contents`` and ``uv``::

    python -m tools.dist dist --model demo.onnx --python python3.10 --python python3.12
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
EXTRAS = "ort,video"
UV = (sys.executable, "-m", "uv")
CLIP = ROOT / "assets/demo_clip.mp4"


def run(*line: str | Path, cwd: Path = ROOT) -> str:
    """Run a program; end with what it said if it fails.

    Returns:
        Its standard output.
    """
    made = subprocess.run(
        list(map(str, line)), cwd=cwd, capture_output=True, text=True, check=False
    )
    if made.returncode:
        sys.exit(f"{' '.join(map(str, line))}: {made.stdout}{made.stderr}")
    return made.stdout


def built(folder: Path) -> tuple[Path, Path]:
    """Build the wheel and the sdist into a folder; return their paths.

    Raises:
        SystemExit: they cannot be built, or the sdist builds another wheel.
    """
    for old in [*folder.glob("qsam2_deploy-*.whl"), *folder.glob("qsam2_deploy-*.tar.gz")]:
        old.unlink()
    run(sys.executable, "-m", "build", "--wheel", "--sdist", "--outdir", folder)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    with tempfile.TemporaryDirectory() as other:
        run("tar", "-xzf", sdist, "--strip-components=1", "-C", other)
        run(sys.executable, "-m", "build", "--wheel", "--outdir", f"{other}/dist", other)
        (again,) = Path(other, "dist").glob("*.whl")
        mine, its = contents(wheel), contents(again)
        if mine != its:
            changed = sorted(name for name, _ in mine.items() ^ its.items())
            sys.exit(f"the sdist builds another wheel; other files are: {', '.join(changed)}")
    return wheel, sdist


def contents(wheel: Path) -> dict[str, str]:
    """Return the digest of each file in a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {n: hashlib.sha256(archive.read(n)).hexdigest() for n in archive.namelist()}


def check_files(wheel: Path, sdist: Path) -> None:
    """Ask those who know what the index and pip expect."""
    run(sys.executable, "-m", "twine", "check", "--strict", wheel, sdist)
    run(Path(sys.executable).with_name("check-wheel-contents"), wheel)


def installed(wheel: Path, python: str, model: Path) -> str:
    """Install the wheel for an interpreter and segment the demo clip; return what was said."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(sys.executable, "-m", "uv", "venv", "--quiet", "--python", python, folder / "env")
        packages = f"{wheel}[{EXTRAS}]"
        environment = folder / "env"
        run(
            sys.executable,
            "-m",
            "uv",
            "pip",
            "install",
            "--quiet",
            "--python",
            environment,
            packages,
        )
        scripts = environment / "bin"
        version = run(scripts / "python", "--version", cwd=folder).strip()
        if "segment" not in run(scripts / "python", "-m", "qsam2_deploy", cwd=folder):
            sys.exit(f"{version}: python -m qsam2_deploy does not tell the commands")
        line = ("segment", CLIP, "--model", model, "--click", "88,180", "--out", folder / "out.mp4")
        made = run(scripts / "qsam2-deploy", *line, "--max-frames", "8", cwd=folder)
        frames = made.partition("\n")[0]
        return f"{version}: {frames}, {(folder / 'out.mp4').stat().st_size / 1e3:.0f} kB"


def ran_by_uvx(wheel: Path) -> str:
    """Run the package without installing it; return its version."""
    return run(
        sys.executable, "-m", "uv", "tool", "run", "--from", wheel, "qsam2-deploy", "--version"
    )


def main() -> int:
    """Build and check; 0 if all is as it should be."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="for wheel and sdist")
    parser.add_argument("--model", type=Path, required=True, help="of the demo")
    parser.add_argument("--python", action="append", default=[], help="interpreters to install for")
    args = parser.parse_args()
    args.folder.mkdir(exist_ok=True)
    wheel, sdist = built(args.folder.resolve())
    for path in (wheel, sdist):
        print(f"{args.folder / path.name}: {path.stat().st_size / 1e6:.1f} MB")
    print("the sdist builds the same wheel")
    check_files(wheel, sdist)
    print("twine check --strict, check-wheel-contents: nothing to say")
    for python in args.python or [sys.executable]:
        print(installed(wheel, python, args.model.resolve()), flush=True)
    print(f"uvx: {ran_by_uvx(wheel).strip()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
