"""Frames of a stream as they are given: which are taken, and from where."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..engines.protocol import Backend, DeviceImage
from ..errors import VideoError


def received(frame: Any, backend: Backend) -> Any:
    """Return a frame that is in GPU memory as the backend takes it, others as they are.

    Raises:
        VideoError: it is in GPU memory, and the backend is not.
    """
    if isinstance(frame, np.ndarray) or not hasattr(frame, "__cuda_array_interface__"):
        return frame
    take = getattr(backend, "take_frame", None)
    if take is None:
        raise VideoError(
            "the frame is in GPU memory, where only a model.engine takes it; copy it to the "
            "host, or build an engine with qsam2-build-engine"
        )
    return take(frame)


def check_frame(frame: npt.NDArray[np.uint8] | DeviceImage, size: tuple[int, int] | None) -> None:
    """Check that a frame is an RGB image, of the height and width of the frames before it.

    Raises:
        VideoError: it is not.
    """
    if isinstance(frame, DeviceImage):
        pass
    elif not isinstance(frame, np.ndarray) or frame.ndim != 3:
        got = list(frame.shape) if isinstance(frame, np.ndarray) else type(frame).__name__
        raise VideoError(
            f"a frame must be a uint8 RGB array of shape [height, width, 3], but got {got}"
        )
    if size is not None and frame.shape[:2] != size:
        raise VideoError(
            f"every frame must be of shape {(*size, 3)}, but got {frame.shape}; "
            "call reset() to start another stream"
        )
