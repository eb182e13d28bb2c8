"""A clip for tests: a disc moves across a pattern of stripes."""

import numpy as np
import numpy.typing as npt


def drawn_clip(frames: int, height: int, width: int) -> npt.NDArray[np.uint8]:
    """Return uint8 RGB frames ``[frames, height, width, 3]``, the same on every machine."""
    y, x = np.mgrid[:height, :width]
    grain = np.random.default_rng(0).integers(0, 24, (height, width, 1))
    stripes = 90 + 50 * np.sin(x / 17 + np.sin(y / 23))
    background = stripes[..., None] * np.array([0.7, 1.0, 1.2]) + grain
    clip = np.repeat(background[None], frames, axis=0)
    for picture, share in zip(clip, np.linspace(0.2, 0.6, frames), strict=True):
        disc = np.hypot(x - share * width, y - 0.5 * height) < 0.14 * height
        picture[disc] = np.array([214, 96, 52]) + grain[disc]
    return clip.clip(0, 255).astype(np.uint8)
