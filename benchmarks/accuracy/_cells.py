"""Measurements kept one by one: a cell is a JSON file, and tables are made of the files."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from benchmarks._report import environment
from qsam2_deploy._common.files import write_json
from qsam2_deploy.errors import InputError

Results = dict[str, Any]


class Cell(Protocol):
    """What is measured: a dataclass of plain values."""

    __dataclass_fields__: Any

    @property
    def file(self) -> str:
        """Name of its JSON file."""


def keep(
    folder: Path,
    cell: Cell,
    settings: Mapping[str, Any],
    measure: Callable[[], Results],
    shown: Sequence[str],
) -> Results:
    """Return the results of a cell: those in its file if the settings are the same, or new ones.

    Args:
        folder: of the files.
        cell: what is measured.
        settings: whatever else the results depend on; plain values.
        measure: measures it.
        shown: names of the results to print.

    Raises:
        InputError: the file holds something else, or cannot be written.
    """
    target = folder / cell.file
    key = json.loads(json.dumps({**settings, **asdict(cell)}))
    if target.exists():
        content = read_cell(target)
        if content["settings"] == key:
            print(f"kept     {target.name}", flush=True)
            return dict(content["results"])
    started = time.perf_counter()
    results = measure()
    seconds = round(time.perf_counter() - started, 1)
    content = {
        **asdict(cell), "settings": key, "seconds": seconds, "environment": environment(),
        "results": results,
    }  # fmt: skip
    write_json(target, content)
    numbers = "  ".join(f"{name} {results[name]:.4g}" for name in shown)
    print(f"measured {target.name:<40}{numbers}", flush=True)
    return results


def read_cell(path: Path) -> Results:
    """Return what the file of a cell holds.

    Raises:
        InputError: it is not the file of a cell.
    """
    try:
        content = json.loads(path.read_bytes())
        if {"settings", "results"} <= content.keys() and isinstance(content["results"], dict):
            return dict(content)
    except (OSError, ValueError, AttributeError):
        pass
    raise InputError(f"{path} is no result of this benchmark; delete it")


def read_cells(folder: Path) -> list[Results]:
    """Return what the files of all cells in ``folder`` hold, by their names.

    Raises:
        InputError: there are none, or one is damaged.
    """
    rows = [read_cell(path) for path in sorted(folder.glob("*.json"))]
    if not rows:
        raise InputError(f"there are no results in {folder}; run the benchmark first")
    return rows
