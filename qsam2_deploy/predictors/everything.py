"""Everything in the first frame becomes an object: a segmenter that needs no prompts."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from ..engines.open import open_backend
from ..errors import InputError, PromptError
from ..media.protocols import RgbImage
from ..media.writing.mask_writer import LARGEST_OBJECT_ID
from ..tracking.results import FrameResult, ObjectResult, Prompt
from .automatic.generator import SAM2AutomaticMaskGenerator
from .segmenter import VideoSegmenter
from .shared_model import SharedModel

MOST_TRACKED = 16
"""Objects that are tracked by default; the time of a frame grows with them."""

_INSIDE, _OUTSIDE = np.float32(10), np.float32(-10)


@dataclass(frozen=True)
class Everything:
    """What to look for in the first frame.

    Attributes:
        max_objects: so many masks of the best predicted quality are kept; default: 255 of a
            picture, and 16 of a video.
        options: further arguments of :class:`~.automatic.generator.SAM2AutomaticMaskGenerator`, by
            name.

    Raises:
        InputError: ``max_objects`` is not from 1 to 255.
    """

    max_objects: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.max_objects is not None and not 1 <= self.max_objects <= LARGEST_OBJECT_ID:
            raise InputError(
                f"the number of objects must be from 1 to {LARGEST_OBJECT_ID}, "
                f"but is {self.max_objects}"
            )


class EverythingSegmenter:
    """Finds all objects of the first frame, and tracks them if there are more frames.

    Objects are numbered by their area on the first frame, from 1 for the largest. The results of
    that frame are the masks that were found; a pixel of several masks has the highest logit in the
    smallest of them.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        backend: str,
        threads: int | None,
        memory_frames: int | None,
        cache: str | Path | None,
        precision: str,
        everything: Everything,
    ) -> None:
        """Choose the model and the engine; see :class:`~.segmenter.VideoSegmenter`.

        Raises:
            ModelFileError: the model cannot be used.
            InputError: an option cannot be used.
            MissingDependencyError: the engine is not installed.
        """
        self._everything = everything
        shared = SharedModel(
            open_backend(model, backend, threads, cache=cache, precision=precision)
        )
        self._generator = SAM2AutomaticMaskGenerator(shared, **everything.options)
        self._tracker = VideoSegmenter(shared, memory_frames=memory_frames)
        self._stack = ExitStack()
        self.note = ""
        """What was found, in a sentence."""

    @property
    def engine(self) -> str:
        """The engine and its precision; for people to read."""
        return self._generator.engine

    def __enter__(self) -> EverythingSegmenter:
        """Load the model into the engine, once for both uses."""
        with ExitStack() as stack:
            stack.enter_context(self._generator)
            stack.enter_context(self._tracker)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        """Release the engine."""
        self._stack.close()

    def stream(
        self, frames: Iterable[RgbImage], prompts: Mapping[int, Sequence[Prompt]]
    ) -> Generator[FrameResult, None, None]:
        """Segment all frames.

        Args:
            frames: uint8 RGB ``[height, width, 3]``, all of one size.
            prompts: none; the argument is that of ``VideoSegmenter.stream``.

        Yields:
            The masks of all objects on each frame, in order.

        Raises:
            PromptError: there are prompts, or nothing was found.
            VideoError: a frame is of another type or shape.
            EngineError: the engine failed.
        """
        if prompts:
            raise PromptError("everything is looked for without prompts; leave them out")
        rest = iter(frames)
        first = next(rest, None)
        if first is None:
            return
        found = self._found(first)
        second = next(rest, None)
        shown = _shown(self._kept(found, tracked=second is not None))
        if second is None:
            yield FrameResult(0, shown)
            return
        wanted = [Prompt(item.object_id, mask=item.mask) for item in shown]
        every = chain((first, second), rest)
        with closing(self._tracker.stream(every, {0: wanted})) as results:
            for result in results:
                yield _as_found(result, shown) if result.frame_index == 0 else result

    def save_objects(self, path: str | Path) -> None:
        """Write the memories of what is tracked to a file.

        Raises:
            PromptError: nothing was tracked: there was one frame alone.
            InputError: the file cannot be written.
        """
        self._tracker.save_objects(path)

    def _found(self, frame: RgbImage) -> list[dict[str, Any]]:
        """Return the mask generator's results, the best ones first."""
        found = [item for item in self._generator.generate(frame) if item["area"]]
        if not found:
            generator = self._generator
            raise PromptError(
                "nothing was found on the first frame with a predicted IoU above "
                f"{generator.pred_iou_thresh:g} and a stability of at least "
                f"{generator.stability_score_thresh:g}; lower these thresholds"
            )
        return sorted(found, key=lambda item: item["predicted_iou"], reverse=True)

    def _kept(self, found: list[dict[str, Any]], *, tracked: bool) -> list[dict[str, Any]]:
        """Return as many of the best as are wanted, and say so."""
        default = MOST_TRACKED if tracked else LARGEST_OBJECT_ID
        most = self._everything.max_objects or default
        done = "tracked" if tracked else "kept"
        which = "all" if len(found) <= most else f"the best {most}"
        self.note = f"masks found on the first frame: {len(found)}; {done}: {which}"
        return found[:most]


def _shown(found: list[dict[str, Any]]) -> tuple[ObjectResult, ...]:
    """Return masks as results, from the largest to the smallest, which is on top."""
    results = []
    largest_first = sorted(found, key=lambda item: item["area"], reverse=True)
    for number, mask in enumerate((item["segmentation"] for item in largest_first), start=1):
        above = np.float32(number / len(found))
        logits = np.where(mask, _INSIDE + above, _OUTSIDE)
        # The mask generator does not ask whether its object is visible: it has a pixel there.
        results.append(ObjectResult(number, np.ascontiguousarray(mask), logits, math.nan, True))
    return tuple(results)


def _as_found(result: FrameResult, shown: Sequence[ObjectResult]) -> FrameResult:
    """Return the tracker's result of the first frame with the masks that were found."""
    objects = tuple(
        replace(found, score=tracked.score, low_res_logits=tracked.low_res_logits)
        for found, tracked in zip(shown, result.objects, strict=True)
    )
    return FrameResult(result.frame_index, objects)
