"""Bfloat16 without torch: the upper half of a float32, kept as uint16.

The official predictor stores memory features in bfloat16, so the runtime rounds them in the same
way; numpy itself has no such type.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_QUIET_NAN = np.uint16(0x7FC0)


def to_bfloat16_bits(x: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """Round to the nearest bfloat16, ties to even, as ``Tensor.to(torch.bfloat16)`` does.

    Args:
        x: float32 of any shape. Infinities stay, NaN becomes the quiet NaN ``0x7FC0``, and
            finite values beyond the largest bfloat16 (3.39e38) become infinite.

    Returns:
        uint16 of the same shape: sign, 8 bits of exponent, 7 bits of mantissa.
    """
    bits = np.asarray(x, dtype=np.float32).view(np.uint32)
    # Half of the last kept place, less one unit for even values, so that a tie goes to even.
    rounded = bits >> np.uint32(16)
    rounded &= np.uint32(1)
    rounded += np.uint32(0x7FFF)
    rounded += bits
    rounded >>= np.uint32(16)
    result: npt.NDArray[np.uint16] = np.asarray(rounded.astype(np.uint16))
    nan = np.isnan(x)
    if nan.any():
        result[nan] = _QUIET_NAN
    return result


def from_bfloat16_bits(
    bits: npt.NDArray[np.uint16], out: npt.NDArray[np.float32] | None = None
) -> npt.NDArray[np.float32]:
    """Widen bfloat16, which is exact.

    Args:
        bits: uint16 of any shape, from :func:`to_bfloat16_bits`.
        out: where to write it, of the same shape; default: a new array.

    Returns:
        float32 of the same shape.
    """
    result = np.empty(np.shape(bits), np.float32) if out is None else out
    np.left_shift(bits, np.uint32(16), out=result.view(np.uint32), dtype=np.uint32)
    return result
