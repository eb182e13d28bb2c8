"""Integers of fewer than 8 bits in bytes, as ONNX stores them.

The first integer is in the lowest bits of the first byte, the last byte is filled up with zeros,
and negative numbers are in two's complement.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_STORED_WIDTHS = (2, 4, 8)


def stored_bits(bits: int) -> int:
    """Return the width of the ONNX type that holds codes of ``bits`` bits: 2, 4 or 8."""
    return next(width for width in _STORED_WIDTHS if bits <= width)


def packed_size(count: int, width: int) -> int:
    """Return how many bytes ``count`` integers of ``width`` bits take."""
    return -(-count * width // 8)


def pack(codes: npt.NDArray[np.int8], width: int) -> bytes:
    """Pack signed integers, in C order.

    Args:
        codes: int8 of any shape, each within the range of ``width`` bits.
        width: 2, 4 or 8.
    """
    flat = np.ascontiguousarray(codes).reshape(-1).view(np.uint8)
    if width == 8:
        return flat.tobytes()
    per_byte = 8 // width
    padded = np.zeros(packed_size(flat.size, width) * per_byte, np.uint8)
    padded[: flat.size] = flat & (2**width - 1)
    packed = np.zeros(len(padded) // per_byte, np.uint8)
    for i in range(per_byte):
        packed |= padded[i::per_byte] << (width * i)
    return packed.tobytes()


def unpack(data: bytes, width: int, count: int) -> npt.NDArray[np.int8]:
    """Return ``count`` signed integers of ``width`` bits (2, 4 or 8) as int8 ``[count]``.

    Raises:
        ValueError: ``data`` is not of the size that ``count`` integers take.
    """
    if len(data) != packed_size(count, width):
        raise ValueError(
            f"{count} integers of {width} bits take {packed_size(count, width)} bytes, but there "
            f"are {len(data)}"
        )
    stored = np.frombuffer(data, np.uint8)
    if width == 8:
        return stored.view(np.int8)
    # Every byte stands for one row of a table: much faster than shifting them one by one.
    return _table(width)[stored].reshape(-1)[:count]


def _table(width: int) -> npt.NDArray[np.int8]:
    every_byte = np.arange(256, dtype=np.uint8)
    shifts = 8 - width - width * np.arange(8 // width, dtype=np.uint8)
    # To the top of the byte and back, which repeats the sign.
    return (every_byte[:, None] << shifts).astype(np.uint8).view(np.int8) >> (8 - width)
