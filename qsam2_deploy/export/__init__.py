"""A checkpoint becomes one model.onnx, written node by node; imports quant."""

from __future__ import annotations

from .exporter import onnx_from_checkpoint

__all__ = ["onnx_from_checkpoint"]
