"""Times as a table to read, and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .._common.machine import cpu_model, usable_cores
from .._common.versions import installed_versions
from ..spec import COMPONENTS
from .measure import Timing

_COLUMNS = (*COMPONENTS, "rest")


def format_timings(timings: Mapping[str, Timing]) -> str:
    """Return a line for each contender; ratios refer to the first that was measured.

    Below stand how integers were multiplied, and those that failed, with the reason.
    """
    measured = {name: timing for name, timing in timings.items() if not timing.error}
    rows = [("", *(name.replace("_", " ") for name in _COLUMNS), "ms per frame", "ratio", "MB")]
    reference = next((timing.milliseconds for timing in measured.values()), 1.0)
    rows += [_row(name, timing, reference) for name, timing in measured.items()]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (rows if measured else [])
    ]
    lines += [
        f"{name}: exact by products of {timing.products}"
        for name, timing in measured.items()
        if timing.products
    ]
    lines += [f"{name}: {timing.error}" for name, timing in timings.items() if timing.error]
    return "\n".join(lines)


def timings_to_json(timings: Mapping[str, Timing], *, threads: int, objects: int) -> dict[str, Any]:
    """Return everything that was measured, with the machine and the versions."""
    return {
        "cpu": cpu_model(),
        "cores": usable_cores(),
        "versions": installed_versions("onnxruntime", "openvino"),
        "threads": threads,
        "objects": objects,
        "results": {name: timing.to_json() for name, timing in timings.items()},
    }


def _row(name: str, timing: Timing, reference: float) -> tuple[str, ...]:
    parts = timing.parts
    low, high = timing.spread
    return (
        name,
        *(f"{parts[part]:.1f}" for part in _COLUMNS),
        f"{timing.milliseconds:.1f} ({low:.1f} to {high:.1f})",
        f"{reference / timing.milliseconds:.2f}x",
        f"{timing.memory / 1e6:.0f}",
    )
