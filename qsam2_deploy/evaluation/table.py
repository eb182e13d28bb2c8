"""The results as a table to read."""

from __future__ import annotations

from .results import Evaluation, ObjectResult, SequenceResult

_HEADER = ("J&F", "J", "F", "fps")


def format_table(evaluation: Evaluation) -> str:
    """Return one line per sequence, one per object where there are several, and the mean."""
    rows: list[tuple[str, str, tuple[str, ...]]] = []
    for sequence in evaluation.sequences:
        single = len(sequence.objects) == 1
        label = str(sequence.objects[0].object_id) if single else "all"
        rows.append((sequence.name, label, _cells(sequence, sequence.fps)))
        if not single:
            rows += [("", str(item.object_id), _cells(item, None)) for item in sequence.objects]
    mean = ("mean", f"{len(evaluation.objects)}", _cells(evaluation, evaluation.fps))
    width = max(len("sequence"), *(len(name) for name, _, _ in [*rows, mean]))
    header = _line("sequence", "object", _HEADER, width)
    lines = [header, "-" * len(header), *(_line(*row, width) for row in rows)]
    return "\n".join([*lines, "-" * len(header), _line("mean of objects", *mean[1:], width)])


def _line(name: str, label: str, cells: tuple[str, ...], width: int) -> str:
    return f"{name:<{max(width, 15)}}  {label:>6}" + "".join(f"  {cell:>6}" for cell in cells)


def _cells(item: Evaluation | SequenceResult | ObjectResult, fps: float | None) -> tuple[str, ...]:
    speed = "" if fps is None else f"{fps:.2f}"
    return f"{item.j_and_f:.2f}", f"{item.j:.2f}", f"{item.f:.2f}", speed
