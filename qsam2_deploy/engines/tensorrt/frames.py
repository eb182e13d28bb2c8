"""Arrays on the GPU that belong to others: CuPy, torch, pycuda, or a camera's pipeline."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...errors import VideoError
from .cuda import Cuda, Sized


class ForeignArray(Sized):
    """An array with ``__cuda_array_interface__``, which stays its owner's.

    Attributes:
        shape: of the array.
        dtype: of the array.
        pointer: address on the device.
    """

    def __init__(self, array: Any) -> None:
        """Look at ``array`` without touching what it holds.

        Raises:
            VideoError: it is not contiguous.
        """
        self._owner = array
        described = array.__cuda_array_interface__
        self.shape: tuple[int, ...] = tuple(int(size) for size in described["shape"])
        self.dtype: np.dtype[Any] = np.dtype(described["typestr"])
        self.pointer = int(described["data"][0])
        # Version 2 says nothing of streams: what wrote the array used the default stream.
        self._stream = described.get("stream", 1 if described.get("version", 0) < 3 else None)
        strides = described.get("strides")
        if strides is not None and tuple(strides) != _contiguous_strides(self.shape, self.dtype):
            raise VideoError("an array on the GPU must be contiguous; copy it before giving it")

    @classmethod
    def from_frame(cls, frame: Any, size: int) -> ForeignArray:
        """Return a frame: the model's own input of ``size`` x ``size``, or 8-bit RGB.

        Raises:
            VideoError: it is neither, or not contiguous.
        """
        array = cls(frame)
        is_input = array.dtype == np.float32 and array.shape == (1, 3, size, size)
        is_rgb = array.dtype == np.uint8 and len(array.shape) == 3 and array.shape[2] == 3
        if not is_input and not (is_rgb and array.nbytes):
            raise VideoError(
                "a frame on the GPU must be uint8 RGB [height, width, 3], or the model's "
                f"normalised input float32 [1, 3, {size}, {size}], but got {array.dtype} "
                f"{list(array.shape)}"
            )
        return array

    def wait(self, cuda: Cuda) -> None:
        """Wait until whoever wrote the array is done.

        Raises:
            EngineError: that failed.
        """
        if self._stream is not None:
            cuda.call("cudaStreamSynchronize", self._stream)


def _contiguous_strides(shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[int, ...]:
    return tuple(math.prod(shape[axis + 1 :]) * dtype.itemsize for axis in range(len(shape)))
