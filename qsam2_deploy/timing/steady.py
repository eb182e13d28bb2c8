"""Frames of a video whose memory slots are all filled, without tracking it from the beginning."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from ..engines.protocol import Arrays, Backend, WrappedBackend
from ..errors import InputError
from ..tracking.memory import MemoryBank, MemoryEntry
from ..tracking.resize import resize_bilinear
from ..tracking.tracker import FrameFeatures, Moment, PointInputs, Tracker

FRAME_SIZE = (540, 960)
"""Height and width of the synthetic video, in pixels."""

_KEPT_CONDITIONING = 32


@dataclass(frozen=True)
class FrameTime:
    """Seconds of one tracked frame.

    Attributes:
        components: by name, those of the engine alone.
        total: from the RGB frame to the masks at its size.
    """

    components: Mapping[str, float]
    total: float

    @property
    def rest(self) -> float:
        """Time outside of the engine: resizing, rules, memories."""
        return self.total - sum(self.components.values())


class Stopwatch(WrappedBackend):
    """A backend that measures another one, also where two components run at the same time.

    Attributes:
        seconds: by component, since it was last cleared.
    """

    def __init__(self, backend: Backend) -> None:
        """Measure ``backend``; entering this one enters it."""
        super().__init__(backend)
        self._lock = Lock()
        self.seconds: dict[str, float] = {}

    def run(self, component: str, inputs: Mapping[str, npt.NDArray[Any]]) -> Arrays:
        """Run one component and add its time to ``seconds``."""
        began = time.perf_counter()
        outputs = super().run(component, inputs)
        spent = time.perf_counter() - began
        with self._lock:
            self.seconds[component] = self.seconds.get(component, 0.0) + spent
        return outputs


class SteadyTracker:
    """Tracks objects through a synthetic video from the point on where their memories are full.

    The first frame is prompted and encoded as in any video; copies of its memory stand for the
    frames after it. So every step costs what each frame of a long video costs.
    """

    def __init__(
        self, backend: Backend, *, objects: int = 1, frame_size: tuple[int, int] = FRAME_SIZE
    ) -> None:
        """Prompt ``objects`` objects by a click each, and fill their memories.

        Args:
            backend: the engine, which must have been entered.
            objects: how many, at least 1.
            frame_size: height and width of the video in pixels.

        Raises:
            InputError: there is no object.
            EngineError: the engine failed.
        """
        if objects < 1:
            raise InputError(f"the number of objects must be at least 1, but is {objects}")
        self._stopwatch = Stopwatch(backend)
        self._tracker = Tracker(self._stopwatch)
        self._frames = synthetic_video(frame_size)
        rules = backend.spec.rules
        self._index = max(
            (rules.num_maskmem - 1) * rules.memory_temporal_stride_for_eval,
            rules.max_obj_ptrs_in_encoder - 1,
        )
        features = self._tracker.encode(self._frame())
        self._banks = [self._bank(features, place) for place in range(objects)]

    def step(self) -> FrameTime:
        """Track all objects into the next frame.

        Raises:
            EngineError: the engine failed.
        """
        self._stopwatch.seconds = {}
        self._index += 1
        frame = self._frame()
        began = time.perf_counter()
        features = self._tracker.encode(frame)
        entries = self._tracker.track(features, self._banks, Moment(self._index))
        for bank, entry in zip(self._banks, entries, strict=True):
            bank.tracked[self._index] = _usable(entry, bank)
            bank.forget(self._index, self._tracker.rules, _KEPT_CONDITIONING)
        logits = np.stack([entry.mask_logits for entry in entries])
        masks = resize_bilinear(logits, *frame.shape[:2]) > 0
        total = time.perf_counter() - began
        assert masks.shape[1:] == frame.shape[:2]
        return FrameTime(dict(self._stopwatch.seconds), total)

    def _frame(self) -> npt.NDArray[np.uint8]:
        return self._frames[self._index % len(self._frames)]

    def _bank(self, features: FrameFeatures, place: int) -> MemoryBank:
        """Return the full memory of an object that was clicked in the first frame."""
        size = self._tracker.spec.image_size
        share = (0.25 + 0.5 * ((place * 0.618) % 1), 0.25 + 0.5 * ((place * 0.382) % 1))
        points = PointInputs(np.array([share], np.float32) * size, np.ones(1, np.int32))
        entry = self._tracker.predict_from_points(features, points, Moment(0))
        self._tracker.encode_memory(features, [entry], from_points=True)
        tracked = {index: replace(entry) for index in range(1, self._index + 1)}
        return MemoryBank({0: entry}, tracked)


def _usable(entry: MemoryEntry, bank: MemoryBank) -> MemoryEntry:
    """Return ``entry``; where its numbers are not finite, the first one, so that time goes on."""
    return entry if entry.finite else replace(bank.conditioning[0])


def synthetic_video(size: tuple[int, int], count: int = 4) -> list[npt.NDArray[np.uint8]]:
    """Return RGB frames ``[height, width, 3]`` of smooth coloured patches that drift."""
    height, width = size
    colours = np.random.default_rng(0).uniform(0, 255, (3, 6, 10)).astype(np.float32)
    wide = resize_bilinear(colours, height, width + 8 * count)
    image = np.ascontiguousarray(wide.transpose(1, 2, 0)).astype(np.uint8)
    return [np.ascontiguousarray(image[:, 8 * i : 8 * i + width]) for i in range(count)]
