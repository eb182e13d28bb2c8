"""Tensors of torch as arrays of numpy."""

from __future__ import annotations

from typing import cast

import numpy as np
import numpy.typing as npt
import torch

Array = npt.NDArray[np.float32]


def array(tensor: torch.Tensor | None) -> Array:
    """Return a parameter as a float32 numpy array."""
    assert tensor is not None
    return cast("Array", tensor.detach().float().cpu().numpy())
