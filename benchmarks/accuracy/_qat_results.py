"""Table and plot of the cells of `benchmarks.accuracy.qsam2_table`, made of their files alone."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.accuracy._cells import read_cells
from benchmarks.accuracy._workplace import BITS, FLOAT, REGIMES
from qsam2_deploy.errors import InputError

NAMED = ("regime", "bits", "method", "vrc", "variant")
KEYS = ("validation", "generated", "J&F", "mIoU")
AS_IT_IS = "-"
"""The variant of a method that changes nothing."""

SHOWN = (("J&F", "DAVIS J&F"), ("generated", "generated J&F"), ("mIoU", "mIoU box"))
HEADER = ("method", "VRC", "variant", "rate", "seeds")
COLUMNS = 3
SPAN = 12.0
"""Points of J&F below the float model that a panel shows; what is lower is written at its edge."""

Name = tuple[str, str, str, str, str]
Scores = Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Row:
    """A line of the table: one method before training, and at its best rate over all seeds.

    Attributes:
        name: regime, bits, method, VRC and variant.
        before: scores without training by name, one value each; empty if not measured.
        rate: the chosen factor on the learning rates; 0 if nothing was trained.
        after: scores of the trained models by name, one value for each seed.
    """

    name: Name
    before: Scores = field(default_factory=dict)
    rate: float = 0.0
    after: Scores = field(default_factory=dict)

    @property
    def section(self) -> tuple[str, str]:
        """Return regime and bits."""
        return self.name[:2]

    @property
    def seeds(self) -> int:
        """Return how many models were trained."""
        return len(self.after.get("J&F", ()))

    @property
    def label(self) -> str:
        """Return the method in words."""
        _, _, method, vrc, variant = self.name
        label = method if vrc == "none" else f"{method} + VRC"
        return label if variant == AS_IT_IS else f"{label}, {variant}"

    def shown(self, key: str) -> str:
        """Return the score before training and after it, its spread if there are several seeds."""
        parts = [_shown(scores[key]) for scores in (self.before, self.after) if key in scores]
        return " → ".join(parts)


def _shown(values: Sequence[float]) -> str:
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.1f}{spread}"


def rows(folder: Path, rate: float | None = None) -> list[Row]:
    """Return the lines of the table of all cells in ``folder``, in their order.

    Args:
        folder: of the files.
        rate: show trainings at this rate instead of those at the rate that validates best.

    Raises:
        InputError: there are none, or one is damaged.
    """
    groups: dict[Name, dict[float, list[dict[str, Any]]]] = {}
    for content in read_cells(folder):
        regime, bits, method, vrc, variant = (str(content[key]) for key in NAMED)
        name = (regime, bits, method, vrc, variant)
        if rate is None or content["rate"] in (0.0, rate):
            groups.setdefault(name, {}).setdefault(content["rate"], []).append(content)
    return sorted((_row(name, cells) for name, cells in groups.items()), key=_order)


def _row(name: Name, by_rate: dict[float, list[dict[str, Any]]]) -> Row:
    before = _scores(by_rate.pop(0.0, []))
    if not by_rate:
        return Row(name, before)
    rate = max(by_rate, key=lambda rate: _first_validation(by_rate[rate]))
    return Row(name, before, rate, _scores(by_rate[rate]))


def _first_validation(cells: Sequence[Mapping[str, Any]]) -> float:
    first = min(cells, key=lambda cell: int(cell["seed"]))
    return float(first["results"]["validation"])


def _scores(cells: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    return {key: [float(c["results"][key]) for c in cells] for key in KEYS} if cells else {}


def _order(row: Row) -> tuple[Any, ...]:
    regime, bits, method, vrc, variant = row.name
    widths = (FLOAT, *BITS)
    place = widths.index(bits) if bits in widths else len(widths)
    return REGIMES.index(regime), place, variant != AS_IT_IS, method, vrc != "none", variant


def table(folder: Path, rate: float | None = None) -> str:
    """Return a table in Markdown for each regime and width in ``folder``.

    A cell such as ``47.5 → 56.7 ± 1.5`` is the score without training, and that after it: mean and
    standard deviation over seeds.

    Raises:
        InputError: as `rows`, whose arguments it has.
    """
    found = rows(folder, rate)
    floats = {row.section[0]: row for row in found if row.section[1] == FLOAT}
    quantized = [row for row in found if row.section[1] != FLOAT]
    sections = [
        _section(section, [row for row in quantized if row.section == section], floats)
        for section in dict.fromkeys(row.section for row in quantized)
    ]
    return "\n\n".join(sections or ["\n".join([*_head(), *map(_line, floats.values())])])


def _section(section: tuple[str, str], found: Sequence[Row], floats: Mapping[str, Row]) -> str:
    regime, bits = section
    first = [floats[regime]] if regime in floats else []
    title = f"{bits.upper()}, weights: {regime}"
    return "\n".join([title, "", *_head(), *map(_line, [*first, *found])])


def _head() -> list[str]:
    header = [*HEADER, *(title for _, title in SHOWN)]
    return [_joined(header), _joined(["---"] * len(header))]


def _line(row: Row) -> str:
    how = [f"{row.rate:g}", str(row.seeds)] if row.seeds else ["", ""]
    return _joined([*row.name[2:], *how, *(row.shown(key) for key, _ in SHOWN)])


def _joined(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def plot(folder: Path, path: Path, rate: float | None = None) -> None:
    """Draw J&F on the test videos after training.

    There is a panel for the methods of each regime and width, and one for the variants of it, all
    with the same axis.

    Raises:
        InputError: as `rows`, whose arguments it has, or nothing was trained.
    """
    from matplotlib.figure import Figure

    found = rows(folder, rate)
    panels = _panels([row for row in found if row.seeds])
    if not panels:
        raise InputError(f"nothing was trained in {folder}; there is nothing to draw")
    columns = min(COLUMNS, len(panels))
    lines = -(-len(panels) // columns)
    most = max(len(shown) for _, shown in panels)
    size = (6.0 * columns, lines * (1.3 + 0.32 * most))
    figure = Figure(figsize=size, layout="constrained")
    axes = list(figure.subplots(lines, columns, squeeze=False).flat)
    floats = {row.section[0]: row.before["J&F"][0] for row in found if row.section[1] == FLOAT}
    for axis, (title, shown) in zip(axes, panels, strict=False):
        _draw(axis, title, shown, floats.get(shown[0].section[0]))
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    figure.savefig(path, dpi=110)


def _panels(trained: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    """Return title and rows of each panel; variants are shown beside what they vary."""
    panels = []
    for section in dict.fromkeys(row.section for row in trained):
        here = [row for row in trained if row.section == section]
        methods = [row for row in here if row.name[-1] == AS_IT_IS]
        variants = [row for row in here if row.name[-1] != AS_IT_IS]
        title = f"{section[1].upper()}, weights: {section[0]}"
        if methods:
            panels.append((title, methods))
        if variants:
            varied = {row.name[:-1] for row in variants}
            bases = [row for row in methods if row.name[:-1] in varied]
            panels.append((f"{title}, variants", bases + variants))
    return panels


def _draw(axis: Any, title: str, shown: Sequence[Row], goal: float | None) -> None:
    shown = sorted(shown, key=lambda row: statistics.fmean(row.after["J&F"]))
    lowest = -math.inf if goal is None else goal - SPAN
    for place, row in enumerate(shown):
        values = row.after["J&F"]
        mean = statistics.fmean(values)
        if mean < lowest:
            axis.plot(lowest, place, "<", color="#22577f", markersize=7)
            axis.text(lowest + 0.4, place, f"{mean:.1f}", va="center")
            continue
        axis.plot(values, [place] * len(values), "o", color="#a8c4e0", markersize=4)
        axis.plot(mean, place, "D", color="#22577f", markersize=7)
    axis.set_yticks(range(len(shown)), [row.label for row in shown])
    axis.grid(axis="x", alpha=0.3)
    if goal is not None:
        axis.set_xlim(lowest - 0.5, goal + 0.5)
        axis.axvline(goal, color="black", linestyle=":", label="float")
        axis.legend(frameon=False, loc="upper left")
    axis.set_title(title, fontsize=10)
    axis.set_xlabel("J&F on test videos, percent: mean and seeds")
