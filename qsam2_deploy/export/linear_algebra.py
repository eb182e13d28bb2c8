"""Linear layers that are the exact product of others."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from ..quant.layers.modules import QuantLayer
from .arrays import array


def linear_from_arrays(weight: Any, bias: Any) -> nn.Linear:
    """Return a float32 linear layer with ``weight [out, in]`` and ``bias [out]``."""
    result = nn.Linear(weight.shape[1], weight.shape[0])
    result.weight.data = torch.from_numpy(np.asarray(weight, np.float32))
    result.bias.data = torch.from_numpy(np.asarray(bias, np.float32))
    return result


def are_float(*layers: nn.Module) -> bool:
    """Return whether no layer is quantized: the product of quantized ones is on no grid."""
    return not any(isinstance(layer, QuantLayer) for layer in layers)


def folded_convs(first: nn.Conv2d, second: nn.Conv2d) -> nn.Linear:
    """Two 1x1 convolutions with nothing between them are one: ``W2 W1 x + W2 b1 + b2``."""
    w1, w2 = (array(c.weight)[:, :, 0, 0].astype(np.float64) for c in (first, second))
    b1, b2 = (array(c.bias).astype(np.float64) for c in (first, second))
    return linear_from_arrays(w2 @ w1, w2 @ b1 + b2)


def absorbed_values(out_proj: nn.Linear, v_proj: nn.Linear) -> nn.Linear:
    """``out_proj`` after ``v_proj``, for values that a softmax averages (its rows sum to 1)."""
    w_o, w_v = (array(p.weight).astype(np.float64) for p in (out_proj, v_proj))
    b_o, b_v = (array(p.bias).astype(np.float64) for p in (out_proj, v_proj))
    return linear_from_arrays(w_o @ w_v, w_o @ b_v + b_o)
