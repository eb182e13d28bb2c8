"""The state of one video in the drop-in video predictor."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..media.protocols import IndexedFrames
from ..tracking.memory import MemoryBank, MemoryEntry
from ..tracking.tracker import FrameFeatures, PointInputs

_CACHED_FRAMES = 4


@dataclass
class ObjectTrack:
    """One object: its memory, its prompts, and outputs that are not yet part of the memory.

    Attributes:
        bank: prompted and tracked frames.
        pending: outputs of prompts since the last propagation, as a bank of its own.
        points: points by frame.
        masks: frames with a mask prompt.
        tracked_in_reverse: for each frame that was tracked, in which direction.
    """

    bank: MemoryBank = field(default_factory=MemoryBank)
    pending: MemoryBank = field(default_factory=MemoryBank)
    points: dict[int, PointInputs] = field(default_factory=dict)
    masks: set[int] = field(default_factory=set)
    tracked_in_reverse: dict[int, bool] = field(default_factory=dict)

    def entry(self, frame_index: int, *, conditioning: bool) -> MemoryEntry | None:
        """Return the output to show on a frame: pending of one kind first, then the memory."""
        pending = self.pending.conditioning if conditioning else self.pending.tracked
        return pending.get(frame_index) or self.bank.get(frame_index)


@dataclass
class InferenceState:
    """What ``init_state`` returns; scripts may read the entries that upstream's dictionary has.

    Attributes:
        frames: the video; decoded when needed.
        video_height: of the video, in pixels.
        video_width: of the video, in pixels.
        objects: by object id, in the order in which they were added.
    """

    frames: IndexedFrames
    video_height: int
    video_width: int
    objects: OrderedDict[int, ObjectTrack] = field(default_factory=OrderedDict)
    _features: OrderedDict[int, FrameFeatures] = field(default_factory=OrderedDict)

    @property
    def num_frames(self) -> int:
        """Number of frames in the video."""
        return len(self.frames)

    @property
    def obj_ids(self) -> list[int]:
        """The object ids, in the order in which they were added."""
        return list(self.objects)

    @property
    def frame_size(self) -> tuple[int, int]:
        """Height and width of the video."""
        return self.video_height, self.video_width

    def __getitem__(self, key: str) -> Any:
        """Read an attribute as upstream's dictionary: ``state["num_frames"]``."""
        if key.startswith("_") or not hasattr(self, key):
            raise KeyError(key)
        return getattr(self, key)

    def has_features(self, frame_index: int) -> bool:
        """Say whether the features of a frame are at hand."""
        return frame_index in self._features

    def features(self, frame_index: int, encode: Callable[[], FrameFeatures]) -> FrameFeatures:
        """Return the features of a frame; the last few are kept for clicks on the same frame.

        Args:
            frame_index: number of the frame.
            encode: makes them, where they are not at hand.
        """
        if frame_index not in self._features:
            self._features[frame_index] = encode()
            while len(self._features) > _CACHED_FRAMES:
                self._features.popitem(last=False)
        self._features.move_to_end(frame_index)
        return self._features[frame_index]

    def processing_order(self, start: int | None, limit: int | None, reverse: bool) -> range:
        """Return the frames that a propagation visits.

        Upstream's rules: from the first prompted frame unless told otherwise, one frame more than
        ``limit``, and none in reverse from frame 0.
        """
        if start is None:
            start = min(t for track in self.objects.values() for t in track.bank.conditioning)
        if limit is None:
            limit = self.num_frames
        if reverse:
            return range(start, max(start - limit, 0) - 1, -1) if start > 0 else range(0)
        return range(start, min(start + limit, self.num_frames - 1) + 1)

    def clear(self) -> None:
        """Forget all objects."""
        self.objects.clear()
