"""Prompts from a JSON file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..._common.contradictions import shown
from ..._common.json import read_json
from ...errors import PromptError
from ...tracking.results import Prompt
from .mask_file import read_mask
from .prompts import FramePrompt

_MAX_BYTES = 16 << 20
_MAX_INTEGER = 1 << 31
_MAX_NAME = 1024
_KEYS = ("frame", "object", "points", "labels", "box", "mask")


def prompts_from_file(path: str | Path) -> list[FramePrompt]:
    """Read prompts from a JSON file.

    The file is a list of objects such as ``{"frame": 0, "object": 1, "points": [[320, 240]],
    "labels": [1], "box": [x1, y1, x2, y2], "mask": "file.png"}``. All entries are optional but
    one of ``points``, ``box`` and ``mask``: without ``frame`` it is the first frame that is
    processed, without ``object`` object 1, without ``labels`` all points are on the object. A
    mask's path is relative to the JSON file.

    Raises:
        PromptError: the file is absent, no JSON, or an entry is malformed.
    """
    path = Path(path)
    try:
        data = read_json(path, _MAX_BYTES)
    except FileNotFoundError as error:
        raise PromptError(f"there is no prompts file {path}") from error
    except OSError as error:
        raise PromptError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise PromptError(f"the prompts file {path} is not valid JSON: {error}") from error
    if not isinstance(data, list) or not data:
        raise PromptError(
            f"the prompts file {path} must hold a list such as "
            '[{"frame": 0, "object": 1, "points": [[320, 240]], "labels": [1]}]'
        )
    prompts = prompts_from_entries(data, str(path), path.parent)
    return [replace(prompt, files=(path, *prompt.files)) for prompt in prompts]


def prompts_from_entries(
    entries: Iterable[Any], origin: str, folder: str | Path
) -> list[FramePrompt]:
    """Return the prompts that stand in the list of a file of prompts, or of a manifest.

    Args:
        entries: see :func:`prompts_from_file`.
        origin: where they stand, for messages.
        folder: what paths of masks are relative to.

    Raises:
        PromptError: an entry is malformed.
    """
    return [
        _frame_prompt(entry, f"prompt {i} of {origin}", Path(folder))
        for i, entry in enumerate(entries, start=1)
    ]


def _frame_prompt(entry: Any, who: str, folder: Path) -> FramePrompt:
    if not isinstance(entry, dict):
        raise PromptError(f"{who} must be an object with some of: {', '.join(_KEYS)}")
    unknown = sorted(set(entry) - set(_KEYS))
    if unknown:
        raise PromptError(
            f"{who} has the unknown entry {shown(unknown[0])}; expected some of: {', '.join(_KEYS)}"
        )
    object_id = _integer(entry, "object", who)
    points = _points(entry.get("points", []), who)
    mask = _mask_file(entry.get("mask"), folder, who)
    return FramePrompt(
        _integer(entry, "frame", who),
        Prompt(
            object_id=1 if object_id is None else object_id,
            points=points,
            labels=_labels(entry.get("labels", [1] * len(points)), len(points), who),
            box=_box(entry.get("box"), who),
            mask=None if mask is None else read_mask(mask, 1 if object_id is None else object_id),
        ),
        () if mask is None else (mask,),
    )


def _integer(entry: dict[str, Any], key: str, who: str) -> int | None:
    value = entry.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _MAX_INTEGER:
        raise PromptError(f"{key!r} of {who} must be a whole number from 0, but is {shown(value)}")
    return value


def _points(value: Any, who: str) -> tuple[tuple[float, float], ...]:
    if not isinstance(value, list) or not all(_is_numbers(p, 2) for p in value):
        raise PromptError(f"'points' of {who} must be a list such as [[320, 240], [300, 200]]")
    return tuple((float(x), float(y)) for x, y in value)


def _labels(value: Any, count: int, who: str) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(
        isinstance(v, int) and not isinstance(v, bool) and v in (0, 1) for v in value
    ):
        raise PromptError(
            f"'labels' of {who} must be a list of 1 (the object is here) and 0 (it is not)"
        )
    if len(value) != count:
        raise PromptError(
            f"{who} has {count} points but {len(value)} labels; give one label for each point"
        )
    return tuple(value)


def _box(value: Any, who: str) -> tuple[float, float, float, float] | None:
    if value is None:
        return None
    if not _is_numbers(value, 4):
        raise PromptError(f"'box' of {who} must be four numbers [x1, y1, x2, y2] in pixels")
    return float(value[0]), float(value[1]), float(value[2]), float(value[3])


def _mask_file(value: Any, folder: Path, who: str) -> Path | None:
    if value is None:
        return None
    if not isinstance(value, str) or not value.isprintable() or len(value) > _MAX_NAME:
        raise PromptError(f"'mask' of {who} must be the name of an image file")
    return folder / value


def _is_numbers(value: Any, count: int) -> bool:
    return (
        isinstance(value, list)
        and len(value) == count
        and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in value)
        and all(abs(v) < _MAX_INTEGER for v in value)  # false for NaN, too
    )
