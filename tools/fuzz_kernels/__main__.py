"""Call every operator of the kernels with hostile tensors and attributes, under sanitizers.

    python -m tools.fuzz_kernels [--count 100000] [--seed 0] [--first 0] [--library FILE]

Calls are made in child processes, some at a time. A child that a sanitizer ends, that crashes, that
asks for more than a gigabyte at once, or that takes too long, is a finding: its report is printed,
with the line that makes the same call again, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tools.fuzz_kernels.sanitized import build_sanitized, sanitizer_environment

BATCH = 2000
SECONDS_PER_CALL = 0.25
"""A batch may take so long for each of its calls, and START_S more; calls take milliseconds."""

START_S = 60
ROOT = Path(__file__).parents[2]


@dataclass
class Findings:
    """What many calls came to.

    Attributes:
        outcomes: how often each outcome was seen, by operator.
        reports: for each child that failed, the number of the call and what it printed.
    """

    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    reports: list[tuple[int, str]] = field(default_factory=list)


def fuzz(library: Path, seed: int, first: int, count: int, batch: int = BATCH) -> Findings:
    """Make ``count`` calls of ``seed``, from number ``first``.

    Args:
        library: of :func:`.sanitized.build_sanitized`.
        seed: decides all calls.
        first: number of the first one.
        count: how many.
        batch: calls of one child process. After a finding it goes on with the call behind it.
    """
    findings, number = Findings(), first
    while number < first + count:
        wanted = min(batch, first + count - number)
        number = _one_batch(library, seed, number, wanted, findings)
    return findings


def _one_batch(library: Path, seed: int, first: int, count: int, findings: Findings) -> int:
    """Make some calls in a child process; return the number of the next one."""
    with tempfile.TemporaryDirectory() as folder:
        progress = Path(folder) / "progress"
        command = [sys.executable, "-m", "tools.fuzz_kernels.child", str(library)]
        command += [str(seed), str(first), str(count), str(progress)]
        try:
            child = subprocess.run(
                command,
                env=sanitizer_environment(),
                cwd=ROOT,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=START_S + SECONDS_PER_CALL * count,
                check=False,
            )
        except subprocess.TimeoutExpired:
            report = "it takes too long"
        else:
            if child.returncode == 0:
                for operator, outcomes in json.loads(child.stdout.splitlines()[-1]).items():
                    findings.outcomes.setdefault(operator, Counter()).update(outcomes)
                return first + count
            report = f"exit status {child.returncode}\n{child.stderr}"
        reached = int(progress.read_text()) if progress.exists() else first
        findings.reports.append((reached, report))
        return reached + 1


def table(findings: Findings) -> str:
    """Return the counts as Markdown."""
    kinds = ("computed", "refused when opened", "refused when run")
    lines = [f"| operator | {' | '.join(kinds)} |", "|---" * (len(kinds) + 1) + "|"]
    for operator, outcomes in sorted(findings.outcomes.items()):
        lines.append(f"| `{operator}` | {' | '.join(f'{outcomes[k]:,}' for k in kinds)} |")
    return "\n".join(lines)


def main() -> int:
    """Make the calls, print what came of them, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.fuzz_kernels")
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--library", type=Path, help="built with sanitizers; default: build it")
    args = parser.parse_args()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        library = args.library or build_sanitized(Path(folder) / "kernels.so")
        findings = fuzz(library, args.seed, args.first, args.count)
    print(table(findings))
    took = time.monotonic() - start
    print(f"{args.count:,} calls in {took:.0f} s, {len(findings.reports)} reports")
    for number, report in findings.reports:
        print(f"\npython -m tools.fuzz_kernels --seed {args.seed} --first {number} --count 1")
        print(report)
    return 1 if findings.reports else 0


if __name__ == "__main__":
    sys.exit(main())
