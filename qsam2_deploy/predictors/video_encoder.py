"""Features of the frames of a video, made when they are needed or before, in another thread."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

import numpy as np
import numpy.typing as npt

from ..tracking.tracker import FrameFeatures, Tracker
from .inference_state import InferenceState

Finish = Callable[[], FrameFeatures]
"""Returns the features of a frame that was worked on ahead."""


class VideoEncoder:
    """Decodes and encodes frames of videos, for the thread that tracks and one that is ahead."""

    def __init__(self, tracker: Tracker) -> None:
        """Encode with ``tracker``."""
        self._tracker = tracker
        self._decoding = Lock()

    def features(
        self, state: InferenceState, frame_idx: int, ahead: Finish | None = None
    ) -> FrameFeatures:
        """Return the features of a frame; ``ahead`` is what :meth:`encode_ahead` returned."""

        def encode() -> FrameFeatures:
            return self._tracker.encode(self._decoded(state, frame_idx))

        return state.features(frame_idx, ahead or encode)

    def encode_ahead(self, state: InferenceState, frame_idx: int) -> Finish | None:
        """Encode a frame in another thread; None where that seems not to be needed.

        The caller may change the state in the meantime, so this is a guess; it writes nothing.
        """
        # A list at once, for objects may be added or removed while this runs.
        tracks = list(state.objects.values())
        tracked = any(frame_idx not in track.bank.conditioning for track in tracks)
        if not tracked or state.has_features(frame_idx):
            return None
        return self._tracker.encode_ahead(self._decoded(state, frame_idx))

    def _decoded(self, state: InferenceState, frame_idx: int) -> npt.NDArray[np.uint8]:
        # A decoder serves one thread at a time.
        with self._decoding:
            return state.frames[frame_idx]
