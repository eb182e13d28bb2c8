"""How charts look: one set of colours for PNG files, CSS variables for the page.

In the page a chart is inline SVG whose colours are variables of the style sheet, so that one
picture serves light and dark screens. Matplotlib cannot write a variable, so each has a placeholder
colour, which is replaced in the SVG.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

from .._common.requirements import check_imported
from ..errors import MissingDependencyError

Draw = Callable[[Any], None]
"""Draws on an empty ``matplotlib.figure.Figure``."""

SERIES = 6
"""Number of colours for lines."""

_PLACEHOLDERS = {
    "--ink": "#00a001",
    "--muted": "#00a002",
    "--line": "#00a003",
    **{f"--series-{number}": f"#00b00{number}" for number in range(1, SERIES + 1)},
}
_PRINT = {
    "--ink": "#1b1f24",
    "--muted": "#59636e",
    "--line": "#d1d9e0",
    "--series-1": "#1f6feb",
    "--series-2": "#d9730d",
    "--series-3": "#1a7f5a",
    "--series-4": "#c93c5d",
    "--series-5": "#7a4fd0",
    "--series-6": "#8a6d1b",
}
_PNG_DPI = 144
_FONT = re.compile(r"(font(?:-family)?:[^;\"]*?)'DejaVu Sans'[^;\"]*")
_REFERENCES = (
    (re.compile(r'\bid="'), 'id="{}-'),
    (re.compile(r"url\(#"), "url(#{}-"),
    (re.compile(r'href="#'), 'href="#{}-'),
)


def png_of(draw: Draw, size: tuple[float, float]) -> bytes:
    """Return a chart of this width and height in inches as a PNG on white.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    return _render(draw, size, _PRINT, format="png", dpi=_PNG_DPI, facecolor="white")


def svg_of(draw: Draw, size: tuple[float, float], name: str) -> str:
    """Return a chart as an ``<svg>`` element whose colours are variables of the style sheet.

    Args:
        draw: draws it.
        size: width and height, inches.
        name: begins all identifiers, so that several charts can be in one page.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    text = _render(
        draw, size, _PLACEHOLDERS, format="svg", transparent=True, metadata={"Date": None}
    ).decode()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    for variable, placeholder in _PLACEHOLDERS.items():
        text = text.replace(placeholder, f"var({variable})")
    text = _FONT.sub(r"\1var(--chart-font)", text)
    for pattern, replacement in _REFERENCES:
        text = pattern.sub(replacement.format(name), text)
    return text


def _render(draw: Draw, size: tuple[float, float], colours: dict[str, str], **how: Any) -> bytes:
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError("matplotlib", "train", "drawing charts") from error
    check_imported(mpl, "matplotlib", "train", "drawing charts")
    stream = io.BytesIO()
    with mpl.rc_context(_settings(mpl, colours)):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        figure.savefig(stream, **how)
    return stream.getvalue()


def _settings(mpl: Any, colours: dict[str, str]) -> Any:
    ink, muted, line = colours["--ink"], colours["--muted"], colours["--line"]
    series = [colours[f"--series-{number}"] for number in range(1, SERIES + 1)]
    return {
        "axes.axisbelow": True,
        "axes.edgecolor": line,
        "axes.grid": True,
        "axes.labelcolor": muted,
        "axes.labelsize": 9,
        "axes.prop_cycle": mpl.cycler(color=series),
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlecolor": ink,
        "axes.titlelocation": "left",
        "axes.titlesize": 10,
        "figure.constrained_layout.h_pad": 0.08,
        "figure.constrained_layout.w_pad": 0.08,
        "font.family": "DejaVu Sans",
        "font.size": 9,
        "grid.color": line,
        "grid.linewidth": 0.6,
        "legend.fontsize": 8.5,
        "legend.frameon": False,
        "legend.labelcolor": ink,
        "svg.fonttype": "none",
        "svg.hashsalt": "qsam2",
        "text.color": ink,
        "xtick.color": line,
        "xtick.labelcolor": muted,
        "xtick.labelsize": 8.5,
        "ytick.color": line,
        "ytick.labelcolor": muted,
        "ytick.labelsize": 8.5,
    }
