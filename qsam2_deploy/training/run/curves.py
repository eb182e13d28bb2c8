"""Curves of a run as a picture."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..._common.files import atomic_path
from ..._common.requirements import check_imported
from ...errors import MissingDependencyError

Line = dict[str, Any]

SIZE = (12.0, 4.5)
"""Width and height of the picture, inches."""


def draw_curves(lines: Sequence[Line], path: Path) -> None:
    """Draw the losses and scores of a log, over minutes, as a PNG or SVG file.

    Args:
        lines: of `read_log`.
        path: the file; its suffix gives the format.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        InputError: the file cannot be written.
    """
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise MissingDependencyError("matplotlib", "train", "drawing curves") from error
    check_imported(mpl, "matplotlib", "train", "drawing curves")
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure = plt.figure(figsize=SIZE, layout="constrained")
    add_curves(figure, lines)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)
    plt.close(figure)


def add_curves(figure: Any, lines: Sequence[Line]) -> None:
    """Draw the losses and scores of a log, over minutes, on an empty figure of matplotlib."""
    left, right = figure.subplots(1, 2)
    _draw(left, [line for line in lines if "losses" in line], "losses", "weighted loss")
    _draw(right, [line for line in lines if "scores" in line], "scores", "score, percent")
    left.set_yscale("log")
    for axes in (left, right):
        _mark_stages(axes, lines)


def _draw(axes: Any, lines: Sequence[Line], key: str, label: str) -> None:
    names = sorted({name for line in lines for name in line[key]})
    for name in names:
        points = [(line["seconds"] / 60, line[key][name]) for line in lines if name in line[key]]
        marker = "o" if key == "scores" else ""
        axes.plot(*zip(*points, strict=True), label=name, marker=marker, markersize=3)
    axes.set_xlabel("minutes of training")
    axes.set_ylabel(label)
    axes.grid(alpha=0.3)
    if names:
        axes.legend(fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=4)


def _mark_stages(axes: Any, lines: Sequence[Line]) -> None:
    for before, after in itertools.pairwise(lines):
        if before["stage"] != after["stage"]:
            axes.axvline(before["seconds"] / 60, color="0.6", linestyle=":", linewidth=1)
