"""Tensors that stay on the GPU, and the way of others to it and back.

Memory that was taken once is kept until the end and used again, for two reasons: allocations wait
for the GPU, and a CUDA graph is of use only while its addresses stay.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import EngineError
from .cuda import ALIGNMENT, Cuda, DeviceArray, PinnedArray, Sized, Stream

Shape = tuple[int, ...]


class DeviceMemory:
    """Device memory of one stream, in blocks that are used again.

    What a block held may be overwritten as soon as it is given back: work on the stream is done in
    order, so that whoever was to read it has done so.

    Attributes:
        lock: whoever enqueues work or waits holds it, so that threads can take turns.
    """

    def __init__(self, cuda: Cuda, stream: Stream) -> None:
        """Begin with nothing."""
        self.cuda, self.stream = cuda, stream
        self.is_open, self.lock = True, threading.RLock()
        self._free: dict[int, list[DeviceArray]] = {}
        self._blocks: list[DeviceArray] = []

    def tensor(
        self, shape: Shape, dtype: npt.DTypeLike, purpose: str, *, at_least: int = 0
    ) -> DeviceTensor:
        """Return a tensor whose block comes back when nobody has the tensor any more.

        Args:
            shape: of the tensor.
            dtype: of the tensor.
            purpose: what messages call it.
            at_least: bytes of the block, so that tensors of several sizes can share one.

        Raises:
            EngineError: there is too little memory.
        """
        wanted = np.dtype(dtype)
        nbytes = max(math.prod(shape) * wanted.itemsize, at_least)
        free = self._free.setdefault(nbytes, [])
        if free:
            return DeviceTensor(self, shape, wanted, free.pop())
        try:
            block = DeviceArray(self.cuda, (nbytes,), np.uint8, purpose=purpose)
        except EngineError:
            if not self._trim():
                raise
            block = DeviceArray(self.cuda, (nbytes,), np.uint8, purpose=purpose)
        self._blocks.append(block)
        return DeviceTensor(self, shape, wanted, block)

    def give_back(self, block: DeviceArray) -> None:
        """Take a block to be used again; this calls nothing, for it may happen at any time."""
        self._free.setdefault(block.nbytes, []).append(block)

    def copy(self, target: int, source: int, nbytes: int) -> None:
        """Enqueue a copy; of nothing, there is none."""
        if nbytes:
            self.cuda.copy(target, source, nbytes, self.stream)

    def to_host(self, pointer: int, shape: Shape, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """Copy device memory to a new array, and wait for it."""
        with self.lock, PinnedArray(self.cuda, shape, dtype) as pinned:
            self.copy(pinned.pointer, pointer, pinned.host.nbytes)
            self.stream.synchronize()
            array: npt.NDArray[Any] = pinned.host.copy()
            return array

    def from_host(self, pointer: int, array: npt.NDArray[Any]) -> None:
        """Copy an array to device memory, and wait for it."""
        with self.lock, PinnedArray(self.cuda, array.shape, array.dtype) as pinned:
            pinned.host[...] = array
            self.copy(pointer, pinned.pointer, array.nbytes)
            self.stream.synchronize()

    def close(self) -> None:
        """Release all blocks; tensors that are still around are lost."""
        self.is_open = False
        self._free.clear()
        for block in self._blocks:
            block.close()
        self._blocks.clear()

    def _trim(self) -> bool:
        """Release the blocks that nobody has; return whether there were any."""
        unused = [block for blocks in self._free.values() for block in blocks]
        self._free.clear()
        if unused:
            self.stream.synchronize()
        for block in unused:
            block.close()
            self._blocks.remove(block)
        return bool(unused)


class DeviceTensor(Sized):
    """An array in device memory that only an engine reads; numpy makes a copy on the host of it.

    Attributes:
        shape: of the array.
        dtype: of the array.
    """

    def __init__(
        self, memory: DeviceMemory, shape: Shape, dtype: np.dtype[Any], block: DeviceArray
    ) -> None:
        self.shape, self.dtype = tuple(shape), dtype
        self._memory, self._block = memory, block

    @property
    def pointer(self) -> int:
        """Address on the device.

        Raises:
            EngineError: the backend that made it was closed.
        """
        if not self._memory.is_open:
            raise EngineError("the tensor is gone: the engine that made it was closed")
        return self._block.pointer

    def __array__(
        self, dtype: npt.DTypeLike | None = None, copy: bool | None = None
    ) -> npt.NDArray[Any]:
        """Wait for the GPU and return a copy on the host."""
        array = self._memory.to_host(self.pointer, self.shape, self.dtype)
        return array if dtype is None else array.astype(dtype, copy=False)

    def __del__(self) -> None:
        if self._memory.is_open:
            self._memory.give_back(self._block)


class Inbox:
    """The place on the device of one input that comes from the host, always the same.

    On an integrated GPU the device reads the pinned memory of the host in place.
    """

    def __init__(self, memory: DeviceMemory, name: str) -> None:
        """Begin with no memory; ``name`` is what messages call the input."""
        self._memory, self._name = memory, name
        self._resources = ExitStack()
        self._capacity = -1
        self._written_at = -1

    def put(self, array: npt.NDArray[Any]) -> int:
        """Enqueue the copy of an array and return its address on the device."""
        pinned, pointer = self._room(array.nbytes)
        # As long as nobody has waited since, the last array may still be on its way.
        if self._written_at == self._memory.stream.waits:
            self._memory.stream.synchronize()
        pinned.host[: array.nbytes] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        if pinned.device_pointer is None:
            self._memory.copy(pointer, pinned.pointer, array.nbytes)
        self._written_at = self._memory.stream.waits
        return pointer

    def put_from_device(self, source: int, nbytes: int) -> int:
        """Copy from device memory of somebody else, who may change it when this returns."""
        _, pointer = self._room(nbytes)
        self._memory.copy(pointer, source, nbytes)
        self._memory.stream.synchronize()
        return pointer

    def close(self) -> None:
        """Release its memory; nothing may be running."""
        self._capacity = -1
        self._resources.close()

    def _room(self, nbytes: int) -> tuple[PinnedArray, int]:
        if nbytes > self._capacity:
            cuda, told = self._memory.cuda, f"the input {self._name}"
            self._memory.stream.synchronize()
            self.close()
            enter = self._resources.enter_context
            self._pinned = enter(PinnedArray(cuda, (nbytes,), np.uint8, mapped=cuda.integrated))
            if self._pinned.device_pointer is None:
                device = enter(DeviceArray(cuda, (nbytes,), np.uint8, purpose=told))
                self._pointer = device.pointer
            else:
                self._pointer = self._pinned.device_pointer
            self._capacity = nbytes
        return self._pinned, self._pointer


class Outbox:
    """The place of all outputs of one component that the host reads, which come in one copy."""

    def __init__(self, memory: DeviceMemory, name: str) -> None:
        """Begin with no memory; ``name`` is what messages call the component."""
        self._memory, self._name = memory, name
        self._resources = ExitStack()
        self._capacity = 0
        self._layout: dict[str, tuple[int, Shape, np.dtype[Any]]] = {}

    def addresses(self, outputs: Mapping[str, tuple[Shape, np.dtype[Any]]]) -> dict[str, int]:
        """Make room for outputs of these shapes and types, and return where they go."""
        self._layout, end = {}, 0
        for name, (shape, dtype) in outputs.items():
            self._layout[name] = (end, shape, dtype)
            size = math.prod(shape) * dtype.itemsize
            end += -(-size // ALIGNMENT) * ALIGNMENT
        self._size = end
        if end > self._capacity:
            self._grow(end)
        return {name: self._pointer + begin for name, (begin, _, _) in self._layout.items()}

    def fetch(self) -> dict[str, npt.NDArray[Any]]:
        """Wait for the outputs and return copies of them."""
        if not self._layout:
            return {}
        if self._pinned.device_pointer is None:
            self._memory.copy(self._pinned.pointer, self._pointer, self._size)
        self._memory.stream.synchronize()
        found = {}
        for name, (begin, shape, dtype) in self._layout.items():
            size = math.prod(shape) * dtype.itemsize
            flat = self._pinned.host[begin : begin + size].copy()
            found[name] = flat.view(dtype).reshape(shape)
        return found

    def close(self) -> None:
        """Release its memory; nothing may be running."""
        self._capacity = 0
        self._resources.close()

    def _grow(self, size: int) -> None:
        cuda, enter = self._memory.cuda, self._resources.enter_context
        self._memory.stream.synchronize()
        self.close()
        self._pinned = enter(PinnedArray(cuda, (size,), np.uint8, mapped=cuda.integrated))
        if self._pinned.device_pointer is None:
            told = f"the outputs of {self._name}"
            self._pointer = enter(DeviceArray(cuda, (size,), np.uint8, purpose=told)).pointer
        else:
            self._pointer = self._pinned.device_pointer
        self._capacity = size
