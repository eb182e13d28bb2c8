"""The few frames that random access keeps in memory."""

from __future__ import annotations

from collections import OrderedDict

from ..protocols import RgbImage


class FrameCache:
    """Frames by number; the least recently used one goes when there are too many."""

    def __init__(self, capacity: int) -> None:
        """Keep at most ``capacity`` frames, at least one."""
        self.capacity = max(1, capacity)
        self._frames: OrderedDict[int, RgbImage] = OrderedDict()

    def get(self, index: int) -> RgbImage | None:
        """Return frame ``index``, or None if it is not here."""
        frame = self._frames.get(index)
        if frame is not None:
            self._frames.move_to_end(index)
        return frame

    def put(self, index: int, frame: RgbImage) -> None:
        """Keep ``frame`` as number ``index``."""
        self._frames[index] = frame
        self._frames.move_to_end(index)
        while len(self._frames) > self.capacity:
            self._frames.popitem(last=False)

    def __len__(self) -> int:
        return len(self._frames)
