"""Graph passes, without torch, from the engine-neutral model to what one engine runs best.

Each pass is one file with one function that changes an ``onnx.ModelProto`` in place and returns
how many places it changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

QUERY_BLOCK = 512
"""Queries that attend at a time on a CPU.

The engine packs the keys anew for each block, so small blocks cost time, and large ones memory: of
64, 128, 256, 512 and 4096, memory attention at 1024 pixels was fastest with 512.
"""


def lower_for_ort(component: onnx.ModelProto) -> None:
    """Prepare one component for ONNX Runtime's CPU engine, in place."""
    from .chunk_attention import chunk_attention
    from .integer_matmul import integer_matmul

    # In this order: shapes cannot be inferred through the integer products, which are no ONNX.
    chunk_attention(component, QUERY_BLOCK)
    integer_matmul(component)
