"""What a Clip before a QuantizeLinear says about the codes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..onnx_graph.index import GraphIndex, value_of

if TYPE_CHECKING:
    import onnx

Limits = tuple[int, int]
"""The smallest and the largest code."""


def clip_before(index: GraphIndex, quantize: onnx.NodeProto) -> onnx.NodeProto | None:
    """Return the Clip that ``quantize`` alone reads, with constant bounds, if there is one."""
    clip = index.made_by(quantize.input[0], "Clip")
    if clip is None or len(index.users[clip.output[0]]) != 1 or len(clip.input) != 3:
        return None
    return clip if all(bound in index.constants for bound in clip.input[1:]) else None


def code_limits(index: GraphIndex, quantize: onnx.NodeProto, clip: onnx.NodeProto) -> Limits:
    """Return the codes of the bounds of ``clip``; rounding is monotonic, so none are beyond them.

    Args:
        index: of the model.
        quantize: has one constant scale, and codes of 8 bits with sign.
        clip: the node before it.
    """
    scale, zero = (value_of(index.constants[name]).reshape(()) for name in quantize.input[1:])
    bounds = np.array([value_of(index.constants[name]).reshape(()) for name in clip.input[1:]])
    codes = np.clip(np.rint(bounds.astype(np.float32) / scale) + int(zero), -128, 127)
    return int(codes[0]), int(codes[1])


def limit_attributes(prefix: str, limits: Limits) -> dict[str, int]:
    """Return limits as attributes of a kernel: of its input (``x``) or its output (``y``)."""
    return {f"{prefix}_lowest": limits[0], f"{prefix}_highest": limits[1]}
