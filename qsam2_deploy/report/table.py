"""The table of layers as HTML, the worst first."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .layers import LayerRow, VrcNumbers

_NO_VALUE = "&middot;"


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        title: its heading.
        hint: what its numbers mean, in a sentence.
        value: text, or a number to sort by; NaN where there is none.
        shown: turns the number into text.
    """

    title: str
    hint: str
    value: Callable[[LayerRow], str | float]
    shown: Callable[[float], str] = str


def percent(share: float) -> str:
    """Return a share as percent with three significant digits."""
    return f"{100 * share:.3g} %"


def power(value: float) -> str:
    """Return a large number as a power of ten."""
    return "singular" if math.isinf(value) else f"{value:.1e}"


def _vrc(number: Callable[[VrcNumbers], float]) -> Callable[[LayerRow], float]:
    return lambda row: number(row.vrc) if row.vrc else math.nan


_TOGETHER = Column(
    "together",
    "root of the sum of the squares of both errors: about the error of the output",
    lambda row: row.together if row.inputs else math.nan,
    percent,
)
COLUMNS = (
    Column("layer", "name in the model", lambda row: row.name),
    Column("widths", "bits of weights and inputs", lambda row: row.widths),
    Column("grids", "kinds of levels of weights and inputs", lambda row: row.grids),
    Column("weights", "number of weights", lambda row: float(row.count), lambda n: f"{n:,.0f}"),
    Column(
        "weight error",
        "norm of what quantization changes, of the norm of the weights",
        lambda row: row.weight.error,
        percent,
    ),
    Column(
        "weights clipped",
        "share of the weights beyond the first or last level",
        lambda row: row.weight.clipped,
        percent,
    ),
    Column(
        "input error",
        "norm of what quantization changes, of the norm of the inputs",
        lambda row: row.inputs.error if row.inputs else math.nan,
        percent,
    ),
    Column(
        "inputs clipped",
        "share of the inputs beyond the first or last level",
        lambda row: row.inputs.clipped if row.inputs else math.nan,
        percent,
    ),
    _TOGETHER,
    Column(
        "std reduction",
        "by how much VRC lowered the standard deviation of the weights",
        _vrc(lambda vrc: 1 - vrc.std_ratio),
        percent,
    ),
    Column(
        "held-out error",
        "relative error of the outputs that VRC caused on inputs that were held out",
        _vrc(lambda vrc: vrc.output_error),
        percent,
    ),
    Column(
        "condition",
        "largest by smallest eigenvalue of the Gram matrix of the inputs",
        _vrc(lambda vrc: vrc.condition_number),
        power,
    ),
)


def layer_table(rows: Sequence[LayerRow]) -> str:
    """Return ``rows`` as a table in their order; columns without any number are left out."""
    columns = [c for c in COLUMNS if any(_is_there(c.value(row)) for row in rows)]
    sorted_by = "together" if _TOGETHER in columns else "weight error"
    head = "".join(_heading(column, sorted_by) for column in columns)
    body = "\n".join(
        f"<tr>{''.join(_cell(column, row) for column in columns)}</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table>"


def _heading(column: Column, sorted_by: str) -> str:
    order = ' aria-sort="descending"' if column.title == sorted_by else ""
    return (
        f'<th scope="col"{_class(column)}{order} title="{html.escape(column.hint)}">'
        f'<button type="button">{html.escape(column.title)}</button></th>'
    )


def _cell(column: Column, row: LayerRow) -> str:
    value = column.value(row)
    if isinstance(value, str):
        text = html.escape(value)
        return f'<td class="text" data-value="{text}">{text}</td>'
    if math.isnan(value):
        return f'<td data-value="">{_NO_VALUE}</td>'
    # JavaScript's name of infinity, so that the page can sort by it.
    number = "Infinity" if math.isinf(value) else repr(value)
    return f'<td data-value="{number}">{html.escape(column.shown(value))}</td>'


def _class(column: Column) -> str:
    return ' class="text"' if column.title in ("layer", "widths") else ""


def _is_there(value: str | float) -> bool:
    return isinstance(value, str) or not math.isnan(value)
