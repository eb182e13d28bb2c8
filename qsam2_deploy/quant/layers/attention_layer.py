"""What an attention layer with a quantized product is, whichever class of upstream it extends."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from ...errors import Qsam2Error
from ..quantizers.grid import MIN_SCALE
from .attention_product import AttentionProduct


@dataclass(frozen=True)
class AttentionSteps:
    """The steps of one attention product, for export; float32 ``[]``, finite and positive.

    Attributes:
        q: of the queries, before their division by ``sqrt(d)``.
        k: of the keys.
        v: of the values, or None where the input of their projection is on a grid already.
    """

    q: np.float32
    k: np.float32
    v: np.float32 | None


class QuantAttention(nn.Module):
    """An attention layer whose product is quantized; listed before the class that it extends.

    Attributes:
        projections: names of the linear layers that make queries, keys and values.
        values_first: the values are quantized before their projection.
        attention_name: its name in the model, for messages.
        product: what replaces the float product.
    """

    projections: ClassVar[tuple[str, ...]] = ()
    values_first: ClassVar[bool] = False
    attention_name: str
    product: AttentionProduct

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the layer of the ``sam2`` package with another product."""
        with _Redirected(self.product):
            return super().forward(*args, **kwargs)

    def projection_weights(self) -> Iterator[torch.Tensor]:
        """Yield the weights that the steps were found for."""
        for name in self.projections:
            yield self.get_submodule(name).get_parameter("weight")

    def steps(self) -> AttentionSteps | None:
        """Return the steps, or None while the product is one of floats.

        Raises:
            Qsam2Error: a step is not finite and positive; names the layer.
        """
        if not (self.product.enabled and self.product.quantizers):
            return None
        found = {n: self._checked(n, q.scale) for n, q in self.product.quantizers.items()}
        values = np.float32(found["v"]) if "v" in found else None
        return AttentionSteps(np.float32(found["q"]), np.float32(found["k"]), values)

    def _checked(self, part: str, scale: torch.Tensor) -> float:
        value = float(scale)
        if not (math.isfinite(value) and value >= MIN_SCALE):
            raise Qsam2Error(
                f"the step of {part} of the attention {self.attention_name} must be finite and "
                "positive, but it is not; calibrate the model again"
            )
        return value


class _Redirected(TorchFunctionMode):
    """While this context is open, attention products are computed by ``product``."""

    def __init__(self, product: AttentionProduct) -> None:
        super().__init__()
        self._product = product

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is F.scaled_dot_product_attention:
            func = self._product
        return func(*args, **(kwargs or {}))
