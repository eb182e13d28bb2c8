"""OpenCV, imported when it is first needed."""

from __future__ import annotations

import functools
from typing import Any

from .._common.requirements import check_imported
from ..errors import MissingDependencyError


@functools.cache
def opencv() -> Any:
    """Return the module ``cv2``, with its own threads switched off.

    Clips are made by many processes at once, and regions are small: more threads only take the
    cores from each other.

    Raises:
        MissingDependencyError: opencv-python-headless is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise MissingDependencyError(
            "opencv-python-headless", "train", "making training clips"
        ) from error
    check_imported(cv2, "opencv-python-headless", "train", "making training clips")
    cv2.setNumThreads(0)
    return cv2
