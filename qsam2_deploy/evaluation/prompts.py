"""What a model is told about each object: a mask, a click or a box from the ground truth."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from ..data.sample import VideoSequence
from ..errors import PromptError, VideoError
from .shapes import centre_point, tight_box

PromptKind = Literal["mask", "click", "box"]
PROMPT_KINDS: tuple[PromptKind, ...] = get_args(PromptKind)


@dataclass(frozen=True)
class FirstPrompt:
    """The only prompt on an object; exactly one of the last three is given.

    Attributes:
        object_id: the object.
        frame_index: the frame on which it is given.
        mask: bool [H, W].
        click: (x, y), a pixel of the object.
        box: (x1, y1, x2, y2), pixels.
    """

    object_id: int
    frame_index: int
    mask: npt.NDArray[np.bool_] | None = None
    click: tuple[int, int] | None = None
    box: tuple[int, int, int, int] | None = None


def first_prompts(sequence: VideoSequence, kind: PromptKind) -> tuple[FirstPrompt, ...]:
    """Return a prompt on each object on the first frame whose annotation shows it.

    Returns:
        In the order of the frames, then of the objects.

    Raises:
        PromptError: the kind is unknown.
        VideoError: an object is in no annotation, or a file of the sequence is damaged.
    """
    if kind not in PROMPT_KINDS:
        raise PromptError(f"the prompt must be one of {', '.join(PROMPT_KINDS)}, but got {kind!r}")
    missing = set(sequence.object_ids)
    prompts = []
    for index in sequence.annotated:
        if not missing:
            break
        for object_id, mask in sorted(sequence.masks(index).items()):
            if object_id in missing and mask.any():
                missing.remove(object_id)
                prompts.append(_prompt(object_id, index, mask, kind))
    if missing:
        raise VideoError(
            f"no annotation of {sequence.name} shows {_objects(missing)}, so there is nothing to "
            "track; expected a mask that is not empty"
        )
    return tuple(prompts)


def _prompt(
    object_id: int, index: int, mask: npt.NDArray[np.bool_], kind: PromptKind
) -> FirstPrompt:
    if kind == "mask":
        return FirstPrompt(object_id, index, mask=mask)
    if kind == "click":
        return FirstPrompt(object_id, index, click=centre_point(mask))
    return FirstPrompt(object_id, index, box=tight_box(mask))


def _objects(object_ids: Iterable[int]) -> str:
    names = [str(i) for i in sorted(object_ids)]
    return f"object{'s' if len(names) > 1 else ''} {', '.join(names)}"
