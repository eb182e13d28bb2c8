"""What scripts import from ``sam2.utils.misc``."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..._common.progress import progress as tqdm
from ...predictors.tensor_like import as_output, on_host
from ...tracking.postprocess import fill_holes
from .._settings import output_kind

__all__ = ["fill_holes_in_mask_scores", "mask_to_box", "tqdm"]


def fill_holes_in_mask_scores(mask: Any, max_area: int) -> Any:
    """Fill holes of at most ``max_area`` pixels.

    Args:
        mask: logits ``[N, 1, h, w]``.
        max_area: above 0.
    """
    masks = np.array(on_host(mask), np.float32)
    filled = [fill_holes(logits, max_area) for logits in masks.reshape(-1, *masks.shape[-2:])]
    return as_output(output_kind())(np.stack(filled).reshape(masks.shape))


def mask_to_box(masks: Any) -> Any:
    """Return the boxes of masks, int32 ``[B, 1, 4]``, (x1, y1, x2, y2) with the last pixels in.

    Args:
        masks: bool ``[B, 1, h, w]``; an empty one has the box (w, h, -1, -1), as upstream.
    """
    found = np.asarray(on_host(masks), bool)
    height, width = found.shape[-2:]
    columns, rows = found.any(axis=-2), found.any(axis=-1)
    x, y = np.arange(width), np.arange(height)
    box = [
        np.where(columns, x, width).min(-1), np.where(rows, y, height).min(-1),
        np.where(columns, x, -1).max(-1), np.where(rows, y, -1).max(-1),
    ]  # fmt: skip
    return as_output(output_kind())(np.stack(box, axis=-1).astype(np.int32))
