"""One predictor on one video, driven as a user would, with a record of all results."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Point = tuple[float, float]


class Predictor(Protocol):
    """The methods of the official ``SAM2VideoPredictor`` that scenarios use."""

    def init_state(self, video_path: str) -> Any: ...
    def add_new_points_or_box(self, inference_state: Any, **prompt: Any) -> Any: ...
    def add_new_mask(self, inference_state: Any, frame_idx: int, obj_id: int, mask: Any) -> Any: ...
    def propagate_in_video(self, inference_state: Any, **span: Any) -> Iterable[Any]: ...
    def clear_all_prompts_in_frame(
        self, inference_state: Any, frame_idx: int, obj_id: int
    ) -> Any: ...
    def remove_object(self, inference_state: Any, obj_id: int) -> Any: ...
    def reset_state(self, inference_state: Any) -> None: ...


@dataclass(frozen=True)
class Step:
    """One result: ``logits`` is float32 ``[B, 1, H, W]`` at video resolution."""

    label: str
    frame: int
    object_ids: tuple[int, ...]
    logits: npt.NDArray[np.float32]


class Session:
    """One predictor on one video, with a record of everything that it returned."""

    def __init__(self, predictor: Predictor, video: Path, width: int, height: int, frames: int):
        self._predictor = predictor
        self._state = predictor.init_state(str(video))
        self._size = np.array([width, height], np.float32)
        self.width, self.height, self.frames = width, height, frames
        self.steps: list[Step] = []

    @property
    def last(self) -> int:
        """Number of the last frame."""
        return self.frames - 1

    def click(
        self,
        frame: int,
        *points: Point,
        labels: Sequence[int] | None = None,
        object_id: int = 1,
        box: tuple[float, float, float, float] | None = None,
        keep: bool = False,
        normalised: bool = False,
    ) -> None:
        """Give points (label 1 by default) and perhaps a box; ``keep`` adds to earlier points."""
        scale = np.ones(2, np.float32) if normalised else self._size
        prompt: dict[str, Any] = {"frame_idx": frame, "obj_id": object_id}
        if points:
            prompt["points"] = np.array(points, np.float32) * scale
            prompt["labels"] = np.array(labels or [1] * len(points), np.int32)
        if box is not None:
            prompt["box"] = np.array(box, np.float32) * np.tile(scale, 2)
        prompt |= {"clear_old_points": not keep, "normalize_coords": not normalised}
        self._record("prompt", self._predictor.add_new_points_or_box(self._state, **prompt))

    def mask(self, frame: int, mask: npt.NDArray[np.bool_], object_id: int = 1) -> None:
        """Give a mask ``[height, width]``."""
        self._record("mask", self._predictor.add_new_mask(self._state, frame, object_id, mask))

    def propagate(
        self, start: int | None = None, count: int | None = None, *, reverse: bool = False
    ) -> None:
        """Track from ``start`` over ``count`` more frames."""
        results = self._predictor.propagate_in_video(
            self._state, start_frame_idx=start, max_frame_num_to_track=count, reverse=reverse
        )
        for result in results:
            self._record("reverse" if reverse else "track", result)

    def clear(self, frame: int, object_id: int = 1) -> None:
        """Take back the prompts of an object on one frame."""
        result = self._predictor.clear_all_prompts_in_frame(self._state, frame, object_id)
        self._record("clear", result)

    def remove(self, object_id: int) -> None:
        """Stop tracking an object."""
        ids, updated = self._predictor.remove_object(self._state, object_id)
        for frame, logits in updated:
            self._record("remove", (frame, ids, logits))

    def reset(self) -> None:
        """Forget all objects."""
        self._predictor.reset_state(self._state)

    def ellipse(self, centre: Point, radius: float = 0.2) -> npt.NDArray[np.bool_]:
        """Return a mask of the frame's size."""
        x = (np.arange(self.width) + 0.5) / self.width - centre[0]
        y = (np.arange(self.height) + 0.5) / self.height - centre[1]
        return (x[None, :] ** 2 + y[:, None] ** 2) < radius**2

    def _record(self, label: str, result: tuple[int, Sequence[int], Any]) -> None:
        frame, ids, logits = result
        # A copy: predictors may reuse the memory of a result.
        array = np.asarray(logits, np.float32).copy()
        self.steps.append(Step(label, int(frame), tuple(int(i) for i in ids), array))
