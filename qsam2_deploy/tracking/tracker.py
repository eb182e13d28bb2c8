"""One frame at a time: prompts and memories in, masks and new memories out.

This is upstream's ``SAM2Base.track_step`` and ``SAM2VideoPredictor._run_single_frame_inference``
without their state: features, banks and prompts are handed in, entries are handed out.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from ..engines.protocol import Arrays, Backend, DeviceImage, runs_concurrently
from ..errors import EngineError, InputError
from ..spec import (
    IMAGE_ENCODER,
    MASK_DECODER,
    MEMORY_ATTENTION,
    MEMORY_ENCODER,
    NO_OBJ_SCORE,
    TrackingRules,
)
from .memory import (
    HostMemories,
    MemoryBank,
    MemoryEntry,
    MemorySelection,
    MemoryStore,
    select_memories,
    stack_memories,
)
from .postprocess import fill_holes, select_mask
from .preprocess import preprocess_frame
from .resize import resize_bilinear_antialias
from .spill_file import SpillFile
from .spilled_frames import SpilledFrames, frames_in_reach

FloatArray = npt.NDArray[np.float32]

_PREVIOUS_LOGITS_LIMIT = 32.0
_MASK_PROMPT_SCALE, _MASK_PROMPT_BIAS = 20.0, -10.0
_PROMPT_NOT_FINITE = (
    "the model returned numbers that are not finite for this prompt; check the checkpoint, or "
    "export it in float"
)


@dataclass(frozen=True)
class FrameFeatures:
    """The image encoder's outputs for one frame; see ``spec.component``.

    A backend may give tensors of its own instead of arrays; numpy converts those.
    """

    features: FloatArray
    high_res_0: FloatArray
    high_res_1: FloatArray


@dataclass(frozen=True)
class PointInputs:
    """Points in pixels of the model's input.

    Attributes:
        coords: float32 ``[P, 2]``.
        labels: int32 ``[P]``: 1 and 0 for clicks, 2 and 3 for the corners of a box.
    """

    coords: FloatArray
    labels: npt.NDArray[np.int32]

    def __add__(self, other: PointInputs) -> PointInputs:
        """Return the points of both, these first."""
        return PointInputs(
            np.concatenate([self.coords, other.coords]), np.concatenate([self.labels, other.labels])
        )


@dataclass(frozen=True)
class Moment:
    """Where in the video a prediction is made.

    Attributes:
        frame_index: number of the frame.
        num_frames: length of the video; None for a stream.
        reverse: tracking towards earlier frames.
    """

    frame_index: int
    num_frames: int | None = None
    reverse: bool = False


def rules_with_memory_frames(rules: TrackingRules, memory_frames: int | None) -> TrackingRules:
    """Return the rules of the same model with fewer memory frames.

    They are those of an upstream model with ``num_maskmem = memory_frames``: all conditioning
    frames that the rules allow come first, then the ``memory_frames - 1`` latest tracked ones; with
    1 there are conditioning frames alone. Each keeps the temporal code that it was trained with:
    row ``k - 1`` of the table for the memory that is ``k`` back, and the last row for conditioning
    frames. Object pointers are not affected.

    Args:
        rules: of the model.
        memory_frames: from 1 to the model's own ``num_maskmem``; None for that.

    Raises:
        InputError: it is out of range.
    """
    if memory_frames is None:
        return rules
    if not 1 <= memory_frames <= rules.num_maskmem:
        raise InputError(
            f"memory_frames must be from 1 to {rules.num_maskmem}, which the model has, but got "
            f"{memory_frames}"
        )
    return replace(rules, num_maskmem=memory_frames)


class Tracker:
    """Runs the four components by the official rules; holds no state but the backend."""

    def __init__(
        self, backend: Backend, fill_hole_area: int = 0, *, memory_frames: int | None = None
    ) -> None:
        """Use ``backend``, which must have been entered.

        Args:
            backend: the engine.
            fill_hole_area: holes of at most so many low-resolution pixels are filled. The official
                predictor does this (with 8) only where its CUDA extension is compiled.
            memory_frames: as many memories as a model of this ``num_maskmem`` would attend to; see
                :func:`rules_with_memory_frames`. Default: the model's own number.

        Raises:
            InputError: the model has fewer memory frames.
        """
        self.backend = backend
        self.spec = backend.spec
        self.rules = rules_with_memory_frames(backend.spec.rules, memory_frames)
        self.fill_hole_area = fill_hole_area
        self._concurrent = runs_concurrently(backend)
        self._encoding = Lock()
        self._memories: MemoryStore = getattr(backend, "memories", None) or HostMemories()

    @property
    def memories(self) -> MemoryStore:
        """What keeps memory features: the backend, or host memory."""
        return self._memories

    def banks_for_a_video(self) -> Callable[[], MemoryBank]:
        """Return what makes the memories of the objects of one video, of any length.

        What the next frame cannot attend to waits on disk.
        """
        file, in_reach = SpillFile(), frames_in_reach(self.rules)
        return lambda: MemoryBank(tracked=SpilledFrames(file, self._memories, in_reach))

    # ---------------------------------------------------------------- encoder
    def encode(self, frame: npt.NDArray[np.uint8] | DeviceImage) -> FrameFeatures:
        """Encode one RGB frame, uint8 ``[height, width, 3]``, or one that is prepared already."""
        return self._encode(self._image(frame))

    def encode_ahead(
        self, frame: npt.NDArray[np.uint8] | DeviceImage
    ) -> Callable[[], FrameFeatures]:
        """Do what can be done of :meth:`encode` in another thread than that which tracks.

        That is all of it where the backend runs two components at the same time, and else the
        preprocessing. Nothing of ``frame`` is kept.

        Returns:
            What does the rest in the thread that tracks, and returns the features.
        """
        image = self._image(frame)
        if not self._concurrent:
            return lambda: self._encode(image)
        features = self._encode(image)
        return lambda: features

    def _image(self, frame: npt.NDArray[np.uint8] | DeviceImage) -> Any:
        """Return the input of the image encoder."""
        if isinstance(frame, DeviceImage):
            return frame.tensor
        return preprocess_frame(frame, self.spec)

    def _encode(self, image: Any) -> FrameFeatures:
        # A component is never run twice at the same time, which not every engine can.
        with self._encoding:
            outputs = self.backend.run(IMAGE_ENCODER, {"image": image})
        return FrameFeatures(**outputs)

    # ---------------------------------------------------------------- prompts
    def predict_from_points(
        self,
        features: FrameFeatures,
        points: PointInputs,
        moment: Moment,
        *,
        bank: MemoryBank | None = None,
        previous: FloatArray | None = None,
    ) -> MemoryEntry:
        """Segment an object from points.

        Args:
            features: of the frame.
            points: at least one point.
            moment: where in the video.
            bank: the object's memory where the frame was tracked before (a correction); None for
                a first prompt, which looks at this frame alone.
            previous: earlier logits ``[S / 4, S / 4]`` of the frame, to be corrected.

        Raises:
            EngineError: the model returned numbers that are not finite.
        """
        if bank is None:
            conditioned = self._without_memory(features)
        else:
            selection = self._select(bank, moment)
            conditioned = self._with_memory(features, [selection])
        outputs = self._decode(features, conditioned, points, previous)
        multimask = self._use_multimask(bank is None, len(points.labels))
        entry = self._entry(outputs, 0, multimask)
        if not entry.finite:
            raise EngineError(_PROMPT_NOT_FINITE)
        return self._filled(entry)

    def predict_from_mask(self, features: FrameFeatures, mask: FloatArray) -> MemoryEntry:
        """Take a mask as it is; the decoder only makes an object pointer from it.

        Follows upstream ``SAM2Base._use_mask_as_output``.

        Args:
            features: of the frame.
            mask: float32 ``[S, S]`` of zeros and ones.

        Raises:
            EngineError: the model returned numbers that are not finite.
        """
        logits = mask * np.float32(_MASK_PROMPT_SCALE) + np.float32(_MASK_PROMPT_BIAS)
        size = self.spec.mask_size
        low_res = resize_bilinear_antialias(logits, size, size)
        prompt = self._downsample_mask(mask)
        outputs = self._decode(features, features.features, None, prompt, clip=False)
        pointer = outputs["pointers"][0, 0]
        if not np.isfinite(pointer).all():
            raise EngineError(_PROMPT_NOT_FINITE)
        visible = np.float32(bool((mask > 0).any()))
        if self.rules.fixed_no_obj_ptr:
            pointer = visible * pointer
        pointer = pointer + (1 - visible) * self.spec.constants["no_obj_ptr"]
        score = float(_MASK_PROMPT_SCALE * visible + _MASK_PROMPT_BIAS)
        return self._filled(MemoryEntry(low_res, pointer, score))

    def _downsample_mask(self, mask: FloatArray) -> FloatArray:
        """Upstream's ``mask_downsample``, a 4x4 convolution of stride 4."""
        size = self.spec.mask_size
        weight = self.spec.constants["mask_downsample_weight"]
        blocks = mask.reshape(size, 4, size, 4)
        summed = np.einsum("aibj,ij->ab", blocks, weight, optimize=False)
        result: FloatArray = summed + self.spec.constants["mask_downsample_bias"]
        return result

    # --------------------------------------------------------------- tracking
    def track(
        self, features: FrameFeatures, banks: Sequence[MemoryBank], moment: Moment
    ) -> list[MemoryEntry]:
        """Track objects into a frame; objects with equal memories run as one batch.

        Numbers that are not finite give an absent object whose entry has ``finite = False``; the
        memory encoder does not run for it, and it must not be stored.

        Returns:
            One entry per bank, memory features included.
        """
        selections = [self._select(bank, moment) for bank in banks]
        groups: dict[Any, list[int]] = {}
        for i, selection in enumerate(selections):
            groups.setdefault(selection.signature, []).append(i)
        multimask = self._use_multimask(False, 0)
        entries: dict[int, MemoryEntry] = {}
        for members in groups.values():
            conditioned = self._with_memory(features, [selections[i] for i in members])
            outputs = self._decode(features, conditioned, None, None)
            for row, i in enumerate(members):
                entries[i] = self._entry(outputs, row, multimask)
        result = [entries[i] for i in range(len(banks))]
        if not all(entry.finite for entry in result):
            _warn_not_finite()
        # Upstream remembers the mask as predicted and fills holes for the output only.
        self.encode_memory(features, [e for e in result if e.finite], from_points=False)
        return [self._filled(entry) for entry in result]

    def encode_memory(
        self, features: FrameFeatures, entries: Sequence[MemoryEntry], *, from_points: bool
    ) -> None:
        """Run the memory encoder on ``entries`` and fill in their memory features.

        Args:
            features: of the frame.
            entries: of several objects on that frame.
            from_points: the masks came from the user, so they are made hard choices.

        Raises:
            EngineError: the memory of a prompt is not finite; that of a tracked frame only gives
                ``finite = False``, for there the object can be left out.
        """
        if not entries:
            return
        binarise = from_points and self.rules.binarize_mask_from_pts_for_mem_enc
        outputs = self.backend.run(
            MEMORY_ENCODER,
            {
                "features": features.features,
                "mask_logits": np.stack([e.mask_logits for e in entries])[:, None],
                "from_points": np.full(len(entries), binarise),
                "object_score": np.asarray([[e.object_score] for e in entries], np.float32),
            },
        )
        for entry, memory in zip(entries, self._memories.keep(outputs), strict=True):
            if memory is None:
                if from_points:
                    raise EngineError(_PROMPT_NOT_FINITE)
                _warn_not_finite()
                entry.finite = False
                continue
            entry.memory = memory

    # ------------------------------------------------------------- components
    def _select(self, bank: MemoryBank, moment: Moment) -> MemorySelection:
        return select_memories(
            bank,
            moment.frame_index,
            self.rules,
            conditioning_tpos=self.spec.rules.num_maskmem - 1,
            reverse=moment.reverse,
            num_frames=moment.num_frames,
        )

    def _without_memory(self, features: FrameFeatures) -> FloatArray:
        embedding = self.spec.constants["no_mem_embed"]
        return features.features + embedding[None, :, None, None]

    def _with_memory(
        self, features: FrameFeatures, selections: list[MemorySelection]
    ) -> npt.NDArray[Any]:
        stacked = stack_memories(selections, self.spec.d_model, self._memories)
        inputs = {"features": features.features, **stacked}
        return self.backend.run(MEMORY_ATTENTION, inputs)["conditioned"]

    def _decode(
        self,
        features: FrameFeatures,
        conditioned: npt.NDArray[Any],
        points: PointInputs | None,
        mask: FloatArray | None,
        *,
        clip: bool = True,
    ) -> Arrays:
        """Run the decoder; upstream's padding point is appended here."""
        batch, size = conditioned.shape[0], self.spec.mask_size
        if points is None:
            points = PointInputs(np.zeros((1, 2), np.float32), np.array([-1], np.int32))
        padding = PointInputs(np.zeros((1, 2), np.float32), np.array([-1], np.int32))
        points = points + padding
        prompt = np.zeros((batch, 1, size, size), np.float32)
        if mask is not None:
            limit = _PREVIOUS_LOGITS_LIMIT if clip else np.inf
            prompt[:] = np.clip(mask, -limit, limit)
        return self.backend.run(
            MASK_DECODER,
            {
                "conditioned": conditioned,
                "high_res_0": features.high_res_0,
                "high_res_1": features.high_res_1,
                "point_coords": np.tile(points.coords[None], (batch, 1, 1)),
                "point_labels": np.tile(points.labels[None], (batch, 1)),
                "mask_input": prompt,
                "has_mask": np.full(batch, mask is not None),
            },
        )

    def _use_multimask(self, initial: bool, num_points: int) -> bool:
        """Whether the three masks for ambiguous prompts compete (upstream ``_use_multimask``)."""
        rules = self.rules
        return (
            rules.multimask_output_in_sam
            and (initial or rules.multimask_output_for_tracking)
            and rules.multimask_min_pt_num <= num_points <= rules.multimask_max_pt_num
        )

    def _entry(self, outputs: Arrays, row: int, multimask: bool) -> MemoryEntry:
        score = float(outputs["object_score"][row, 0])
        mask, iou, pointer = select_mask(
            outputs["mask_logits"][row],
            outputs["ious"][row],
            outputs["pointers"][row],
            score,
            multimask=multimask,
            rules=self.rules,
        )
        if np.isfinite([score, iou]).all() and all(np.isfinite(x).all() for x in (mask, pointer)):
            return MemoryEntry(mask.copy(), pointer.copy(), score)
        absent = np.full_like(mask, NO_OBJ_SCORE)
        pointer = self.spec.constants["no_obj_ptr"].copy()
        return MemoryEntry(absent, pointer, NO_OBJ_SCORE, finite=False)

    def _filled(self, entry: MemoryEntry) -> MemoryEntry:
        if self.fill_hole_area > 0:
            entry.mask_logits = fill_holes(entry.mask_logits, self.fill_hole_area)
        return entry


def _warn_not_finite() -> None:
    warnings.warn(
        "the model returned numbers that are not finite; the frame is left out of the memory",
        RuntimeWarning,
        stacklevel=3,
    )
