"""Memory of the device and pinned memory of the host, by address."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

NEW, GONE = 0xFF, 0xDD
"""What new memory and memory that was given back are filled with; new floats are NaN."""

_FIRST_DEVICE_ADDRESS = 0x10_0000_0000
_ALIGNMENT = 512


class MisuseError(AssertionError):
    """The CUDA runtime would crash, corrupt memory, or give undefined results."""


@dataclass(eq=False)
class Allocation:
    """One block of memory; ``kind`` is device, pinned or mapped."""

    kind: str
    address: int
    data: npt.NDArray[np.uint8]
    device_address: int | None = None
    alive: bool = True


class Memory:
    """All blocks, also those that were given back."""

    def __init__(self) -> None:
        self.blocks: list[Allocation] = []
        self._next = _FIRST_DEVICE_ADDRESS

    @property
    def used(self) -> int:
        """Bytes of device memory that are in use."""
        return sum(block.data.size for block in self.alive("device"))

    def alive(self, *kinds: str) -> list[Allocation]:
        """Return the blocks in use, of the ``kinds`` if there are any."""
        return [b for b in self.blocks if b.alive and (not kinds or b.kind in kinds)]

    def device(self, size: int) -> Allocation:
        """Allocate device memory."""
        block = Allocation("device", self._address(size), np.full(size, NEW, np.uint8))
        self.blocks.append(block)
        return block

    def host(self, size: int, *, mapped: bool) -> Allocation:
        """Allocate pinned memory, which has a real address."""
        data = np.full(size, NEW, np.uint8)
        made = Allocation("mapped" if mapped else "pinned", data.ctypes.data, data)
        made.device_address = self._address(size) if mapped else None
        self.blocks.append(made)
        return made

    def _address(self, size: int) -> int:
        address = self._next
        # A gap between blocks, so that who runs over the end is found.
        self._next += -(-size // _ALIGNMENT) * _ALIGNMENT + _ALIGNMENT
        return address

    def find(self, address: Any, size: int, *, on_device: bool = False) -> tuple[Allocation, int]:
        """Return the block that holds ``size`` bytes at ``address``, and the offset in it."""
        at = int(address)
        for block in reversed(self.blocks):
            starts = [block.device_address]
            if not on_device or block.kind == "device":
                starts.append(block.address)
            for start in starts:
                if start is not None and start <= at < start + block.data.size:
                    if not block.alive:
                        raise MisuseError(f"{block.kind} memory is used after it was given back")
                    if at + size > start + block.data.size:
                        raise MisuseError(
                            f"{size} bytes at {at - start} of {block.kind} memory of "
                            f"{block.data.size} bytes"
                        )
                    return block, at - start
        where = "device memory" if on_device else "device memory or pinned memory"
        raise MisuseError(f"{at:#x} is no address of {where}")

    def view(self, address: Any, size: int, *, on_device: bool = False) -> npt.NDArray[np.uint8]:
        """Return the bytes at ``address``."""
        block, offset = self.find(address, size, on_device=on_device)
        return block.data[offset : offset + size]

    def free(self, address: Any, *kinds: str) -> Allocation:
        """Give a block back, and return it."""
        at = int(address)
        found = [b for b in self.blocks if b.address == at and b.kind in kinds]
        if not found:
            raise MisuseError(f"{at:#x} was not allocated as {' or '.join(kinds)} memory")
        if not found[-1].alive:
            raise MisuseError(f"{found[-1].kind} memory is given back twice")
        found[-1].alive = False
        found[-1].data[:] = GONE
        return found[-1]
