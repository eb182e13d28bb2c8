"""Quantized convolutions, forward and transposed."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from ...errors import InputError
from .layer import QuantLayer
from .layer_plan import LayerPlan

_SETTINGS = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation")


def _settings(conv: nn.Conv2d | nn.ConvTranspose2d) -> dict[str, Any]:
    """Return what both kinds are made with; the weights are adopted."""
    return {"device": "meta", **{name: getattr(conv, name) for name in _SETTINGS}}


class QuantConv2d(QuantLayer, nn.Conv2d):
    """A 2-D convolution on NCHW; zero, which pads it, is on every grid."""

    def __init__(self, conv: nn.Conv2d, plan: LayerPlan, layer_name: str = "") -> None:
        if conv.padding_mode != "zeros":
            raise InputError(
                f"cannot quantize the layer {layer_name!r}: its padding must be 'zeros', but got "
                f"{conv.padding_mode!r}"
            )
        super().__init__(**_settings(conv), groups=conv.groups)
        self._adopt(conv, plan, layer_name)

    def rows(self, weight: torch.Tensor) -> torch.Tensor:
        """Return ``[out, in / groups, h, w]`` as ``[out, n]``."""
        return weight.flatten(1)

    def weight_from_rows(self, rows: torch.Tensor) -> torch.Tensor:
        """Return ``[out, n]`` as ``[out, in / groups, h, w]``."""
        return rows.view(self.weight.shape)

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002  (nn.Conv2d's name)
        """Map ``[B, in, H, W]`` to ``[B, out, H', W']``."""
        inputs = self.input_quantizer(input)
        result: torch.Tensor = self._conv_forward(inputs, self.quantized_weight(), self.bias)
        return result


class QuantConvTranspose2d(QuantLayer, nn.ConvTranspose2d):
    """A transposed 2-D convolution on NCHW, in one group."""

    def __init__(self, conv: nn.ConvTranspose2d, plan: LayerPlan, layer_name: str = "") -> None:
        if conv.groups != 1:
            raise InputError(
                f"cannot quantize the layer {layer_name!r}: a transposed convolution must have one "
                f"group, but got {conv.groups}"
            )
        super().__init__(**_settings(conv), output_padding=conv.output_padding)  # type: ignore[arg-type]
        self._adopt(conv, plan, layer_name)

    def rows(self, weight: torch.Tensor) -> torch.Tensor:
        """Return ``[in, out, h, w]`` as ``[out, n]``."""
        return weight.transpose(0, 1).flatten(1)

    def weight_from_rows(self, rows: torch.Tensor) -> torch.Tensor:
        """Return ``[out, n]`` as ``[in, out, h, w]``."""
        inputs, _, *kernel = self.weight.shape
        return rows.view(len(rows), inputs, *kernel).transpose(0, 1)

    def forward(
        self,
        input: torch.Tensor,  # noqa: A002  (nn.ConvTranspose2d's name)
        output_size: list[int] | None = None,
    ) -> torch.Tensor:
        """Map ``[B, in, H, W]`` to ``[B, out, H', W']``."""
        if output_size is not None:
            raise InputError(f"the layer {self.layer_name} takes no output size")
        return functional.conv_transpose2d(
            self.input_quantizer(input),
            self.quantized_weight(),
            self.bias,
            self.stride,
            self.padding,  # type: ignore[arg-type]
            self.output_padding,
            self.groups,
            self.dilation,
        )
