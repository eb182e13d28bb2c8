"""What is stored in blocks comes back, and takes the less the more it repeats itself."""

import zlib

import numpy as np
import pytest

from qsam2_deploy.engines.tensorrt.plan_blocks import (
    BLOCK,
    block_sizes,
    packed_blocks,
    unpacked_plan,
)

WEIGHTS = np.random.default_rng(0).bytes(2 * BLOCK)
TEXT = b"".join(f"float x{i} = __mul(a{i}, b{i});\n".encode() for i in range(60_000))[: BLOCK + 7]


def unpacked(plan: bytes) -> tuple[bytes, list[int]]:
    blocks = packed_blocks(plan)
    lengths = [len(block) for block in blocks]
    return bytes(unpacked_plan(memoryview(b"".join(blocks)), lengths, len(plan))), lengths


@pytest.mark.parametrize(
    "plan", [b"", b"x", bytes(7), WEIGHTS[:BLOCK], WEIGHTS, TEXT, bytes(BLOCK)]
)
def test_it_comes_back(plan):
    found, lengths = unpacked(plan)
    assert found == plan
    assert len(lengths) == len(block_sizes(len(plan)))


def test_text_shrinks_and_weights_stay():
    plan = TEXT[:BLOCK] + WEIGHTS
    found, (text, *weights) = unpacked(plan)
    assert found == plan
    assert text < BLOCK // 4
    assert weights == [BLOCK, BLOCK]


def test_what_does_not_shrink_is_not_copied():
    stored = memoryview(WEIGHTS)
    assert unpacked_plan(stored, [BLOCK, BLOCK], 2 * BLOCK) is stored


@pytest.mark.parametrize(
    ("stored", "size"),
    [
        (zlib.compress(bytes(50)), 49),  # holds more than it should
        (zlib.compress(bytes(50)), 51),  # holds less
        (zlib.compress(bytes(BLOCK))[:-20], BLOCK),  # cut
        (b"no such stream", 100),
    ],
)
def test_a_damaged_block_is_refused(stored, size):
    with pytest.raises(ValueError, match="a block"):
        unpacked_plan(memoryview(stored), [len(stored)], size)


def test_a_wrong_number_of_blocks_is_refused():
    with pytest.raises(ValueError, match="it has 1 blocks, but 2 are needed"):
        unpacked_plan(memoryview(b"ab"), [2], BLOCK + 1)
