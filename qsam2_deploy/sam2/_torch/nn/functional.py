"""``torch.nn.functional``: what the stand-in has of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from ....predictors.tensor_like import TensorLike
from ....tracking.resize import resize_bilinear


def sigmoid(values: Any) -> Any:
    """Return ``1 / (1 + exp(-x))``."""
    return 1 / (1 + np.exp(-values))


def interpolate(
    input: Any,
    size: Any = None,
    scale_factor: Any = None,
    mode: Any = "nearest",
    align_corners: Any = None,
    **_kwargs: Any,
) -> TensorLike:
    """Resize ``[N, C, h, w]`` by nearest or bilinear interpolation."""
    array = np.asarray(input)
    height, width = array.shape[-2:]
    if size is None:
        size = (np.asarray(scale_factor) * (height, width)).astype(np.int64)
    rows, columns = np.broadcast_to(size, 2).tolist()
    if mode == "bilinear" and not align_corners:
        return _tensor(resize_bilinear(array.astype(np.float32), rows, columns))
    if mode != "nearest":
        raise NotImplementedError(
            f"interpolate(mode={mode!r}, align_corners={align_corners}) needs torch itself; run: "
            "pip install torch"
        )
    y = (np.arange(rows) * (height / rows)).astype(np.intp)
    x = (np.arange(columns) * (width / columns)).astype(np.intp)
    return _tensor(array[..., y[:, None], x])


def _tensor(array: Any) -> TensorLike:
    result: TensorLike = array.view(TensorLike)
    return result
