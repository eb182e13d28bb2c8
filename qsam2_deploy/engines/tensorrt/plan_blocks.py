"""Plans as an engine file stores them: in blocks, each deflated where that halves it.

TensorRT-RTX puts the source text of every fused kernel into a plan, each with the same 130 kB of
declarations: 11 to 13 MB of SAM 2.1 tiny's image encoder, whatever its precision. Text shrinks to a
tenth or less; weights in half precision hardly do, and are stored as they are, so that reading them
costs nothing.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

BLOCK = 1 << 20
"""Bytes of a block of a plan; its last one is what is left."""

_LEVEL = 6


def packed_blocks(plan: bytes | memoryview) -> list[bytes]:
    """Return the blocks of a plan as they are stored; a deflated one is shorter than it was."""
    view = memoryview(plan)
    return [_packed(view[start : start + BLOCK]) for start in range(0, len(view), BLOCK)]


def unpacked_plan(stored: memoryview, lengths: Sequence[int], size: int) -> memoryview:
    """Return a plan from its stored blocks.

    Args:
        stored: the blocks, one after the other.
        lengths: bytes of each as stored.
        size: bytes of the plan.

    Raises:
        ValueError: the blocks are not those of a plan of this size.
    """
    sizes = block_sizes(size)
    if len(lengths) != len(sizes) or sum(lengths) != len(stored):
        raise ValueError(f"it has {len(lengths)} blocks, but {len(sizes)} are needed")
    if list(lengths) == sizes:
        return stored
    plan, begin = bytearray(), 0
    for length, whole in zip(lengths, sizes, strict=True):
        block = stored[begin : begin + length]
        plan += block if length == whole else _inflated(block, whole)
        begin += length
    return memoryview(plan).toreadonly()


def block_sizes(size: int) -> list[int]:
    """Return the bytes of each block of a plan of ``size`` bytes."""
    return [min(BLOCK, size - start) for start in range(0, size, BLOCK)]


def _packed(block: memoryview) -> bytes:
    # An eighth of a block tells enough: most blocks are weights, which take long to no avail.
    eighth = block[: -(-len(block) // 8)]
    if 2 * len(zlib.compress(eighth, 1)) <= len(eighth):
        deflated = zlib.compress(block, _LEVEL)
        if 2 * len(deflated) <= len(block):
            return deflated
    return bytes(block)


def _inflated(block: memoryview, size: int) -> bytes:
    try:
        # Never more than one byte too many, whatever the block claims to hold.
        plain = zlib.decompressobj().decompress(block, size + 1)
    except zlib.error as error:
        raise ValueError(f"a block cannot be inflated: {error}") from error
    if len(plain) != size:
        raise ValueError(f"a block holds {len(plain)} bytes, but {size} were expected")
    return plain
