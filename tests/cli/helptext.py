"""What the help of every command must be."""

from __future__ import annotations

import subprocess
import sys


def check_help(command: str, *flags: str, heavy: tuple[str, ...]) -> None:
    """``qsam2-COMMAND --help`` has examples and ``flags``, fits 100 columns, loads no ``heavy``."""
    code = (
        "import sys\n"
        f"from qsam2_deploy.cli.{command} import main\n"
        "status = main(['--help'])\n"
        f"heavy = {set(heavy)} & set(sys.modules)\n"
        "raise SystemExit(f'loaded {heavy}' if heavy else status)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "examples:" in run.stdout
    for flag in flags:
        assert flag in run.stdout
    assert all(len(line) <= 100 for line in run.stdout.splitlines())
