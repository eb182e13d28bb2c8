"""Promptable segmentation of a stream of frames."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from ..engines.open import open_backend
from ..engines.protocol import Backend, engine_of
from ..errors import EngineError, PromptError
from ..media.prompting.prompts import validate_prompt
from ..spec import ModelSpec
from ..tracking.enlarged_masks import lazy_results
from ..tracking.memory import MemoryBank, MemoryEntry
from ..tracking.object_file import read_objects, write_objects
from ..tracking.prompts import mask_input, point_inputs
from ..tracking.results import FrameResult, Prompt
from ..tracking.tracker import FrameFeatures, Moment, PointInputs, Tracker, rules_with_memory_frames
from .look_ahead import look_ahead
from .stream_frames import check_frame, received

Frame = npt.NDArray[np.uint8]


@dataclass
class _Object:
    """One object: its memory, and what was said about it on the newest frame."""

    bank: MemoryBank = field(default_factory=MemoryBank)
    points: PointInputs | None = None
    newest: MemoryEntry | None = None

    def copy(self) -> _Object:
        bank = MemoryBank(dict(self.bank.conditioning), dict(self.bank.tracked))
        return _Object(bank, self.points, self.newest)


def _finished(ahead: Future[Callable[[], FrameFeatures]]) -> FrameFeatures:
    """Wait for what another thread does for a frame, and do the rest."""
    return ahead.result()()


class VideoSegmenter:
    """Tracks objects through frames of any source, one frame at a time.

    Memory use does not grow with the length of the stream: each object keeps the frames that the
    model can still attend to, and at most ``max_conditioning_frames`` frames with prompts.

    Example::

        with VideoSegmenter("model.onnx") as segmenter:
            segmenter.track(first_frame, [Prompt(object_id=1, points=[(320, 240)], labels=[1])])
            for frame in camera:
                mask = segmenter.track(frame)[1].mask

    Where the frames come from an iterator, :meth:`stream` gives the same results faster.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | Backend,
        backend: str = "auto",
        *,
        threads: int | None = None,
        fill_hole_area: int = 0,
        non_overlap_masks: bool = False,
        max_conditioning_frames: int = 32,
        memory_frames: int | None = None,
        cache: str | os.PathLike[str] | None = None,
        precision: str = "exact",
    ) -> None:
        """Choose the model and the engine; nothing is loaded before the context is entered.

        Args:
            model: a ``model.onnx``, a ``model.engine``, or a backend of one's own.
            backend: see :func:`open_backend`; ``auto`` goes by the file.
            threads: threads of the engine on the CPU; default: one for each core that this process
                may use (affinity, control groups). Each component has all of them; with 1,
                :meth:`stream` encodes in the thread that tracks.
            fill_hole_area: fill holes of at most so many low-resolution pixels.
            non_overlap_masks: a pixel belongs to the object of the highest logit alone.
            max_conditioning_frames: frames with prompts that an object keeps: its first and its
                latest ones.
            memory_frames: how many memories an object attends to on a frame: its frames with
                prompts, and the latest ``memory_frames - 1`` tracked ones. Fewer cost less time and
                give other masks than the official predictor. Default: the model's own number, 7 in
                the official models.
            cache: folder for the lowered graphs, so that the model opens faster the next time;
                default: none.
            precision: ``exact``, or ``fast``; see :func:`.open_backend`.

        Raises:
            ModelFileError: the model cannot be used.
            InputError: the model has fewer memory frames, or there is no such backend or precision.
            MissingDependencyError: the engine is not installed.
        """
        if max_conditioning_frames < 1:
            raise PromptError(
                f"max_conditioning_frames must be at least 1, but got {max_conditioning_frames}"
            )
        self._backend = open_backend(model, backend, threads, cache=cache, precision=precision)
        self._fill_hole_area = fill_hole_area
        self._non_overlap_masks = non_overlap_masks
        self._max_conditioning = max_conditioning_frames
        self._memory_frames = memory_frames
        self._rules = rules_with_memory_frames(self.spec.rules, memory_frames)
        self._tracker: Tracker | None = None
        self.reset()

    @property
    def spec(self) -> ModelSpec:
        """Metadata of the model."""
        return self._backend.spec

    @property
    def engine(self) -> str:
        """The engine and its precision, such as ``openvino, exact``; for people to read."""
        return engine_of(self._backend)

    @property
    def object_ids(self) -> tuple[int, ...]:
        """The objects that are being tracked, in the order in which they were added."""
        return tuple(self._objects)

    @property
    def frame_index(self) -> int:
        """Number of the newest frame, from 0; -1 before the first."""
        return self._frame_index

    def __enter__(self) -> VideoSegmenter:
        """Load the model into the engine."""
        self._backend.__enter__()
        self._tracker = Tracker(
            self._backend, self._fill_hole_area, memory_frames=self._memory_frames
        )
        return self

    def __exit__(self, *error: Any) -> None:
        """Release the engine and forget all objects."""
        self._tracker = None
        self.reset()
        self._backend.__exit__(*error)

    def reset(self) -> None:
        """Forget all objects and frames, for a new stream."""
        self._objects: dict[int, _Object] = {}
        self._frame_index = -1
        self._frame_size: tuple[int, int] | None = None
        self._features: FrameFeatures | None = None

    def track(self, frame: Frame, prompts: Iterable[Prompt] = ()) -> FrameResult:
        """Take the next frame, with the prompts given on it.

        A prompt on an object starts it, or starts it anew from this frame (which then stays in
        its memory); all other objects are tracked.

        Args:
            frame: RGB, uint8 ``[height, width, 3]``; with a ``model.engine`` also an object with
                ``__cuda_array_interface__`` of that kind, or the model's normalised input, float32
                ``[1, 3, S, S]``, which never leaves the GPU.
            prompts: several prompts on one object are taken one after another.

        Returns:
            The masks of all objects on this frame.

        Raises:
            VideoError: the frame is no RGB image, or not of the first frame's shape.
            PromptError: a prompt does not fit the frame.
            EngineError: the engine failed, or the context was not entered.

        After an error the frame is not taken, and all is as it was before.
        """
        tracker, given = self._running(), received(frame, self._backend)
        return self._take(given, prompts, lambda: tracker.encode(given))

    def stream(
        self, frames: Iterable[Frame], prompts: Mapping[int, Iterable[Prompt]] | None = None
    ) -> Generator[FrameResult, None, None]:
        """Take the frames of an iterator, with the next one prepared while this one is tracked.

        The results are those of :meth:`track` for each frame, to the bit. The next frame is taken
        from ``frames``, preprocessed, and encoded in another thread; where the backend cannot run
        two components at the same time, or has one thread, it is encoded in this one. No more
        than one frame is taken ahead, which a live camera shows as one frame of delay: use
        :meth:`track` where that matters.

        Between two results :meth:`refine` and :meth:`remove` may be called. Closing the generator,
        or leaving its loop, waits for the other thread.

        Args:
            frames: RGB, uint8 ``[height, width, 3]``; is iterated over in the other thread.
            prompts: by the number of their frame, as ``FrameResult.frame_index`` counts; those of
                frames that never come are not given.

        Yields:
            The masks of all objects on each frame, in order.

        Raises:
            PromptError: a prompt does not fit its frame, or is for a frame that has passed.
            VideoError: a frame is no RGB image, or not of the first frame's shape.
            EngineError: the engine failed, or the context was not entered.

        An error ends the stream; the frame is not taken, and all is as it was before. Errors of
        ``frames`` itself are passed on.
        """
        tracker = self._running()
        given = {number: tuple(items) for number, items in (prompts or {}).items()}
        late = sorted(number for number in given if number <= self._frame_index)
        if late:
            raise PromptError(
                f"there is a prompt for frame {late[0]}, but the next frame is "
                f"{self._frame_index + 1}; use refine() for the newest one"
            )
        return self._stream(tracker, frames, given)

    def _stream(
        self, tracker: Tracker, frames: Iterable[Frame], prompts: dict[int, tuple[Prompt, ...]]
    ) -> Generator[FrameResult, None, None]:
        given = (received(frame, self._backend) for frame in frames)
        with closing(look_ahead(given, tracker.encode_ahead)) as pairs:
            for frame, encoded in pairs:
                self._running()
                now = prompts.get(self._frame_index + 1, ())
                yield self._take(frame, now, partial(_finished, encoded))

    def refine(self, prompt: Prompt) -> FrameResult:
        """Correct the newest frame, or add an object on it, without encoding it again.

        Raises:
            PromptError: no frame was given yet, or the prompt does not fit the frame.
            EngineError: the engine failed, or the context was not entered.

        After an error all is as it was before.
        """
        self._running()
        if self._frame_size is None:
            raise PromptError("there is no frame to refine yet; call track() first")
        validate_prompt(prompt, *self._frame_size)
        with self._all_or_nothing():
            self._prompt(prompt)
            self._remember([prompt.object_id])
            return self._result()

    def remove(self, object_id: int) -> None:
        """Stop tracking an object.

        Raises:
            PromptError: no such object is tracked.
        """
        self._check_tracked(object_id, "remove")
        del self._objects[object_id]

    def save_objects(
        self, path: str | os.PathLike[str], object_ids: Iterable[int] | None = None
    ) -> None:
        """Write the memories of objects to a file, for :meth:`load_objects` in another video.

        The file holds numbers alone (safetensors) and the digest of the model.

        Args:
            path: of the file, which appears when it is complete.
            object_ids: the objects; default: all that are tracked.

        Raises:
            PromptError: no object is tracked, or not one of these.
            InputError: the file cannot be written.
            EngineError: the context was not entered.
        """
        tracker, wanted = self._running(), list(self._objects if object_ids is None else object_ids)
        for object_id in wanted:
            self._check_tracked(object_id, "save")
        if not wanted:
            raise PromptError("there is no object to save; give a prompt first")
        banks = {object_id: self._objects[object_id].bank for object_id in wanted}
        write_objects(path, banks, self._frame_index, self.spec, tracker.memories)

    def load_objects(self, path: str | os.PathLike[str]) -> tuple[int, ...]:
        """Track the objects of a file from the next frame on, as if their video went on with it.

        The frames may be of another size. An object keeps its number; it is found where the model
        sees it, and absent until then.

        Returns:
            The numbers of the objects.

        Raises:
            InputError: there is no such file, it is damaged, or was written with another model.
            PromptError: an object of the same number is tracked already.
            EngineError: the context was not entered.
        """
        tracker = self._running()
        found = read_objects(path, self._frame_index, self.spec, tracker.memories)
        taken = sorted(found.keys() & self._objects.keys())
        if taken:
            raise PromptError(
                f"object {taken[0]} of {os.fspath(path)} cannot be loaded: one of this number is "
                "tracked already; remove() that one first"
            )
        self._objects |= {object_id: _Object(bank) for object_id, bank in found.items()}
        return tuple(found)

    # --------------------------------------------------------------- internal
    def _check_tracked(self, object_id: int, what: str) -> None:
        if object_id not in self._objects:
            raise PromptError(
                f"there is no object {object_id} to {what}; tracked are {list(self._objects)}"
            )

    def _running(self) -> Tracker:
        if self._tracker is None:
            raise EngineError("the segmenter is closed; use it as: with VideoSegmenter(...) as s")
        return self._tracker

    def _take(
        self, frame: Frame, prompts: Iterable[Prompt], encode: Callable[[], FrameFeatures]
    ) -> FrameResult:
        """Track the next frame, whose features ``encode`` returns."""
        prompts = tuple(prompts)
        check_frame(frame, self._frame_size)
        for prompt in prompts:
            validate_prompt(prompt, *frame.shape[:2])
        with self._all_or_nothing():
            self._features = encode()
            self._frame_size = frame.shape[:2]
            self._frame_index += 1
            for obj in self._objects.values():
                obj.points = obj.newest = None
            for prompt in prompts:
                self._prompt(prompt)
            self._track_others()
            self._remember(sorted({p.object_id for p in prompts}))
            return self._result()

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """Undo the block if it fails, so that no object is left without a memory."""
        objects = {object_id: obj.copy() for object_id, obj in self._objects.items()}
        before = objects, self._frame_index, self._frame_size, self._features
        try:
            yield
        except BaseException:
            self._objects, self._frame_index, self._frame_size, self._features = before
            raise

    def _prompt(self, prompt: Prompt) -> None:
        """Predict the prompted object on the newest frame and keep the entry as its newest."""
        obj = self._objects.get(prompt.object_id, _Object())
        if prompt.mask is not None:
            tracker, features = self._tracker, self._features
            assert tracker is not None
            assert features is not None
            obj.points = None
            mask = mask_input(prompt.mask, self.spec.image_size)
            obj.newest = tracker.predict_from_mask(features, mask)
        else:
            self._prompt_points(obj, prompt)
        self._objects[prompt.object_id] = obj

    def _prompt_points(self, obj: _Object, prompt: Prompt) -> None:
        tracker, features = self._tracker, self._features
        assert tracker is not None
        assert features is not None
        assert self._frame_size is not None
        points = point_inputs(
            list(prompt.points),
            list(prompt.labels),
            prompt.box,
            frame_size=self._frame_size,
            image_size=self.spec.image_size,
        )
        if not prompt.clear_old_points and obj.points is not None:
            points = obj.points + points
        was_tracked = self._frame_index in obj.bank.tracked
        obj.newest = tracker.predict_from_points(
            features,
            points,
            Moment(self._frame_index),
            bank=obj.bank if was_tracked else None,
            previous=None if obj.newest is None else obj.newest.mask_logits,
        )
        obj.points = points

    def _track_others(self) -> None:
        """Track every object that got no prompt on the newest frame."""
        tracker, features = self._tracker, self._features
        assert tracker is not None
        assert features is not None
        others = [obj for obj in self._objects.values() if obj.newest is None]
        if not others:
            return
        moment = Moment(self._frame_index)
        entries = tracker.track(features, [obj.bank for obj in others], moment)
        for obj, entry in zip(others, entries, strict=True):
            obj.newest = entry
            if entry.finite:
                obj.bank.tracked[self._frame_index] = entry
            obj.bank.forget(self._frame_index, self._rules, self._max_conditioning)

    def _remember(self, object_ids: Iterable[int]) -> None:
        """Encode the prompted entries and put them into their banks."""
        tracker, features = self._tracker, self._features
        assert tracker is not None
        assert features is not None
        objects = [self._objects[i] for i in object_ids]
        entries = [obj.newest for obj in objects if obj.newest is not None]
        tracker.encode_memory(features, entries, from_points=True)
        for obj, entry in zip(objects, entries, strict=True):
            corrected = self._frame_index in obj.bank.tracked
            frames = obj.bank.tracked if corrected else obj.bank.conditioning
            frames[self._frame_index] = entry
            obj.bank.forget(self._frame_index, self._rules, self._max_conditioning)

    def _result(self) -> FrameResult:
        """Return the newest masks, which are enlarged to the frame's size when they are read."""
        assert self._frame_size is not None
        # Objects that were loaded after this frame have not been looked for on it.
        shown = {i: obj.newest for i, obj in self._objects.items() if obj.newest is not None}
        results = lazy_results(
            list(shown), list(shown.values()), self._frame_size, non_overlap=self._non_overlap_masks
        )
        return FrameResult(self._frame_index, results)
