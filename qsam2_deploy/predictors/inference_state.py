"""The state of one video in the drop-in video predictor."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ..errors import PromptError
from ..media.protocols import IndexedFrames
from ..tracking.memory import MemoryBank, MemoryEntry
from ..tracking.tracker import FrameFeatures, PointInputs
from .module_like import Device

_CACHED_FRAMES = 4

_READABLE = (
    "num_frames", "video_height", "video_width", "obj_ids", "obj_id_to_idx", "obj_idx_to_id",
    "images", "device", "storage_device", "frames", "objects",
)  # fmt: skip
"""Entries of upstream's dictionary that scripts read, and two of our own."""


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
    """What ``init_state`` returns; a script may use it as the dictionary that upstream's is.

    It reads ``state["num_frames"]``, ``["obj_ids"]`` and the like, and keeps what a script writes
    into it; the entries that the predictor itself keeps cannot be replaced.

    Attributes:
        frames: the video; decoded when needed.
        video_height: of the video, in pixels.
        video_width: of the video, in pixels.
        new_bank: makes the memory of another object.
        objects: by object id, in the order in which they were added.
    """

    frames: IndexedFrames
    video_height: int
    video_width: int
    new_bank: Callable[[], MemoryBank] = MemoryBank
    objects: OrderedDict[int, ObjectTrack] = field(default_factory=OrderedDict)
    _features: OrderedDict[int, FrameFeatures] = field(default_factory=OrderedDict)
    _others: dict[str, Any] = field(default_factory=dict)

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

    @property
    def images(self) -> IndexedFrames:
        """The frames, by upstream's name."""
        return self.frames

    @property
    def obj_id_to_idx(self) -> dict[int, int]:
        """The place of each object."""
        return {obj_id: index for index, obj_id in enumerate(self.objects)}

    @property
    def obj_idx_to_id(self) -> dict[int, int]:
        """The object at each place."""
        return dict(enumerate(self.objects))

    device = storage_device = Device("cpu")

    # ---------------------------------------------------------- as a dictionary
    def __getitem__(self, key: str) -> Any:
        """Read an entry as of upstream's dictionary: ``state["num_frames"]``."""
        if key in _READABLE:
            return getattr(self, key)
        return self._others[key]

    def __setitem__(self, key: str, value: Any) -> None:
        """Keep an entry of the script's own.

        Raises:
            PromptError: it is one that the predictor keeps.
        """
        if key in _READABLE:
            raise PromptError(
                f"state[{key!r}] cannot be replaced: the predictor reads the video itself; pass "
                "its frames to init_state"
            )
        self._others[key] = value

    def __contains__(self, key: object) -> bool:
        """Say whether there is such an entry."""
        return key in _READABLE or key in self._others

    def keys(self) -> Iterator[str]:
        """Iterate over the names of the entries."""
        return iter((*_READABLE, *self._others))

    def get(self, key: str, default: Any = None) -> Any:
        """Return an entry, or ``default`` where there is none."""
        return self[key] if key in _READABLE else self._others.get(key, default)

    def pop(self, key: str, default: Any = None) -> Any:
        """Remove an entry of the script's own and return it; those of the predictor stay."""
        return self[key] if key in _READABLE else self._others.pop(key, default)

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

    def track_of(self, obj_id: int) -> ObjectTrack:
        """Return an object, or a new one that is not yet among :attr:`objects`."""
        track = self.objects.get(obj_id)
        return ObjectTrack(bank=self.new_bank()) if track is None else track

    def clear(self) -> None:
        """Forget all objects."""
        self.objects.clear()
