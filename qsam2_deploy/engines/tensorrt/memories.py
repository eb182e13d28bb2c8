"""The memory bank's features on the GPU: slots of a ring, gathered for the memory attention."""

from __future__ import annotations

import weakref
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import EngineError
from ...lowering.memory_output import MEMORY, MEMORY_SUM
from .cuda import DeviceArray
from .device_memory import DeviceMemory, DeviceTensor

_SLOTS_AT_ONCE = 8


class StoredMemory:
    """The memory features of one object on one frame; its slot is free when nobody has it."""

    def __init__(self, owner: DeviceMemories, slot: int | None) -> None:
        self.slot = slot
        self.host: npt.NDArray[np.float32] | None = None
        self._owner = owner

    def __del__(self) -> None:
        if self.slot is not None:
            self._owner.give_back(self.slot)


class DeviceMemories:
    """Memory features in device memory, float32 as the memory encoder writes them.

    Slots are used in turn. A stream needs as many as its objects have memories. Whoever keeps the
    memories of a whole video gets the oldest ones moved to the host when the limit is reached or
    the GPU is full, and back when they are attended to.
    """

    def __init__(
        self, memory: DeviceMemory, shape: tuple[int, ...], usual: int, limit_bytes: int
    ) -> None:
        """Begin with no slots.

        Args:
            memory: of the device.
            shape: of the features of one object, ``[M, H, W]``.
            usual: memories of an object that has tracked for a while.
            limit_bytes: most device memory of all slots together.
        """
        self._memory, self._shape, self._usual = memory, shape, usual
        self._slot_bytes = int(np.prod(shape)) * 4
        self._limit = max(limit_bytes // self._slot_bytes, 1)
        self._blocks: list[DeviceArray] = []
        self._free: deque[int] = deque()
        self._used: OrderedDict[int, weakref.ref[StoredMemory]] = OrderedDict()

    def keep(self, outputs: Mapping[str, Any]) -> list[StoredMemory | None]:
        """Copy the memory encoder's output into slots; None where it is not finite.

        Raises:
            EngineError: there is too little memory.
        """
        made: DeviceTensor = outputs[MEMORY]
        finite = np.isfinite(outputs[MEMORY_SUM])
        with self._memory.lock:
            return [
                self._copied(made.pointer + row * self._slot_bytes) if is_finite else None
                for row, is_finite in enumerate(finite)
            ]

    def _copied(self, source: int) -> StoredMemory:
        stored = self._stored()
        assert stored.slot is not None
        self._memory.copy(self._pointer(stored.slot), source, self._slot_bytes)
        return stored

    def gather(self, rows: Sequence[Sequence[StoredMemory]]) -> DeviceTensor:
        """Return the memories of several objects in the given order, ``[B, F, M, H, W]``.

        Args:
            rows: one for each object, all of one length.

        Raises:
            EngineError: there is too little memory.
        """
        shape = (len(rows), len(rows[0]), *self._shape)
        # One block serves while the memories fill up, and its address stays.
        room = len(rows) * self._usual * self._slot_bytes
        made = self._memory.tensor(shape, np.float32, "the gathered memory", at_least=room)
        stored = [memory for row in rows for memory in row]
        with self._memory.lock:
            for index, memory in enumerate(stored):
                self._put(memory, made.pointer + index * self._slot_bytes)
        return made

    def _put(self, memory: StoredMemory, target: int) -> None:
        if memory.slot is not None:
            self._used.move_to_end(memory.slot)
            self._memory.copy(target, self._pointer(memory.slot), self._slot_bytes)
        elif memory.host is not None:
            self._memory.from_host(target, memory.host)

    def to_host(self, kept: StoredMemory) -> npt.NDArray[np.float32]:
        """Return a memory as an array ``[M, H, W]``."""
        if kept.slot is None:
            assert kept.host is not None
            return kept.host
        with self._memory.lock:
            return self._on_host(kept.slot)

    def from_host(self, array: npt.NDArray[np.float32]) -> StoredMemory:
        """Return a memory that stays on the host and is copied when it is attended to."""
        stored = StoredMemory(self, None)
        stored.host = array
        return stored

    def give_back(self, slot: int) -> None:
        """Take a slot to be used again."""
        self._used.pop(slot, None)
        self._free.append(slot)

    def close(self) -> None:
        """Release all slots; nothing may be running."""
        for block in self._blocks:
            block.close()
        self._blocks.clear()

    def _pointer(self, slot: int) -> int:
        block, index = divmod(slot, _SLOTS_AT_ONCE)
        return self._blocks[block].pointer + index * self._slot_bytes

    def _stored(self) -> StoredMemory:
        if not self._free and not self._grow():
            self._move_oldest_to_host()
        slot = self._free.popleft()
        stored = StoredMemory(self, slot)
        self._used[slot] = weakref.ref(stored)
        return stored

    def _grow(self) -> bool:
        """Make more slots, if the limit and the GPU allow it."""
        begin = len(self._blocks) * _SLOTS_AT_ONCE
        if begin >= self._limit:
            return False
        shape = (_SLOTS_AT_ONCE, *self._shape)
        try:
            block = DeviceArray(self._memory.cuda, shape, np.float32, purpose="the memory bank")
        except EngineError:
            if not self._used:
                raise
            return False
        self._blocks.append(block)
        self._free.extend(range(begin, begin + _SLOTS_AT_ONCE))
        return True

    def _move_oldest_to_host(self) -> None:
        slot, reference = next(iter(self._used.items()))
        oldest = reference()
        if oldest is not None:
            oldest.host = self._on_host(slot)
            oldest.slot = None
            self.give_back(slot)

    def _on_host(self, slot: int) -> npt.NDArray[np.float32]:
        pointer = self._pointer(slot)
        return self._memory.to_host(pointer, self._shape, np.dtype(np.float32))
