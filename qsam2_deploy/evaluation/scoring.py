"""Running a model over annotated sequences and scoring what it returns."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from .._common.progress import progress
from ..data.sample import Frames, VideoSequence, release
from ..errors import VideoError
from .metrics import boundary_accuracy, region_similarity
from .model import Masks, Model
from .prompts import FirstPrompt, PromptKind, first_prompts
from .results import Evaluation, ObjectResult, SequenceResult
from .rules import FrameScore, Rule

Mask = npt.NDArray[np.bool_]


class Observer(Protocol):
    """Sees every frame of a result: a writer of masks, a picture of the worst frames."""

    def frame(self, sequence: VideoSequence, index: int, masks: Masks) -> None:
        """Take the model's masks of one frame."""

    def sequence(self, sequence: VideoSequence, result: SequenceResult) -> None:
        """Take the scores of a sequence after its last frame."""


def evaluate(
    model: Model,
    sequences: Sequence[VideoSequence],
    rule: Rule,
    *,
    prompt: PromptKind = "mask",
    settings: Mapping[str, Any] | None = None,
    observers: Sequence[Observer] = (),
    show_progress: bool | None = None,
) -> Evaluation:
    """Give a model the prompts of each sequence and score its masks.

    Args:
        model: what to evaluate.
        sequences: annotated sequences or images.
        rule: which frames count.
        prompt: what the model is told on the first frame of each object.
        settings: further entries for the report.
        observers: see every frame.
        show_progress: a progress bar; the default is only where standard error is a terminal.

    Raises:
        VideoError: a sequence is damaged or too short for the rule, or a result has another size.
        EngineError: the model failed.
    """
    total = sum(sequence.frame_count for sequence in sequences)
    bar = progress(_ticks(total), "evaluate", total=total, unit="frame", enabled=show_progress)
    results = []
    for sequence in sequences:
        prompts = first_prompts(sequence, prompt)
        results.append(_evaluate_sequence(model, sequence, prompts, rule, observers, bar))
        release(sequence)
    for _ in bar:
        pass
    described = {"rule": rule.description, "prompt": prompt, **model.info, **(settings or {})}
    return Evaluation(tuple(results), rule.name, described)


def _ticks(total: int) -> Iterator[None]:
    yield from (None for _ in range(total))


def _evaluate_sequence(
    model: Model,
    sequence: VideoSequence,
    prompts: Sequence[FirstPrompt],
    rule: Rule,
    observers: Sequence[Observer],
    bar: Iterator[None],
) -> SequenceResult:
    timed = _TimedSequence(sequence)
    annotated = frozenset(sequence.annotated)
    scores: dict[int, list[FrameScore]] = defaultdict(list)
    count = 0
    for index, masks in enumerate(_timed(_frames(model, timed, prompts, rule), timed)):
        if index in annotated:
            for object_id, truth in sequence.masks(index).items():
                score = _score(sequence, index, masks.get(object_id), truth)
                scores[object_id].append(score)
        for observer in observers:
            observer.frame(sequence, index, masks)
        next(bar, None)
        count += 1
    if count != sequence.frame_count:
        raise VideoError(
            f"the results for {sequence.name} have {count} frames, but it has "
            f"{sequence.frame_count}"
        )
    result = _sequence_result(sequence, scores, rule, timed.model_seconds)
    for observer in observers:
        observer.sequence(sequence, result)
    return result


def _frames(
    model: Model, sequence: VideoSequence, prompts: Sequence[FirstPrompt], rule: Rule
) -> Iterator[Masks]:
    if rule.still:
        yield model.segment(sequence, prompts)
    else:
        yield from model.track(sequence, prompts)


def _score(sequence: VideoSequence, index: int, mask: Mask | None, truth: Mask) -> FrameScore:
    predicted = np.zeros_like(truth) if mask is None else mask
    if predicted.shape != truth.shape:
        raise VideoError(
            f"the result for frame {index} of {sequence.name} is "
            f"{predicted.shape[1]}x{predicted.shape[0]} pixels, but the frame is "
            f"{truth.shape[1]}x{truth.shape[0]}; both must have the same size"
        )
    return FrameScore(
        index,
        region_similarity(predicted, truth),
        boundary_accuracy(predicted, truth),
        present=bool(truth.any()),
        predicted=bool(predicted.any()),
    )


def _sequence_result(
    sequence: VideoSequence, scores: Mapping[int, Sequence[FrameScore]], rule: Rule, seconds: float
) -> SequenceResult:
    objects = []
    for object_id in sequence.object_ids:
        counted = rule.select(scores[object_id])
        if counted:
            objects.append(_object_result(object_id, counted))
    if not objects:
        raise VideoError(
            f"{sequence.name} has no frame to score: the first and the last annotated frame of an "
            "object do not count; expected at least 3 frames with annotations"
        )
    return SequenceResult(
        sequence.name, tuple(objects), sequence.frame_count, seconds if seconds > 0 else None
    )


def _object_result(object_id: int, scores: Sequence[FrameScore]) -> ObjectResult:
    worst = min(scores, key=lambda score: score.j + score.f)
    return ObjectResult(
        object_id,
        100 * float(np.mean([score.j for score in scores])),
        100 * float(np.mean([score.f for score in scores])),
        len(scores),
        worst.frame_index,
    )


class _TimedSequence:
    """A sequence that knows how long its frames took to read."""

    def __init__(self, sequence: VideoSequence) -> None:
        self._sequence = sequence
        self.name, self.size = sequence.name, sequence.size
        self.frame_count = sequence.frame_count
        self.object_ids, self.annotated = sequence.object_ids, sequence.annotated
        self.frames_read = 0
        self.model_seconds = 0.0

    def frame(self, index: int) -> Frames:
        start = time.perf_counter()
        frame = self._sequence.frame(index)
        self.frames_read += 1
        self.model_seconds -= time.perf_counter() - start
        return frame

    def masks(self, index: int) -> dict[int, Mask]:
        return self._sequence.masks(index)


def _timed(items: Iterator[Masks], sequence: _TimedSequence) -> Iterator[Masks]:
    """Iterate, and add the time that it takes to ``sequence.model_seconds``."""
    while True:
        start = time.perf_counter()
        try:
            item = next(items)
        except StopIteration:
            break
        finally:
            sequence.model_seconds += time.perf_counter() - start
        yield item
    if not sequence.frames_read:
        # A folder of results: nothing was computed, so there is nothing to time.
        sequence.model_seconds = 0.0
