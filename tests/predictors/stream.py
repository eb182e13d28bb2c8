"""Frames and prompts of a small stream, and looks at what a segmenter holds."""

from typing import Any

import numpy as np

from qsam2_deploy.predictors.segmenter import VideoSegmenter
from qsam2_deploy.tracking.memory import MemoryBank
from qsam2_deploy.tracking.results import FrameResult, Prompt

HEIGHT, WIDTH = 20, 30


def frame(index: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    rng = np.random.default_rng(index)
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def click(object_id: int = 1, x: float = 8, y: float = 9, label: int = 1, **more: Any) -> Prompt:
    return Prompt(object_id, points=[(x, y)], labels=[label], **more)


def mask_prompt(object_id: int) -> Prompt:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[5:15, 5:15] = True
    return Prompt(object_id, mask=mask)


def bank_of(segmenter: VideoSegmenter, object_id: int) -> MemoryBank:
    """Return the memory of one object."""
    return segmenter._objects[object_id].bank


def ids(result: FrameResult) -> list[int]:
    """Return the object ids of a result, in order."""
    return [obj.object_id for obj in result.objects]


def same(a: FrameResult, b: FrameResult) -> bool:
    """Say whether all logits are equal; the objects must be the same."""
    assert ids(a) == ids(b)
    pairs = zip(a.objects, b.objects, strict=True)
    return all(np.array_equal(x.logits, y.logits) for x, y in pairs)
