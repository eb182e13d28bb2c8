"""An exported model as something to evaluate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path

import numpy as np

from .._common.files import file_digest
from .._common.versions import installed_versions
from ..data.sample import VideoSequence
from ..engines.registry import engines
from ..errors import PromptError
from ..predictors.image_predictor import SAM2ImagePredictor
from ..predictors.segmenter import VideoSegmenter
from ..tracking.results import Prompt
from .model import Masks
from .prompts import FirstPrompt


class ExportedModel:
    """A ``model.onnx`` or ``model.engine`` in the runtime; a ``Model`` and a context manager.

    The engine is loaded when the context is entered, so that loading is in nobody's time.
    """

    def __init__(
        self,
        path: Path,
        *,
        exclusive: bool,
        still: bool = False,
        backend: str = "auto",
        threads: int | None = None,
        precision: str = "exact",
        memory_frames: int | None = None,
    ) -> None:
        """Choose the file.

        Args:
            path: a ``model.onnx`` or ``model.engine``.
            exclusive: each pixel belongs to the object of the highest logit alone.
            still: it will get images, not videos.
            backend: the inference engine.
            threads: of the engine; default: its own choice.
            precision: ``exact`` or ``fast``.
            memory_frames: memories that are attended to; default: the model's own number.
        """
        self._path = path
        self._exclusive, self._still = exclusive, still
        self._backend, self._threads, self._precision = backend, threads, precision
        self._memory_frames = memory_frames
        self._open = ExitStack()

    def __enter__(self) -> ExportedModel:
        """Load the model into the engine.

        Raises:
            ModelFileError: the model cannot be used.
            MissingDependencyError: the engine is not installed.
        """
        _ = self._predictor if self._still else self._segmenter
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    @property
    def info(self) -> Mapping[str, str]:
        """Name and digest of the file, the engine, and versions."""
        engine = (self._predictor if self._still else self._segmenter).engine
        known = engines().get(engine.partition(",")[0])
        return {
            "model": self._path.name,
            "model_sha256": file_digest(self._path),
            "backend": self._backend,
            "engine": engine,
            "threads": str(self._threads or "default"),
            "memory_frames": str(self._memory_frames or "default"),
            **installed_versions(*([] if known is None else [known.package])),
        }

    def track(self, sequence: VideoSequence, prompts: Sequence[FirstPrompt]) -> Iterator[Masks]:
        """Yield the masks of every frame.

        Raises:
            ModelFileError: the model cannot be used.
            VideoError: a frame cannot be read.
            EngineError: the engine failed.
        """
        segmenter = self._segmenter
        segmenter.reset()
        first = min(prompt.frame_index for prompt in prompts)
        for index in range(sequence.frame_count):
            if index < first:
                yield {}
                continue
            given = [_prompt(prompt) for prompt in prompts if prompt.frame_index == index]
            result = segmenter.track(sequence.frame(index), given)
            yield {item.object_id: item.mask for item in result.objects}

    def segment(self, image: VideoSequence, prompts: Sequence[FirstPrompt]) -> Masks:
        """Return the masks of an image, each from its click or box.

        Raises:
            ModelFileError: the model cannot be used.
            PromptError: a prompt is a mask.
            VideoError: the image cannot be read.
        """
        predictor = self._predictor
        predictor.set_image(image.frame(0))
        found: Masks = {}
        for prompt in prompts:
            click, box = prompt.click, prompt.box
            if click is None and box is None:
                raise PromptError("an image is prompted with a click or a box; choose one of them")
            # One click is ambiguous: of the three answers the model's own favourite is taken.
            masks, ious, _ = predictor.predict(
                None if click is None else [click],
                None if click is None else [1],
                box,
                multimask_output=click is not None,
            )
            found[prompt.object_id] = masks[int(np.argmax(ious))] > 0
        return found

    @cached_property
    def _segmenter(self) -> VideoSegmenter:
        segmenter = VideoSegmenter(
            self._path,
            self._backend,
            threads=self._threads,
            precision=self._precision,
            non_overlap_masks=self._exclusive,
            memory_frames=self._memory_frames,
        )
        return self._open.enter_context(segmenter)

    @cached_property
    def _predictor(self) -> SAM2ImagePredictor:
        predictor = SAM2ImagePredictor(
            self._path, self._backend, self._threads, precision=self._precision
        )
        return self._open.enter_context(predictor)


def _prompt(prompt: FirstPrompt) -> Prompt:
    if prompt.mask is not None:
        return Prompt(prompt.object_id, mask=prompt.mask)
    if prompt.click is not None:
        return Prompt(prompt.object_id, points=[prompt.click], labels=[1])
    return Prompt(prompt.object_id, box=prompt.box)
