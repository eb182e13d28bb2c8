"""The tracked frames of one object in a video of any length: the latest in memory, all on disk."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, MutableMapping
from typing import Any

import numpy.typing as npt

from ..spec import TrackingRules
from .memory import MemoryEntry, MemoryStore
from .spill_file import Record, SpillFile

_MARGIN = 4


def frames_in_reach(rules: TrackingRules) -> int:
    """Return how many of the latest frames can be attended to by the next one."""
    memories = rules.num_maskmem * rules.memory_temporal_stride_for_eval
    return max(memories, rules.max_obj_ptrs_in_encoder) + _MARGIN


class SpilledFrames(MutableMapping[int, MemoryEntry]):
    """Entries by frame number, of which those used last are in memory and the others on disk.

    What is read back is equal to what was put in, to the bit.
    """

    def __init__(self, file: SpillFile, store: MemoryStore, in_memory: int) -> None:
        """Begin with no frame.

        Args:
            file: where entries wait.
            store: which keeps their memory features.
            in_memory: how many entries to keep in memory.
        """
        self._file, self._store, self._in_memory = file, store, in_memory
        self._recent: OrderedDict[int, MemoryEntry] = OrderedDict()
        self._on_disk: dict[int, tuple[Record, float]] = {}

    def __getitem__(self, frame_index: int) -> MemoryEntry:
        """Return the entry of a frame.

        Raises:
            KeyError: there is none.
            EngineError: the disk cannot be read or written to.
        """
        entry = self._recent.get(frame_index)
        if entry is not None:
            self._recent.move_to_end(frame_index)
            return entry
        entry = self._read(frame_index)
        self._keep(frame_index, entry)
        return entry

    def __setitem__(self, frame_index: int, entry: MemoryEntry) -> None:
        """Put the entry of a frame in the place of an earlier one; nobody may change it afterwards.

        Raises:
            EngineError: the disk is full, or cannot be written to; then the entry is in memory.
        """
        self._on_disk.pop(frame_index, None)
        self._keep(frame_index, entry)

    def __delitem__(self, frame_index: int) -> None:
        """Forget a frame.

        Raises:
            KeyError: there is no entry of it.
        """
        known = self._on_disk.pop(frame_index, None) is not None
        if self._recent.pop(frame_index, None) is None and not known:
            raise KeyError(frame_index)

    def __contains__(self, frame_index: object) -> bool:
        return frame_index in self._recent or frame_index in self._on_disk

    def __iter__(self) -> Iterator[int]:
        """Iterate over the frames in their order in the video."""
        return iter(sorted(self._recent.keys() | self._on_disk.keys()))

    def __len__(self) -> int:
        return len(self._recent.keys() | self._on_disk.keys())

    def _keep(self, frame_index: int, entry: MemoryEntry) -> None:
        self._recent[frame_index] = entry
        self._recent.move_to_end(frame_index)
        while len(self._recent) > self._in_memory:
            oldest = next(iter(self._recent))
            if oldest not in self._on_disk:
                self._on_disk[oldest] = self._written(self._recent[oldest])
            del self._recent[oldest]

    def _written(self, entry: MemoryEntry) -> tuple[Record, float]:
        arrays: list[npt.NDArray[Any]] = [entry.mask_logits, entry.pointer]
        if entry.memory is not None:
            arrays.append(self._store.to_host(entry.memory))
        return self._file.write(arrays), entry.object_score

    def _read(self, frame_index: int) -> MemoryEntry:
        record, score = self._on_disk[frame_index]
        mask_logits, pointer, *memory = self._file.read(record)
        kept = self._store.from_host(memory[0]) if memory else None
        return MemoryEntry(mask_logits, pointer, score, kept)
