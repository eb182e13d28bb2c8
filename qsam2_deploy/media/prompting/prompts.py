"""Prompts with the frames they are for, and whether they fit."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ...errors import PromptError
from ...tracking.results import Prompt

_LARGEST_OBJECT_ID = (1 << 31) - 1


@dataclass(frozen=True)
class FramePrompt:
    """A prompt and its frame.

    Attributes:
        frame: its number in the source; None is the first frame processed.
        prompt: what to segment there.
        files: that it was read from, which no output may replace.
    """

    frame: int | None
    prompt: Prompt
    files: tuple[Path, ...] = field(default=(), compare=False)


def validate_prompt(prompt: Prompt, height: int, width: int) -> None:
    """Check that ``prompt`` fits a frame of ``height`` by ``width`` pixels.

    Raises:
        PromptError: the object's number is no such one, nothing is given, points and labels do not
            match, a label is neither 0 nor 1, a point is outside of the frame, a box is empty or
            outside of it or added to earlier points, or the mask has another size or comes with
            points.
    """
    who = f"object {prompt.object_id!s:.40}"
    if not isinstance(prompt.object_id, int) or not 0 <= prompt.object_id <= _LARGEST_OBJECT_ID:
        raise PromptError(
            f"{who}: object numbers are whole, begin at 0 and end at {_LARGEST_OBJECT_ID}"
        )
    if prompt.mask is not None:
        _check_mask(prompt, height, width, who)
        return
    if len(prompt.points) == 0 and prompt.box is None:
        raise PromptError(f"the prompt of {who} is empty; give points, a box or a mask")
    _check_points(prompt, height, width, who)
    if prompt.box is not None:
        _check_box(prompt.box, height, width, who)
        if not prompt.clear_old_points:
            raise PromptError(
                f"the box of {who} cannot be added to earlier points: a box must come before any "
                "point; use clear_old_points=True"
            )


def check_frames(
    prompts: Iterable[FramePrompt], *, first: int, end: int | None, num_frames: int | None
) -> None:
    """Check that prompts are for frames that will be processed.

    Args:
        prompts: what the user gave.
        first: the first frame that is processed.
        end: one past the last frame that is processed, None if unknown.
        num_frames: frames of the whole source, None if unknown.

    Raises:
        PromptError: there is no prompt, or one is for a frame outside of these.
    """
    prompts = list(prompts)
    if not prompts:
        raise PromptError(
            "no prompt was given; say what to segment with a click, a box, a mask or a file"
        )
    for item in prompts:
        frame = first if item.frame is None else item.frame
        who = f"the prompt of object {item.prompt.object_id} is for frame {frame}"
        if num_frames is not None and frame >= num_frames:
            raise PromptError(
                f"{who}, but the source has {num_frames} frames, numbered from 0 to "
                f"{num_frames - 1}"
            )
        if frame < first:
            raise PromptError(f"{who}, but processing starts at frame {first}")
        if end is not None and frame >= end:
            raise PromptError(f"{who}, but the last frame to be processed is {end - 1}")


def _check_points(prompt: Prompt, height: int, width: int, who: str) -> None:
    if len(prompt.points) != len(prompt.labels):
        raise PromptError(
            f"{who} has {len(prompt.points)} points but {len(prompt.labels)} labels; "
            "give one label, 0 or 1, for each point"
        )
    for label in prompt.labels:
        if label not in (0, 1):
            raise PromptError(
                f"{who} has a point with label {label}; expected 1 (the object is here) or "
                "0 (it is not)"
            )
    for point in prompt.points:
        x, y = _numbers(point, 2, f"a point of {who}")
        if not (0 <= x < width and 0 <= y < height):
            raise PromptError(
                f"the click ({x:g}, {y:g}) of {who} is outside of the frame, which is "
                f"{width} pixels wide and {height} high"
            )


def _check_box(box: tuple[float, float, float, float], height: int, width: int, who: str) -> None:
    x1, y1, x2, y2 = _numbers(box, 4, f"the box of {who}")
    text = f"the box ({x1:g}, {y1:g}, {x2:g}, {y2:g}) of {who}"
    if x1 >= x2 or y1 >= y2:
        raise PromptError(
            f"{text} is empty; expected x1 < x2 and y1 < y2, from the upper left corner to the "
            "lower right one"
        )
    # Detectors give boxes that stick out a little; those are as good as any.
    if x2 <= 0 or y2 <= 0 or x1 >= width or y1 >= height:
        raise PromptError(
            f"{text} is outside of the frame, which is {width} pixels wide and {height} high"
        )


def _check_mask(prompt: Prompt, height: int, width: int, who: str) -> None:
    assert prompt.mask is not None
    if len(prompt.points) or prompt.box is not None:
        raise PromptError(f"{who} has a mask as well as points or a box; a mask stands alone")
    if prompt.mask.ndim != 2 or prompt.mask.shape != (height, width):
        size = "x".join(str(n) for n in prompt.mask.shape[::-1])
        raise PromptError(
            f"the mask of {who} is {size} pixels, but the frame is {width}x{height}; "
            "give a mask of the frame's size"
        )


def _numbers(values: Iterable[float], count: int, what: str) -> list[float]:
    try:
        numbers = [float(v) for v in values]
    except (TypeError, ValueError) as error:
        raise PromptError(f"{what} must be {count} numbers, but is {values!r}") from error
    if len(numbers) != count or not all(math.isfinite(n) for n in numbers):
        raise PromptError(f"{what} must be {count} finite numbers, but is {values!r}")
    return numbers
