"""Export: a checkpoint becomes one ``model.onnx`` (needs torch, sam2 and onnx)."""

from __future__ import annotations

from .exporter import onnx_from_checkpoint

__all__ = ["onnx_from_checkpoint"]
