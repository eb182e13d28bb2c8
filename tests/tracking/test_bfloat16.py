import numpy as np
import pytest

from qsam2_deploy.tracking.bfloat16 import from_bfloat16_bits, to_bfloat16_bits


@pytest.mark.parametrize(
    ("value", "bits"),
    [
        (1.0, 0x3F80),
        (-2.0, 0xC000),
        (0.0, 0x0000),
        (-0.0, 0x8000),
        (1.0 + 2**-8, 0x3F80),  # a tie goes to the even neighbour below
        (1.0 + 3 * 2**-8, 0x3F82),  # and here to the one above
        (1.0 + 2**-8 + 2**-20, 0x3F81),
        (np.inf, 0x7F80),
        (-np.inf, 0xFF80),
        (3.4e38, 0x7F80),  # beyond the largest bfloat16
        (1e-40, 0x0001),  # subnormal
    ],
)
def test_known_values(value, bits):
    assert int(to_bfloat16_bits(np.array([value], np.float32))[0]) == bits


def test_nan_stays_nan_whatever_its_payload():
    payloads = np.array([0x7F800001, 0x7FFFFFFF, 0xFFFFFFFF, 0x7FC00000], np.uint32)
    assert np.isnan(from_bfloat16_bits(to_bfloat16_bits(payloads.view(np.float32)))).all()


def test_every_bfloat16_survives_the_round_trip():
    bits = np.arange(1 << 16, dtype=np.uint32).astype(np.uint16)
    wide = from_bfloat16_bits(bits)
    finite = ~np.isnan(wide)
    assert finite.sum() == 65536 - 2 * 127
    np.testing.assert_array_equal(to_bfloat16_bits(wide)[finite], bits[finite])


def test_error_is_at_most_half_a_unit_in_the_last_place():
    x = np.random.default_rng(0).standard_normal(100_000).astype(np.float32)
    error = np.abs(from_bfloat16_bits(to_bfloat16_bits(x)) - x)
    assert (error <= np.abs(x) * 2.0**-8).all()
    assert error.max() > 0


@pytest.mark.parametrize("shape", [(), (3,), (2, 0, 4), (2, 3, 4)])
def test_shape_is_kept(shape):
    bits = to_bfloat16_bits(np.ones(shape, np.float32))
    assert (bits.shape, bits.dtype) == (shape, np.uint16)
    assert from_bfloat16_bits(bits).shape == shape


def test_strided_input():
    x = np.random.default_rng(1).standard_normal((6, 8)).astype(np.float32)
    np.testing.assert_array_equal(to_bfloat16_bits(x.T), to_bfloat16_bits(x).T)
