"""Prompts from command line flags.

The form is ``[OBJECT][@FRAME]:VALUE``, or only ``VALUE`` for object 1 on the first frame::

    320,240            a click for object 1 on the first frame
    320,240,0          the same with a label: 1 the object is here, 0 it is not
    2:320,240          object 2
    @15:320,240        frame 15
    2@15:320,240       both
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from ...errors import PromptError
from ...tracking.results import Prompt
from .mask_file import read_mask
from .prompts import FramePrompt

_PREFIX = re.compile(
    r"(?P<object>[0-9]{1,18})?(?:@(?P<frame>[0-9]{1,18}))?:(?P<value>.*)", re.DOTALL
)

_T = TypeVar("_T")
_Target = tuple["int | None", int]


def prompts_from_flags(
    clicks: Sequence[str] = (),
    negative_clicks: Sequence[str] = (),
    boxes: Sequence[str] = (),
    masks: Sequence[str] = (),
) -> list[FramePrompt]:
    """Return one prompt for each object and frame that the flags name.

    Clicks and a box for the same object on the same frame become one prompt.

    Args:
        clicks: ``[OBJECT][@FRAME]:X,Y[,LABEL]``.
        negative_clicks: ``[OBJECT][@FRAME]:X,Y``, with label 0.
        boxes: ``[OBJECT][@FRAME]:X1,Y1,X2,Y2``.
        masks: ``[OBJECT][@FRAME]:FILE``, an image of the frame's size.

    Raises:
        PromptError: a flag is malformed, or two of them exclude each other.
    """
    points: dict[_Target, list[tuple[float, float, int]]] = {}
    rectangles: dict[_Target, tuple[float, float, float, float]] = {}
    files: dict[_Target, Path] = {}
    for flag, texts, label in (("--click", clicks, None), ("--negative-click", negative_clicks, 0)):
        for text in texts:
            target, value = _split(text)
            points.setdefault(target, []).append(_point(flag, text, value, label))
    for text in boxes:
        target, value = _split(text)
        _add("--box", text, rectangles, target, _box(text, value))
    for text in masks:
        target, value = _split(text)
        _add("--mask", text, files, target, Path(value))
    targets = dict.fromkeys([*points, *rectangles, *files])
    return [
        FramePrompt(
            t[0],
            _prompt(t[1], points.get(t, []), rectangles.get(t), files.get(t)),
            (files[t],) if t in files else (),
        )
        for t in targets
    ]


def _prompt(
    object_id: int,
    points: Sequence[tuple[float, float, int]],
    box: tuple[float, float, float, float] | None,
    mask: Path | None,
) -> Prompt:
    return Prompt(
        object_id=object_id,
        points=tuple((x, y) for x, y, _ in points),
        labels=tuple(label for _, _, label in points),
        box=box,
        mask=None if mask is None else read_mask(mask, object_id),
    )


def _split(text: str) -> tuple[_Target, str]:
    """Return ((frame, object), value)."""
    match = _PREFIX.fullmatch(text)
    # A prefix needs a number, so that "C:\mask.png" stays a path.
    if match is None or (match["object"] is None and match["frame"] is None):
        return (None, 1), text
    frame = None if match["frame"] is None else int(match["frame"])
    object_id = 1 if match["object"] is None else int(match["object"])
    return (frame, object_id), match["value"]


def _point(flag: str, text: str, value: str, label: int | None) -> tuple[float, float, int]:
    numbers = _floats(value)
    if label is None and numbers is not None and len(numbers) == 3:
        if numbers[2] not in (0, 1):
            raise PromptError(
                f"{flag} {text}: the label must be 1 (the object is here) or 0 (it is not)"
            )
        return numbers[0], numbers[1], int(numbers[2])
    if numbers is None or len(numbers) != 2:
        optional = "[,LABEL]" if label is None else ""
        raise PromptError(
            f"{flag} {text} is not a click; expected [OBJECT][@FRAME]:X,Y{optional} in pixels, "
            "such as 320,240 or 2@15:320,240"
        )
    return numbers[0], numbers[1], 1 if label is None else label


def _box(text: str, value: str) -> tuple[float, float, float, float]:
    numbers = _floats(value)
    if numbers is None or len(numbers) != 4:
        raise PromptError(
            f"--box {text} is not a box; expected [OBJECT][@FRAME]:X1,Y1,X2,Y2 in pixels, "
            "such as 100,80,300,240"
        )
    return numbers[0], numbers[1], numbers[2], numbers[3]


def _floats(value: str) -> list[float] | None:
    try:
        numbers = [float(part) for part in value.split(",")]
    except ValueError:
        return None
    return numbers if all(math.isfinite(n) for n in numbers) else None


def _add(flag: str, text: str, known: dict[_Target, _T], target: _Target, value: _T) -> None:
    if target in known:
        raise PromptError(
            f"{flag} {text}: object {target[1]} has another {flag[2:]} on that frame; give one"
        )
    known[target] = value
