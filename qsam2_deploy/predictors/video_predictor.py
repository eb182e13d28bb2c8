"""A drop-in for the official ``SAM2VideoPredictor``: numpy in, numpy out, no torch.

Method names, arguments, order of results and behaviour are those of upstream
``sam2/sam2_video_predictor.py`` (package ``sam2`` 1.1.0). Differences, all on purpose:

- frames are decoded when they are needed instead of all at once;
- results are numpy arrays with the methods of tensors that scripts call (``.cpu()``, ``.permute()``
  and more), or tensors on request;
- user errors are one-sentence exceptions instead of asserts;
- ``clear_non_cond_mem_around_input`` works (upstream 1.1.0 calls a method that does not exist).
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Generator, Iterator, MutableMapping, Sequence
from contextlib import closing
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from .._common.progress import progress
from ..engines.open import open_backend
from ..engines.protocol import Backend, engine_of
from ..errors import PromptError
from ..media.protocols import IndexedFrames
from ..media.reading.arrays import ArrayFrames
from ..media.reading.sources import open_indexed
from ..spec import ModelSpec
from ..tracking.enlarged_masks import enlarged_logits
from ..tracking.memory import MemoryEntry
from ..tracking.postprocess import non_overlapping
from ..tracking.prompts import mask_input, point_inputs
from ..tracking.tracker import Moment, PointInputs, Tracker, rules_with_memory_frames
from .inference_state import InferenceState, ObjectTrack
from .look_ahead import look_ahead
from .module_like import ModuleLike
from .pretrained import FromPretrained
from .tensor_like import as_output, on_host
from .video_encoder import Finish, VideoEncoder

Logits = npt.NDArray[np.float32]
Masks = tuple[int, list[int], Logits]


class SAM2VideoPredictor(FromPretrained, ModuleLike):
    """Segments objects in a video from prompts on any frames, as the official predictor does.

    All masks are float32 logits ``[objects, 1, height, width]`` at the video's size.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | Backend,
        backend: str = "auto",
        *,
        threads: int | None = None,
        fill_hole_area: int = 0,
        non_overlap_masks: bool = False,
        clear_non_cond_mem_around_input: bool = False,
        add_all_frames_to_correct_as_cond: bool = False,
        show_progress: bool | None = None,
        memory_frames: int | None = None,
        cache: str | os.PathLike[str] | None = None,
        precision: str = "exact",
        output: str = "numpy",
    ) -> None:
        """Load ``model`` into the engine.

        Args:
            model: a ``model.onnx``, or a backend of one's own.
            backend: ``auto``, ``ort`` or ``openvino``.
            threads: threads of the engine; default: one for each core that may be used.
            fill_hole_area: holes of at most so many low-resolution pixels are filled (upstream
                does so, with 8, only where its CUDA extension is compiled).
            non_overlap_masks: a pixel belongs to the object of the highest logit alone.
            clear_non_cond_mem_around_input: forget tracked frames around frames with prompts.
            add_all_frames_to_correct_as_cond: frames that are corrected after they were tracked
                become conditioning frames.
            show_progress: show a progress bar while propagating; default: on a terminal.
            memory_frames: how many memories an object attends to on a frame, where fewer than the
                model's own number cost less time and give other masks; see
                :func:`~qsam2_deploy.tracking.tracker.rules_with_memory_frames`.
            cache: folder for the lowered graphs, so that the model opens faster the next time.
            precision: ``exact``, or ``fast``; see :func:`.open_backend`.
            output: ``numpy``, or ``torch`` for tensors on the CPU in the same memory, once the
                script has imported torch.

        Raises:
            InputError: the model has fewer memory frames, or there is no such output.
            ModelFileError: the model cannot be used.
            MissingDependencyError: the engine is not installed.
        """
        self._output = as_output(output)
        self._backend = open_backend(model, backend, threads, cache=cache, precision=precision)
        rules_with_memory_frames(self._backend.spec.rules, memory_frames)
        self._backend.__enter__()
        self._tracker = Tracker(self._backend, fill_hole_area, memory_frames=memory_frames)
        self._encoder = VideoEncoder(self._tracker)
        self.fill_hole_area = fill_hole_area
        self.non_overlap_masks = non_overlap_masks
        self.clear_non_cond_mem_around_input = clear_non_cond_mem_around_input
        self.add_all_frames_to_correct_as_cond = add_all_frames_to_correct_as_cond
        self._show_progress = show_progress

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
    def num_maskmem(self) -> int:
        """How many memories an object attends to on a frame."""
        return self._tracker.rules.num_maskmem

    @property
    def model(self) -> Backend:
        """The backend that runs the model, for an image predictor of the same."""
        return self._backend

    def __enter__(self) -> SAM2VideoPredictor:
        """Return the predictor, which is ready since it was made."""
        return self

    def __exit__(self, *error: Any) -> None:
        """Release the engine."""
        self._backend.__exit__(*error)

    # ------------------------------------------------------------------ state
    def init_state(
        self,
        video_path: str | os.PathLike[str] | Sequence[Any],
        offload_video_to_cpu: bool = False,  # noqa: ARG002
        offload_state_to_cpu: bool = False,  # noqa: ARG002
        async_loading_frames: bool = False,  # noqa: ARG002
        *,
        ignore_orientation: bool = True,
    ) -> InferenceState:
        """Open a video file, a folder of images, a pattern, or frames in memory.

        Args:
            video_path: a path, a pattern such as ``frames/*.png``, or a list of uint8 RGB arrays
                ``[height, width, 3]`` (or one array of them all), which upstream does not take.
            offload_video_to_cpu: accepted for compatibility; frames are decoded when needed.
            offload_state_to_cpu: likewise.
            async_loading_frames: likewise.
            ignore_orientation: leave images as they are stored, as upstream does; with False
                they are turned as their EXIF orientation says.

        Raises:
            VideoError: the video cannot be read.
        """
        frames = _open(video_path, ignore_orientation)
        height, width = frames[0].shape[:2]
        return InferenceState(frames, height, width, self._tracker.banks_for_a_video())

    def reset_state(self, inference_state: InferenceState) -> None:
        """Forget all objects and prompts."""
        inference_state.clear()

    # ---------------------------------------------------------------- prompts
    def add_new_points_or_box(
        self,
        inference_state: InferenceState,
        frame_idx: int,
        obj_id: int,
        points: npt.ArrayLike | None = None,
        labels: npt.ArrayLike | None = None,
        clear_old_points: bool = True,
        normalize_coords: bool = True,
        box: npt.ArrayLike | None = None,
    ) -> Masks:
        """Add points or a box on a frame; see upstream.

        Returns:
            The frame, the object ids, and the masks of all objects on the frame.

        Raises:
            PromptError: the prompt does not fit.
        """
        self._check_frame(inference_state, frame_idx)
        if box is not None and not clear_old_points:
            raise PromptError(
                "cannot add a box without clearing old points, since a box must come before any "
                "point; use clear_old_points=True"
            )
        inputs = point_inputs(
            on_host(points),
            on_host(labels),
            on_host(box),
            frame_size=inference_state.frame_size,
            image_size=self.image_size,
            normalize=normalize_coords,
        )
        track = inference_state.track_of(obj_id)
        if not clear_old_points and frame_idx in track.points:
            inputs = track.points[frame_idx] + inputs
        conditioning = self._is_conditioning(track, frame_idx)
        entry = self._predict_points(inference_state, track, frame_idx, inputs, conditioning)
        # Only now: a prompt that failed must leave no object, and no points, behind.
        inference_state.objects[obj_id] = track
        track.points[frame_idx] = inputs
        track.masks.discard(frame_idx)
        self._pending(track, conditioning)[frame_idx] = entry
        masks = self._consolidated(inference_state, frame_idx, conditioning)
        return frame_idx, inference_state.obj_ids, masks

    def add_new_points(self, *args: Any, **kwargs: Any) -> Masks:
        """Old name of :meth:`add_new_points_or_box`."""
        return self.add_new_points_or_box(*args, **kwargs)

    def add_new_mask(
        self, inference_state: InferenceState, frame_idx: int, obj_id: int, mask: npt.ArrayLike
    ) -> Masks:
        """Add a mask ``[height, width]`` on a frame; see upstream.

        Raises:
            PromptError: the mask does not have two dimensions, or there is no such frame.
        """
        self._check_frame(inference_state, frame_idx)
        values = mask_input(on_host(mask), self.image_size)
        features = self._encoder.features(inference_state, frame_idx)
        entry = self._tracker.predict_from_mask(features, values)
        track = inference_state.objects.setdefault(obj_id, inference_state.track_of(obj_id))
        track.masks.add(frame_idx)
        track.points.pop(frame_idx, None)
        conditioning = self._is_conditioning(track, frame_idx)
        self._pending(track, conditioning)[frame_idx] = entry
        masks = self._consolidated(inference_state, frame_idx, conditioning)
        return frame_idx, inference_state.obj_ids, masks

    def clear_all_prompts_in_frame(
        self, inference_state: InferenceState, frame_idx: int, obj_id: int, need_output: bool = True
    ) -> Masks | None:
        """Remove all prompts of an object on a frame; see upstream."""
        track = inference_state.objects.setdefault(obj_id, inference_state.track_of(obj_id))
        track.points.pop(frame_idx, None)
        track.masks.discard(frame_idx)
        track.pending.conditioning.pop(frame_idx, None)
        track.pending.tracked.pop(frame_idx, None)
        entry = track.bank.conditioning.pop(frame_idx, None)
        if entry is not None:
            track.bank.tracked[frame_idx] = entry
            track.tracked_in_reverse.pop(frame_idx, None)
        if not need_output:
            return None
        return frame_idx, inference_state.obj_ids, self._shown(inference_state, frame_idx)

    def remove_object(
        self,
        inference_state: InferenceState,
        obj_id: int,
        strict: bool = False,
        need_output: bool = True,
    ) -> tuple[list[int], list[tuple[int, Logits]]]:
        """Stop tracking an object; see upstream.

        Returns:
            The remaining object ids, and the masks on frames where the object had prompts.

        Raises:
            PromptError: no such object, and ``strict``.
        """
        if obj_id not in inference_state.objects:
            if not strict:
                return inference_state.obj_ids, []
            raise PromptError(
                f"cannot remove object {obj_id}: it does not exist; "
                f"the object ids are {inference_state.obj_ids}"
            )
        removed = inference_state.objects.pop(obj_id)
        if not need_output or not inference_state.objects:
            return inference_state.obj_ids, []
        frames = sorted(set(removed.points) | removed.masks)
        shown = [(i, self._shown(inference_state, i)) for i in frames]
        return inference_state.obj_ids, shown

    # ------------------------------------------------------------ propagation
    def propagate_in_video_preflight(self, inference_state: InferenceState) -> None:
        """Encode the prompted frames into the memories; see upstream.

        Raises:
            PromptError: there is no object, or one without prompts.
        """
        if not inference_state.objects:
            raise PromptError(
                "no points, box or mask was given for any object; add a prompt before propagating"
            )
        for obj_id, track in inference_state.objects.items():
            for kind in (False, True):
                self._commit(inference_state, track, conditioning=kind)
            if not track.bank.conditioning:
                raise PromptError(
                    f"no points, box or mask was given for object {obj_id}; add a prompt before "
                    "propagating"
                )
            for frame_idx in track.bank.conditioning:
                track.bank.tracked.pop(frame_idx, None)

    def propagate_in_video(
        self,
        inference_state: InferenceState,
        start_frame_idx: int | None = None,
        max_frame_num_to_track: int | None = None,
        reverse: bool = False,
    ) -> Generator[Masks, None, None]:
        """Track all objects through the video; see upstream.

        The next frame is decoded, preprocessed and encoded in another thread while this one is
        tracked; where the backend cannot run two components at the same time, or has one thread,
        it is encoded in this one. Closing the generator, or leaving its loop, waits for the other
        thread.

        Yields:
            Frame, object ids and masks, frame by frame.

        Raises:
            PromptError: there is no object, or one without prompts, or no such start frame.
        """
        # Forwards, a start after the end tracks nothing, as upstream.
        if start_frame_idx is not None and (reverse or start_frame_idx < 0):
            self._check_frame(inference_state, start_frame_idx)
        self.propagate_in_video_preflight(inference_state)
        order = inference_state.processing_order(start_frame_idx, max_frame_num_to_track, reverse)
        encode_ahead = partial(self._encoder.encode_ahead, inference_state)
        with closing(look_ahead(order, encode_ahead)) as pairs:
            frames = progress(
                pairs,
                "propagate in video",
                total=len(order),
                unit="frame",
                enabled=self._show_progress,
            )
            for frame_idx, encoded in frames:
                entries = self._track_frame(inference_state, frame_idx, reverse, encoded.result)
                masks = self._enlarged(inference_state, entries)
                yield frame_idx, inference_state.obj_ids, masks

    def _track_frame(
        self,
        state: InferenceState,
        frame_idx: int,
        reverse: bool,
        ahead: Callable[[], Finish | None],
    ) -> list[MemoryEntry]:
        """Track every object into a frame, but for those that have prompts there.

        ``ahead`` waits for the other thread, and returns what it has made of the frame.
        """
        tracks = list(state.objects.values())
        open_tracks = []
        for track in tracks:
            if frame_idx not in track.bank.conditioning:
                open_tracks.append(track)
            elif self.clear_non_cond_mem_around_input:
                self._clear_around(track, frame_idx)
        fresh: Iterator[MemoryEntry] = iter(())
        if open_tracks:
            moment = Moment(frame_idx, state.num_frames, reverse)
            banks = [track.bank for track in open_tracks]
            features = self._encoder.features(state, frame_idx, ahead())
            fresh = iter(self._tracker.track(features, banks, moment))
        entries = []
        for track in tracks:
            entry = track.bank.conditioning.get(frame_idx)
            if entry is None:
                entry = next(fresh)
                if entry.finite:
                    track.bank.tracked[frame_idx] = entry
            track.tracked_in_reverse[frame_idx] = reverse
            entries.append(entry)
        return entries

    # --------------------------------------------------------------- internal
    def _check_frame(self, state: InferenceState, frame_idx: int) -> None:
        if not 0 <= frame_idx < state.num_frames:
            raise PromptError(
                f"there is no frame {frame_idx}: the video has {state.num_frames} frames, "
                f"numbered from 0 to {state.num_frames - 1}"
            )

    def _is_conditioning(self, track: ObjectTrack, frame_idx: int) -> bool:
        initial = frame_idx not in track.tracked_in_reverse
        return initial or self.add_all_frames_to_correct_as_cond

    @staticmethod
    def _pending(track: ObjectTrack, conditioning: bool) -> MutableMapping[int, MemoryEntry]:
        return track.pending.conditioning if conditioning else track.pending.tracked

    def _predict_points(
        self,
        state: InferenceState,
        track: ObjectTrack,
        frame_idx: int,
        inputs: PointInputs,
        conditioning: bool,
    ) -> MemoryEntry:
        """A first prompt sees the frame alone; a correction sees the memory as well."""
        previous = track.entry(frame_idx, conditioning=conditioning)
        reverse = track.tracked_in_reverse.get(frame_idx)
        return self._tracker.predict_from_points(
            self._encoder.features(state, frame_idx),
            inputs,
            Moment(frame_idx, state.num_frames, bool(reverse)),
            bank=None if reverse is None else track.bank,
            previous=None if previous is None else previous.mask_logits,
        )

    def _commit(self, state: InferenceState, track: ObjectTrack, *, conditioning: bool) -> None:
        """Move pending outputs into the memory, with their memory features."""
        pending = self._pending(track, conditioning)
        frames = track.bank.conditioning if conditioning else track.bank.tracked
        for frame_idx, entry in pending.items():
            if entry.memory is None:
                features = self._encoder.features(state, frame_idx)
                self._tracker.encode_memory(features, [entry], from_points=True)
            frames[frame_idx] = entry
            if self.clear_non_cond_mem_around_input:
                self._clear_around(track, frame_idx)
        pending.clear()

    def _clear_around(self, track: ObjectTrack, frame_idx: int) -> None:
        rules = self._tracker.rules
        reach = rules.memory_temporal_stride_for_eval * rules.num_maskmem
        for index in range(frame_idx - reach, frame_idx + reach + 1):
            track.bank.tracked.pop(index, None)

    def _shown(self, state: InferenceState, frame_idx: int) -> Logits:
        """Return what a frame shows after prompts were removed from it."""
        tracks = state.objects.values()
        conditioning = any(frame_idx in t.pending.conditioning for t in tracks)
        return self._consolidated(state, frame_idx, conditioning)

    def _consolidated(self, state: InferenceState, frame_idx: int, conditioning: bool) -> Logits:
        """Masks of all objects on a frame; absent where an object has none there."""
        entries = [t.entry(frame_idx, conditioning=conditioning) for t in state.objects.values()]
        return self._enlarged(state, entries)

    def _enlarged(
        self, state: InferenceState, entries: list[MemoryEntry | None] | list[MemoryEntry]
    ) -> Logits:
        masks = enlarged_logits(entries, state.frame_size, non_overlap=self.non_overlap_masks)
        result: Logits = self._output(masks)
        return result

    def _apply_non_overlapping_constraints(self, pred_masks: npt.ArrayLike) -> Logits:
        """Give each pixel to one object, as scripts of upstream ask for.

        Args:
            pred_masks: logits ``[objects, 1, height, width]``.
        """
        masks: Logits = self._output(non_overlapping(np.array(on_host(pred_masks), np.float32)))
        return masks


def _open(video: str | os.PathLike[str] | Sequence[Any], ignore_orientation: bool) -> IndexedFrames:
    """Open frames as upstream does: JPEG files where there are any, as they are stored."""
    if not isinstance(video, (str, os.PathLike)):
        return ArrayFrames(video)
    frames = open_indexed(video, ignore_orientation=ignore_orientation, official=True)
    if frames.warning is not None:
        warnings.warn(frames.warning, stacklevel=3)
    return frames
