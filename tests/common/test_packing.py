"""Packed integers: there and back, and as ONNX itself reads them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, numpy_helper

from qsam2_deploy._common.packing import pack, packed_size, stored_bits, unpack

TYPES = {2: TensorProto.INT2, 4: TensorProto.INT4, 8: TensorProto.INT8}


def _codes(width: int, count: int, seed: int = 0) -> np.ndarray:
    low, high = -(2 ** (width - 1)), 2 ** (width - 1)
    return np.random.default_rng(seed).integers(low, high, count).astype(np.int8)


@given(width=st.sampled_from([2, 4, 8]), count=st.integers(0, 70), seed=st.integers(0, 9))
def test_there_and_back(width, count, seed):
    codes = _codes(width, count, seed)
    data = pack(codes, width)
    assert len(data) == packed_size(count, width)
    np.testing.assert_array_equal(unpack(data, width, count), codes)


@pytest.mark.parametrize("width", TYPES)
@pytest.mark.parametrize("shape", [(1,), (5, 3), (2, 3, 7, 7)])
def test_onnx_reads_the_same(width, shape):
    codes = _codes(width, int(np.prod(shape))).reshape(shape)
    tensor = TensorProto(data_type=TYPES[width], dims=shape, raw_data=pack(codes, width))
    np.testing.assert_array_equal(numpy_helper.to_array(tensor).astype(np.int8), codes)


def test_codes_of_a_view_are_packed_in_its_own_order():
    codes = _codes(4, 15).reshape(5, 3)
    assert pack(codes.T, 4) == pack(np.ascontiguousarray(codes.T), 4)


def test_widths():
    assert [stored_bits(bits) for bits in range(2, 9)] == [2, 4, 4, 8, 8, 8, 8]


@pytest.mark.parametrize("length", [0, 2, 4])
def test_another_number_of_bytes_is_refused(length):
    with pytest.raises(ValueError, match="9 integers of 2 bits take 3 bytes, but there are"):
        unpack(bytes(length), 2, 9)
