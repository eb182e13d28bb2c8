"""A drop-in for the camera predictor of the real-time fork of ``sam2`` that robots use.

Method names, arguments and results are those of ``sam2/sam2_camera_predictor.py`` of
Gy920/segment-anything-2-real-time. Differences, all on purpose:

- an object that a frame shows for the first time may be added while others are tracked;
- objects are tracked each by its own memory, as ``sam2`` 1.1.0 does: one that was not prompted on a
  frame with prompts for others is tracked into it, and not taken for absent;
- memory does not grow with the length of the stream.
"""

from __future__ import annotations

import os
import sys
from collections import OrderedDict
from collections.abc import Callable, Hashable
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..engines.open import open_backend
from ..engines.protocol import Backend, engine_of
from ..errors import PromptError, VideoError
from ..spec import ModelSpec
from ..tracking.enlarged_masks import enlarged_logits
from ..tracking.memory import MemoryEntry
from ..tracking.prompts import mask_input, point_inputs
from ..tracking.resize import resize_pixels_bilinear
from ..tracking.tracker import FrameFeatures, Moment, PointInputs, Tracker
from .inference_state import ObjectTrack
from .module_like import ModuleLike
from .tensor_like import as_output, on_host

Logits = npt.NDArray[np.float32]
Masks = tuple[int, list[Hashable], Logits]

_MAX_CONDITIONING = 32
"""Frames with prompts that an object keeps: its first and its latest ones."""

_KEPT_FEATURES = 4


class SAM2CameraPredictor(ModuleLike):
    """Tracks objects from one frame of a camera to the next.

    ::

        predictor.load_first_frame(frame)
        predictor.add_new_prompt(frame_idx=0, obj_id=1, points=[[320, 240]], labels=[1])
        while True:
            obj_ids, logits = predictor.track(camera.read())

    Frames are uint8 RGB ``[height, width, 3]`` or Pillow images; masks are float32 logits
    ``[objects, 1, height, width]`` at the first frame's size.

    Attributes:
        condition_state: the entries of the fork's dictionary that scripts read.
        frame_idx: number of the newest frame that was tracked.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | Backend,
        backend: str = "auto",
        *,
        threads: int | None = None,
        fill_hole_area: int = 0,
        non_overlap_masks: bool = False,
        cache: str | os.PathLike[str] | None = None,
        precision: str = "exact",
        output: str = "numpy",
    ) -> None:
        """Load ``model`` into the engine.

        Args:
            model: see :class:`~qsam2_deploy.predictors.video_predictor.SAM2VideoPredictor`, as the
                others.
            backend: likewise.
            threads: likewise.
            fill_hole_area: likewise.
            non_overlap_masks: likewise.
            cache: likewise.
            precision: likewise.
            output: likewise.

        Raises:
            InputError: no such output.
            ModelFileError: the model cannot be used.
            MissingDependencyError: the engine is not installed.
        """
        self._output = as_output(output)
        self._backend = open_backend(model, backend, threads, cache=cache, precision=precision)
        self._backend.__enter__()
        self._tracker = Tracker(self._backend, fill_hole_area)
        self.non_overlap_masks = non_overlap_masks
        self.frame_idx = 0
        self._forget_all()

    @property
    def spec(self) -> ModelSpec:
        """Metadata of the model."""
        return self._backend.spec

    @property
    def engine(self) -> str:
        """The engine and its precision, such as ``openvino, exact``; for people to read."""
        return engine_of(self._backend)

    @property
    def image_size(self) -> int:
        """Side of the model's input in pixels."""
        return self.spec.image_size

    @property
    def model(self) -> Backend:
        """The backend that runs the model, for an image predictor of the same."""
        return self._backend

    def __enter__(self) -> SAM2CameraPredictor:
        """Return the predictor, which is ready since it was made."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Release the engine."""
        self._backend.__exit__(kind, error, trace)

    # ------------------------------------------------------------------ frames
    def load_first_frame(self, img: npt.NDArray[np.uint8] | Image.Image) -> None:
        """Begin a stream with a frame, which becomes frame 0 for prompts.

        Raises:
            VideoError: it is no RGB image.
        """
        features, size = self._encode(img)
        self._forget_all()
        self._frame_size = size
        self._keep(0, features)
        self.condition_state.update(
            num_frames=1, video_height=size[0], video_width=size[1], obj_ids=[], obj_id_to_idx={},
            point_inputs_per_obj={}, tracking_has_started=False, images=[None],
        )  # fmt: skip

    def add_conditioning_frame(self, img: npt.NDArray[np.uint8] | Image.Image) -> None:
        """Add a frame for prompts: the frame ``condition_state["num_frames"] - 1``.

        Raises:
            VideoError: it is no RGB image, or there is no first frame.
        """
        self._started()
        features, _ = self._encode(img)
        images = self.condition_state["images"]
        images.append(None)
        self.condition_state["num_frames"] = len(images)
        self._keep(len(images) - 1, features)

    def track(self, img: npt.NDArray[np.uint8] | Image.Image) -> tuple[list[Hashable], Logits]:
        """Track all objects into the next frame.

        Returns:
            The ids of the objects, and their logits.

        Raises:
            VideoError: it is no RGB image, or there is no first frame.
            PromptError: no object was given.
        """
        self._started()
        features, _ = self._encode(img)
        self.propagate_in_video_preflight()
        moment = Moment(self.frame_idx + 1, self.condition_state["num_frames"] + 1)
        tracks = list(self._objects.values())
        entries = self._tracker.track(features, [track.bank for track in tracks], moment)
        self.frame_idx += 1
        self.condition_state["num_frames"] += 1
        self._keep(self.frame_idx, features)
        newest = self.spec.rules.num_maskmem
        for track, entry in zip(tracks, entries, strict=True):
            if entry.finite:
                track.bank.tracked[self.frame_idx] = entry
            for index in sorted(track.bank.tracked)[:-newest]:
                del track.bank.tracked[index]
        return self._ids(), self._enlarged(entries)

    # ----------------------------------------------------------------- prompts
    def add_new_prompt(
        self,
        frame_idx: int,
        obj_id: Hashable,
        points: npt.ArrayLike | None = None,
        labels: npt.ArrayLike | None = None,
        bbox: npt.ArrayLike | None = None,
        clear_old_points: bool = True,
        normalize_coords: bool = True,
    ) -> Masks:
        """Add points or a box on a frame, which becomes a frame with prompts for the object.

        Args:
            frame_idx: 0 for the first frame, or the number of one of
                :meth:`add_conditioning_frame`.
            obj_id: any name of the object.
            points: ``[P, 2]``, (x, y) in pixels of the frame.
            labels: ``[P]``: 1 the object is here, 0 it is not.
            bbox: four numbers of any shape, (x1, y1, x2, y2).
            clear_old_points: forget earlier points of the object on this frame.
            normalize_coords: False if the numbers are 0 to 1 already.

        Returns:
            The frame, the ids of all objects, and their logits on this frame.

        Raises:
            PromptError: the prompt does not fit, or the frame is no longer at hand.
        """
        features = self._features_of(frame_idx)
        inputs = point_inputs(
            on_host(points), on_host(labels), on_host(bbox), frame_size=self._frame_size,
            image_size=self.image_size, normalize=normalize_coords,
        )  # fmt: skip
        track = self._objects.get(obj_id, ObjectTrack())
        before = track.points.get(frame_idx)
        if before is not None and not clear_old_points:
            inputs = before + inputs
        previous = track.entry(frame_idx, conditioning=True)
        entry = self._tracker.predict_from_points(
            features, inputs, Moment(frame_idx, self.condition_state["num_frames"]),
            previous=None if previous is None else previous.mask_logits,
        )  # fmt: skip
        return self._prompted(frame_idx, obj_id, track, entry, inputs)

    def add_new_points(
        self,
        frame_idx: int,
        obj_id: Hashable,
        points: npt.ArrayLike,
        labels: npt.ArrayLike,
        clear_old_points: bool = True,
        normalize_coords: bool = True,
    ) -> Masks:
        """Add points on a frame; see :meth:`add_new_prompt`."""
        return self.add_new_prompt(
            frame_idx, obj_id, points, labels, None, clear_old_points, normalize_coords
        )

    def add_new_mask(self, frame_idx: int, obj_id: Hashable, mask: npt.ArrayLike) -> Masks:
        """Add a mask ``[height, width]`` on a frame; see :meth:`add_new_prompt`.

        Raises:
            PromptError: the mask has not two dimensions, or the frame is no longer at hand.
        """
        features = self._features_of(frame_idx)
        values = mask_input(on_host(mask), self.image_size)
        entry = self._tracker.predict_from_mask(features, values)
        track = self._objects.get(obj_id, ObjectTrack())
        return self._prompted(frame_idx, obj_id, track, entry, None)

    def add_new_prompt_during_track(
        self,
        point: npt.ArrayLike | None = None,
        bbox: npt.ArrayLike | None = None,
        mask: npt.ArrayLike | None = None,
        if_new_target: bool = True,
        obj_id: Hashable | None = None,
        labels: npt.ArrayLike | None = None,
        clear_old_points: bool = True,
    ) -> Masks:
        """Add an object on the newest frame, or prompt one that is tracked again.

        Args:
            point: ``[P, 2]`` or ``[2]``; all of the object where no labels are given.
            bbox: see :meth:`add_new_prompt`.
            mask: see :meth:`add_new_mask`.
            if_new_target: the prompt is for an object that is not tracked yet.
            obj_id: its id; default: one more than the highest for a new one, else the last.
            labels: of the points.
            clear_old_points: see :meth:`add_new_prompt`.

        Raises:
            PromptError: no prompt was given, or nothing is tracked yet.
        """
        self._started()
        if obj_id is None:
            obj_id = self._next_id() if if_new_target else self._last_id()
        newest = self.frame_idx
        if mask is not None:
            return self.add_new_mask(newest, obj_id, mask)
        if point is not None and labels is None:
            point = np.asarray(on_host(point), np.float32).reshape(-1, 2)
            labels = np.ones(len(point), np.int32)
        return self.add_new_prompt(newest, obj_id, point, labels, bbox, clear_old_points)

    def add_new_promot_during_track(
        self,
        point: npt.ArrayLike | None = None,
        bbox: npt.ArrayLike | None = None,
        mask: npt.ArrayLike | None = None,
        if_new_target: bool = True,
    ) -> None:
        """Name of :meth:`add_new_prompt_during_track` in earlier versions of the fork."""
        self.add_new_prompt_during_track(point, bbox, mask, if_new_target)

    def propagate_in_video_preflight(self) -> None:
        """Encode the prompted frames into the memories.

        Raises:
            PromptError: no object was given.
        """
        if not self._objects:
            raise PromptError(
                "no points, box or mask was given for any object; add a prompt before tracking"
            )
        for track in self._objects.values():
            for frame_idx, entry in track.pending.conditioning.items():
                if entry.memory is None:
                    features = self._features_of(frame_idx)
                    self._tracker.encode_memory(features, [entry], from_points=True)
                track.bank.conditioning[frame_idx] = entry
                track.bank.tracked.pop(frame_idx, None)
            track.pending.conditioning.clear()
            surplus = max(len(track.bank.conditioning) - _MAX_CONDITIONING, 0)
            for index in list(track.bank.conditioning)[1 : surplus + 1]:
                del track.bank.conditioning[index]
        self.condition_state["tracking_has_started"] = True

    def reset_state(self) -> None:
        """Forget all objects; the frames for prompts stay."""
        self._objects.clear()
        self.condition_state.update(
            obj_ids=[], obj_id_to_idx={}, point_inputs_per_obj={}, tracking_has_started=False
        )

    # ---------------------------------------------------------------- internal
    def _forget_all(self) -> None:
        self._objects: OrderedDict[Hashable, ObjectTrack] = OrderedDict()
        self._features: OrderedDict[int, FrameFeatures] = OrderedDict()
        self._frame_size = (0, 0)
        self.condition_state: dict[str, Any] = {}

    def _started(self) -> None:
        if not self.condition_state:
            raise VideoError("there is no first frame; call load_first_frame(frame) before")

    def _encode(self, img: Any) -> tuple[FrameFeatures, tuple[int, int]]:
        """Resize a frame as the fork does, and encode it; return its own size, too."""
        size = self.image_size
        if isinstance(img, Image.Image):
            pixels = np.asarray(img.convert("RGB"))
            return self._tracker.encode(pixels), (pixels.shape[0], pixels.shape[1])
        pixels = np.asarray(on_host(img))
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
            raise VideoError(
                "a frame must be a uint8 RGB array of shape [height, width, 3], but got "
                f"{pixels.dtype} {list(pixels.shape)}"
            )
        return self._tracker.encode(_resize()(pixels, size)), (pixels.shape[0], pixels.shape[1])

    def _keep(self, frame_idx: int, features: FrameFeatures) -> None:
        self._features[frame_idx] = features
        self._features.move_to_end(frame_idx)
        waiting = {i for track in self._objects.values() for i in track.pending.conditioning}
        for index in list(self._features)[:-_KEPT_FEATURES]:
            if index not in waiting:
                del self._features[index]

    def _features_of(self, frame_idx: int) -> FrameFeatures:
        self._started()
        if frame_idx not in self._features:
            raise PromptError(
                f"the frame {frame_idx} is not at hand: prompts go to the frames "
                f"{sorted(self._features)}; call add_conditioning_frame for another one"
            )
        return self._features[frame_idx]

    def _prompted(
        self,
        frame_idx: int,
        obj_id: Hashable,
        track: ObjectTrack,
        entry: MemoryEntry,
        points: PointInputs | None,
    ) -> Masks:
        # Only now: a prompt that failed must leave no object behind.
        self._objects[obj_id] = track
        track.points.pop(frame_idx, None)
        if points is not None:
            track.points[frame_idx] = points
        track.pending.conditioning[frame_idx] = entry
        ids = self._ids()
        self.condition_state.update(
            obj_ids=ids,
            obj_id_to_idx={name: index for index, name in enumerate(ids)},
            point_inputs_per_obj={i: t.points for i, t in enumerate(self._objects.values())},
        )
        shown = [t.entry(frame_idx, conditioning=True) for t in self._objects.values()]
        return frame_idx, ids, self._enlarged(shown)

    def _ids(self) -> list[Hashable]:
        return list(self._objects)

    def _next_id(self) -> int:
        return max((i for i in self._objects if isinstance(i, int)), default=0) + 1

    def _last_id(self) -> Hashable:
        if not self._objects:
            raise PromptError("there is no object yet; pass if_new_target=True")
        return next(reversed(self._objects))

    def _enlarged(self, entries: list[MemoryEntry | None] | list[MemoryEntry]) -> Logits:
        masks = enlarged_logits(entries, self._frame_size, non_overlap=self.non_overlap_masks)
        result: Logits = self._output(masks)
        return result


def _resize() -> Callable[[npt.NDArray[np.uint8], int], npt.NDArray[np.uint8]]:
    """Return the fork's resize: that of OpenCV if the script has it, else the same of our own."""
    cv2 = sys.modules.get("cv2")
    if cv2 is None:
        return resize_pixels_bilinear
    return lambda pixels, size: np.asarray(cv2.resize(pixels, (size, size)), np.uint8)
