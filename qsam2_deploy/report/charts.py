"""The charts of a report; each function draws one on an empty figure of matplotlib."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .layers import LayerRow
from .scores import ScorePoint
from .sweep import RATIOS, LambdaSweep
from .weights import ClippedHistogram, Distribution

COLUMNS = 3
"""Small charts side by side."""

_MOST_LABELS = 40
_LONG, _MOST_UPRIGHT = 8, 14
_LOG_SPAN = 20.0
_LEAST_PERCENT = 0.01


def draw_layer_errors(figure: Any, rows: Sequence[LayerRow]) -> None:
    """Draw the quantization errors of all layers, in the order of ``rows``."""
    axes = figure.subplots()
    places = np.arange(len(rows))
    axes.plot(places, [100 * row.weight.error for row in rows], "o", ms=4, label="weights")
    if any(row.inputs for row in rows):
        shares = [100 * row.inputs.error if row.inputs else math.nan for row in rows]
        axes.plot(places, shares, "D", ms=3.5, label="inputs")
    axes.set_yscale("log")
    axes.set_ylabel("quantization error, % of the norm")
    axes.set_xlabel("layer, in the order of the model")
    _mark_blocks(axes, [row.block for row in rows])
    axes.legend(loc="upper left", bbox_to_anchor=(0, 1.12), ncols=2)


def draw_distributions(
    figure: Any, before: Sequence[Distribution], after: Sequence[Distribution]
) -> None:
    """Draw the deviation of weights per block, and their quantiles, before and after."""
    top, bottom = figure.subplots(2, 1, sharex=True)
    places = np.arange(len(after))
    for part, shift, label, color in (
        (before, -0.16, "float checkpoint", "C0"),
        (after, 0.16, "this checkpoint", "C1"),
    ):
        top.plot(places, [item.std for item in part], "o-", ms=4, lw=1, color=color, label=label)
        _draw_quantiles(bottom, places + shift, part, color)
    top.set_ylabel("standard deviation of weights")
    top.set_ylim(bottom=0)
    top.legend(ncols=2, loc="upper left", bbox_to_anchor=(0, 1.2))
    bottom.set_ylabel("weight")
    bottom.set_xlabel("block (bar: half of the weights, line: 99.8 %, cross: largest magnitude)")
    _name_blocks(bottom, [item.block for item in after])


def _draw_quantiles(axes: Any, places: Any, part: Sequence[Distribution], color: Any) -> None:
    quantiles = np.array([item.quantiles for item in part])
    axes.vlines(places, quantiles[:, 0], quantiles[:, 4], color=color, lw=1.2)
    axes.vlines(places, quantiles[:, 1], quantiles[:, 3], color=color, lw=5)
    for sign in (1, -1):
        axes.plot(places, [sign * item.absmax for item in part], "x", ms=4, color=color)


def draw_std_ratios(figure: Any, ratios: Mapping[str, float]) -> None:
    """Draw the median ratio of deviations, after VRC by before, of each block."""
    axes = figure.subplots()
    axes.bar(np.arange(len(ratios)), [100 * (1 - ratio) for ratio in ratios.values()], width=0.6)
    axes.set_ylabel("reduction of the deviation, %")
    axes.set_xlabel("block (median of its layers)")
    _name_blocks(axes, list(ratios))


def draw_sweeps(figure: Any, sweeps: Mapping[str, LambdaSweep]) -> None:
    """Draw errors against lambda, a small chart for each layer."""
    for axes, (name, sweep) in _grid(figure, sweeps):
        for values, label in (
            (sweep.output_error, "output, weights calibrated"),
            (sweep.weight_error, "rounding of the weights"),
            (sweep.total_error, "output, calibrated and quantized"),
        ):
            axes.plot(RATIOS, [100 * value for value in values], ".-", ms=3, lw=1.2, label=label)
        if sweep.chosen:
            axes.axvline(sweep.chosen, ls="--", lw=1, color="C3", label="chosen by the recipe")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_ylim(bottom=_LEAST_PERCENT)
        axes.set_title(short_name(name))
    _share_labels(figure, "lambda, in mean eigenvalues of the Gram matrix", "relative error, %")
    _share_legend(figure)


def draw_clips(figure: Any, histograms: Mapping[str, ClippedHistogram], unit: str) -> None:
    """Draw values and the range of their quantizer, a small chart for each layer."""
    for axes, (name, found) in _grid(figure, histograms):
        axes.stairs(found.shares, found.edges, fill=True, alpha=0.55, label="values")
        for place, label in ((found.low, "first and last level"), (found.high, None)):
            axes.axvline(place, ls="--", lw=1.2, color="C3", label=label)
        axes.set_yscale("log")
        axes.set_title(f"{short_name(name)}, {found.levels} levels")
    _share_labels(figure, unit, "share of the values, % per bin")
    _share_legend(figure)


def draw_scores(figure: Any, points: Sequence[ScorePoint]) -> None:
    """Draw accuracy against size, a colour for each benchmark."""
    axes = figure.subplots()
    for number, benchmark in enumerate(dict.fromkeys(point.benchmark for point in points)):
        part = sorted((p for p in points if p.benchmark == benchmark), key=lambda p: p.megabytes)
        sizes, scores = [p.megabytes for p in part], [p.j_and_f for p in part]
        axes.plot(sizes, scores, "o-", ms=6, lw=1, color=f"C{number}", label=benchmark)
        for point in part:
            place = (point.megabytes, point.j_and_f)
            axes.annotate(point.name, place, (6, 6), textcoords="offset points", fontsize=8.5)
    sizes = [point.megabytes for point in points]
    if max(sizes) > _LOG_SPAN * min(sizes):
        axes.set_xscale("log")
    axes.margins(x=0.15, y=0.15)
    axes.set_xlabel("size of the model, MB")
    axes.set_ylabel("J&F, %")
    axes.legend(loc="upper left", bbox_to_anchor=(0, 1.1), ncols=2)


def grid_size(count: int) -> tuple[float, float]:
    """Return width and height, inches, of a figure of ``count`` small charts."""
    return 11.0, 0.9 + 2.5 * math.ceil(count / COLUMNS)


def short_name(name: str) -> str:
    """Return the name of a layer as a title: without the path that all share."""
    return name.removeprefix("image_encoder.trunk.").removeprefix("image_encoder.")


def _grid(figure: Any, items: Mapping[str, Any]) -> Any:
    columns = min(COLUMNS, len(items))
    panels = figure.subplots(math.ceil(len(items) / columns), columns, squeeze=False).flatten()
    for axes in panels[len(items) :]:
        axes.remove()
    return zip(panels, items.items(), strict=False)


def _share_labels(figure: Any, x: str, y: str) -> None:
    figure.supxlabel(x, fontsize=9)
    figure.supylabel(y, fontsize=9)


def _share_legend(figure: Any) -> None:
    found = [axes.get_legend_handles_labels() for axes in figure.axes]
    entries = {
        label: handle
        for handles, labels in found
        for handle, label in zip(handles, labels, strict=True)
    }
    figure.legend(list(entries.values()), list(entries), loc="outside upper left", ncols=4)


def _name_blocks(axes: Any, blocks: Sequence[str]) -> None:
    axes.grid(visible=False, axis="x")
    _name_places(axes, range(len(blocks)), blocks)


def _name_places(axes: Any, places: Sequence[float], names: Sequence[str]) -> None:
    """Write names below the axis: slanted if they are long or many, not all if too many."""
    stride = math.ceil(len(names) / _MOST_LABELS)
    slanted = any(len(name) > _LONG for name in names) or len(names) > _MOST_UPRIGHT
    axes.set_xticks(
        list(places)[::stride],
        list(names)[::stride],
        rotation=45 if slanted else 0,
        ha="right" if slanted else "center",
    )


def _mark_blocks(axes: Any, blocks: Sequence[str]) -> None:
    """Separate the layers of one block from those of the next, and name some of them."""
    runs = [(block, len(list(items))) for block, items in itertools.groupby(blocks)]
    starts = list(itertools.accumulate((count for _, count in runs), initial=0))
    axes.grid(visible=False, axis="x")
    for start in starts[1:-1]:
        axes.axvline(start - 0.5, color="0.6", ls=":", lw=0.8, zorder=0)
    middles = [start + (count - 1) / 2 for start, (_, count) in zip(starts, runs, strict=False)]
    _name_places(axes, middles, [block for block, _ in runs])
