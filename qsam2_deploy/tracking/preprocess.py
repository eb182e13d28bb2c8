"""From 8-bit RGB pixels to the image encoder's normalised input.

Upstream resizes in two ways, and both must be followed to the bit where masks are compared:
video frames with Pillow on 8-bit pixels, still images with antialiased bilinear on floats.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..errors import VideoError
from ..spec import ModelSpec
from .resize import resize_bilinear_antialias

FloatArray = npt.NDArray[np.float32]


def preprocess_frame(frame: npt.NDArray[np.uint8], spec: ModelSpec) -> FloatArray:
    """Prepare a video frame, bit-equal to the official video predictor.

    Pillow's default filter to ``S x S`` in 8 bits, then ``(x / 255 - mean) / std`` per channel
    (upstream ``load_video_frames_from_jpg_images``).

    Args:
        frame: uint8 RGB ``[height, width, 3]``.
        spec: gives ``S``, mean and standard deviation.

    Returns:
        float32 ``[1, 3, S, S]``, contiguous.

    Raises:
        VideoError: ``frame`` is of another type or shape.
    """
    check_rgb(frame, "the frame")
    size = spec.image_size
    pixels = np.asarray(Image.fromarray(np.ascontiguousarray(frame)).resize((size, size)))
    table = _normalised_levels(spec.mean, spec.std)
    result = np.empty((1, 3, size, size), np.float32)
    for channel in range(3):
        # mode="clip" lets numpy write straight into the output; no index can be out of range.
        np.take(table[channel], pixels[..., channel], out=result[0, channel], mode="clip")
    return result


def preprocess_image(image: npt.NDArray[np.uint8], spec: ModelSpec) -> FloatArray:
    """Prepare a still image as the official image predictor does.

    To ``[0, 1]``, antialiased bilinear to ``S x S``, then ``(x - mean) / std`` per channel
    (upstream ``SAM2Transforms``).

    Args:
        image: uint8 RGB ``[height, width, 3]``.
        spec: gives ``S``, mean and standard deviation.

    Returns:
        float32 ``[1, 3, S, S]``, contiguous, equal to upstream within rounding.

    Raises:
        VideoError: ``image`` is of another type or shape.
    """
    check_rgb(image, "the image")
    planes = np.ascontiguousarray(image.transpose(2, 0, 1)).astype(np.float32)
    planes /= np.float32(255)
    result = resize_bilinear_antialias(planes, spec.image_size, spec.image_size)
    result -= np.asarray(spec.mean, np.float32)[:, None, None]
    result /= np.asarray(spec.std, np.float32)[:, None, None]
    return result[None]


def check_rgb(pixels: npt.NDArray[np.uint8], what: str) -> None:
    """Check that ``pixels`` is a uint8 array ``[height, width, 3]`` with at least one pixel.

    Args:
        pixels: what the user gave.
        what: its name in the message, such as ``the image``.

    Raises:
        VideoError: it is not.
    """
    if not isinstance(pixels, np.ndarray):
        raise VideoError(
            f"{what} must be a uint8 array of shape [height, width, 3], "
            f"but got {type(pixels).__name__}; convert it with np.asarray"
        )
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.size == 0:
        raise VideoError(
            f"{what} must be a uint8 RGB array of shape [height, width, 3], but got "
            f"{pixels.dtype} {list(pixels.shape)}; scale it to 0..255 and drop other channels"
        )


@lru_cache(maxsize=8)
def _normalised_levels(
    mean: tuple[float, float, float], std: tuple[float, float, float]
) -> FloatArray:
    """Return the normalised value of each 8-bit level, ``[3, 256]``.

    Rounded as upstream: division by 255 in double precision, the rest in single precision.
    """
    levels = (np.arange(256) / 255.0).astype(np.float32)
    table: FloatArray = levels - np.asarray(mean, np.float32)[:, None]
    table /= np.asarray(std, np.float32)[:, None]
    table.flags.writeable = False
    return table
