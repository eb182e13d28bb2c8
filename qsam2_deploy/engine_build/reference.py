"""What the components of a model compute in single precision, on inputs as they are in a video.

An engine can be wrong for some numbers and right for others, so random inputs would say little. A
drawn scene is tracked instead, by the official rules and with the components in single precision
on ONNX Runtime: a click on the first frame, a second frame with one memory, and a third with all
memory slots and pointers filled, by entries of the second frame that were moved a little. Nothing
is random, so an engine gets the same verdict every time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..engines.protocol import Arrays
from ..engines.reference import ReferenceBackend
from ..errors import EngineError
from ..lowering import lower_to_tensorrt_reference
from ..model_file.bundle import Bundle
from ..tracking.memory import MemoryBank, MemoryEntry
from ..tracking.tracker import Moment, PointInputs, Tracker

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class Case:
    """One run of a component.

    Attributes:
        inputs: by name.
        outputs: by name, in single precision.
    """

    inputs: Arrays
    outputs: Arrays


def reference_cases(
    bundle: Bundle, precision: str, threads: int | None = None
) -> dict[str, list[Case]]:
    """Track the drawn scene and return all runs of each component; the last is the steady state.

    Args:
        bundle: of the model; its components are not changed.
        precision: of the engines that will be compared: with ``int8`` activations are rounded.
        threads: threads of ONNX Runtime.

    Raises:
        EngineError: ONNX Runtime fails, or the model itself gives numbers that are not finite.
    """
    with _Recorder(bundle, precision, threads) as recorder:
        _track(Tracker(recorder))
        return recorder.cases


def scene(size: int, shift: int) -> npt.NDArray[np.uint8]:
    """Draw a textured disc on a slanting background.

    Args:
        size: side of the picture.
        shift: how far the disc is from the middle, in pixels to the right.

    Returns:
        RGB, uint8 ``[size, size, 3]``.
    """
    y, x = np.mgrid[:size, :size].astype(np.float32) / size
    background = np.stack([0.3 + 0.4 * x, 0.6 - 0.3 * y, 0.4 + 0.2 * np.sin(12 * (x + y))], axis=-1)
    inside = (x - 0.5 - shift / size) ** 2 + (y - 0.5) ** 2 < 0.04
    texture = 0.75 + 0.2 * np.sin(60 * x) * np.cos(45 * y)
    disc = texture[..., None] * np.array([0.9, 0.5, 0.2], np.float32)
    picture = np.where(inside[..., None], disc, background)
    return np.asarray(np.rint(255 * picture), np.uint8)


class _Recorder(ReferenceBackend):
    """The reference of a model as a backend that remembers what it was given and gave."""

    def __init__(self, bundle: Bundle, precision: str, threads: int | None) -> None:
        super().__init__(bundle, threads)
        self._precision = precision
        self.cases: dict[str, list[Case]] = {name: [] for name in bundle.components}

    def _lower(self, name: str, component: onnx.ModelProto) -> None:  # noqa: ARG002 - see the base
        lower_to_tensorrt_reference(component, self._precision)

    def run(self, component: str, inputs: Mapping[str, npt.NDArray[Any]]) -> Arrays:
        given = {name: np.array(value) for name, value in inputs.items()}
        outputs = super().run(component, given)
        self.cases[component].append(Case(given, outputs))
        return outputs


def _track(tracker: Tracker) -> None:
    spec, rules = tracker.spec, tracker.rules
    size = spec.image_size
    middle = PointInputs(np.full((1, 2), size / 2, np.float32), np.ones(1, np.int32))
    features = tracker.encode(scene(size, 0))
    prompted = tracker.predict_from_points(features, middle, Moment(0))
    tracker.encode_memory(features, [prompted], from_points=True)
    features = tracker.encode(scene(size, size // 32))
    bank = MemoryBank({0: prompted})
    tracked = tracker.track(features, [bank], Moment(1))[0]
    if tracked.memory is None:
        raise EngineError(
            "the model gives numbers that are not finite in single precision, so its engines "
            "cannot be compared with anything; export it again from a sound checkpoint"
        )
    last = max(rules.num_maskmem, rules.max_obj_ptrs_in_encoder)
    bank.tracked = {index: _moved(tracked, index) for index in range(1, last)}
    tracker.track(features, [bank], Moment(last))


def _moved(entry: MemoryEntry, columns: int) -> MemoryEntry:
    assert entry.memory is not None
    return replace(
        entry,
        memory=np.roll(entry.memory, columns, axis=-1),
        pointer=entry.pointer * np.float32(1 - 0.01 * columns),
    )
