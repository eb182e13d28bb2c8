"""Count what becomes of changed files; the exit status is 1 if one ended in anything but words.

Example::

    python -m tests.fuzz --reader model --seed 0 --count 5000
    python -m tests.fuzz --reader model --seed 1234 --count 1 --keep /tmp/found
"""

import argparse
import json
import random
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fuzz.readers import READERS
from tests.fuzz.server import OUTCOMES, Outcome, run_batch
from tests.fuzz.warm_up import warm_up

_SHOWN = 20
_BATCH = 10
_FILE = re.compile(r"\S*qsam2-fuzz-\S*/file")


@dataclass
class Count:
    """What became of the inputs of one reader.

    Attributes:
        outcomes: number of inputs by outcome.
        failures: seed and outcome of each that failed.
        seconds: how long it took.
        sentences: number of inputs by the beginning of their sentence.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[int, Outcome]] = field(default_factory=list)
    seconds: float = 0.0
    sentences: Counter[str] = field(default_factory=Counter)

    def add(self, number: int, outcome: Outcome) -> None:
        """Count the outcome of an input."""
        self.outcomes[outcome.kind] += 1
        if outcome.good:
            self.sentences[_FILE.sub("FILE", outcome.detail)[:400]] += 1
        else:
            self.failures.append((number, outcome))


def play(name: str, numbers: Sequence[int], folder: Path) -> list[Outcome]:
    """Make inputs of a reader and read them, in other processes.

    Args:
        name: of the reader.
        numbers: of the inputs.
        folder: for the files, each in a folder of its own.
    """
    reader = READERS[name]

    def read(number: int) -> Any:
        rng = random.Random(f"{name} {number}")
        path = folder / str(number) / "file"
        path.parent.mkdir()
        path.write_bytes(reader.make(rng))
        reader.read(path, rng)

    return run_batch(read, numbers)


def fuzz(name: str, seed: int, count: int, seconds: float, keep: Path | None) -> Count:
    """Play ``count`` inputs from ``seed`` on, or as many as ``seconds`` allow."""
    found, began, last = Count(), time.monotonic(), seed + count
    for first in range(seed, last, _BATCH):
        if time.monotonic() - began > seconds:
            break
        numbers = range(first, min(first + _BATCH, last))
        with tempfile.TemporaryDirectory(prefix="qsam2-fuzz-") as name_of_folder:
            folder = Path(name_of_folder)
            outcomes = play(name, numbers, folder)
            for number, outcome in zip(numbers, outcomes, strict=True):
                found.add(number, outcome)
                if keep is not None and not outcome.good:
                    _keep(folder / str(number) / "file", keep / f"{name}-{number}")
    found.seconds = time.monotonic() - began
    return found


def _keep(path: Path, target: Path) -> None:
    if path.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)


def table(counts: dict[str, Count]) -> str:
    """Return the numbers of inputs by reader and outcome."""
    lines = [f"{'':16}" + "".join(f"{kind:>14}" for kind in OUTCOMES) + f"{'a minute':>12}"]
    for name, count in counts.items():
        whole = sum(count.outcomes.values())
        rate = 60 * whole / count.seconds if count.seconds else 0
        numbers = "".join(f"{count.outcomes[kind]:>14}" for kind in OUTCOMES)
        lines.append(f"{name:16}{numbers}{rate:>12.0f}")
    return "\n".join(lines)


def _failures(counts: dict[str, Count]) -> list[str]:
    """Return one line for each place where inputs failed, with a seed that plays one again."""
    places: dict[tuple[str, str], list[int]] = {}
    for name, count in counts.items():
        for seed, outcome in count.failures:
            places.setdefault((name, f"{outcome.kind}: {outcome.detail}"), []).append(seed)
    return [
        f"{name} --seed {seeds[0]} ({len(seeds)} times) {what}"
        for (name, what), seeds in places.items()
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--reader", action="append", choices=READERS, help="default: all")
    parser.add_argument("--seed", type=int, default=0, help="number of the first input")
    parser.add_argument("--count", type=int, default=1000, help="inputs of each reader")
    parser.add_argument("--seconds", type=float, default=1e9, help="most seconds for each reader")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep files that fail here")
    parser.add_argument("--sentences", action="store_true", help="show what was said most often")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the counts here")
    args = parser.parse_args(argv)
    names = args.reader or list(READERS)
    warm_up(names)
    counts = {}
    for name in names:
        counts[name] = fuzz(name, args.seed, args.count, args.seconds, args.keep)
        if len(names) > 1:
            print(table({name: counts[name]}).splitlines()[-1], flush=True)
    print(table(counts))
    for line in _failures(counts)[:_SHOWN]:
        print(line[:1500])
    if args.sentences:
        for name, count in counts.items():
            for sentence, times in count.sentences.most_common(60):
                print(f"{times:6} {name} {sentence}")
    if args.json is not None:
        told = {
            n: {"seed": args.seed, "seconds": c.seconds, **c.outcomes} for n, c in counts.items()
        }
        args.json.write_text(json.dumps(told, indent=1) + "\n")
    return int(any(count.failures for count in counts.values()))


if __name__ == "__main__":
    sys.exit(main())
