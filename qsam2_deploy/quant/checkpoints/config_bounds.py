"""Bounds of the numbers in a model configuration, which may come from a stranger."""

from __future__ import annotations

from typing import Any

from ...errors import CheckpointError

_MAX_COUNT = 256
_MAX_WIDTH = 1 << 14
_MAX_NUMBER = 1 << 20
_MAX_SIZE = 4096

_COUNTS = frozenset({
    "num_layers", "depth", "num_heads", "num_maskmem", "stages", "scalp", "q_pool", "kernel_size",
    "stride", "padding", "max_obj_ptrs_in_encoder",
})  # fmt: skip
"""Entries that say how often something is there."""

_WIDTHS = frozenset({
    "embed_dim", "d_model", "embedding_dim", "dim_feedforward", "dim", "in_dim", "out_dim",
    "kv_in_dim", "num_pos_feats", "backbone_channel_list", "total_stride",
})  # fmt: skip


def check_numbers(node: Any, origin: str, key: str = "") -> None:
    """Check all numbers below ``node``, before anything is built from them.

    Args:
        node: of a configuration.
        origin: of it, for the message.
        key: of the entry that ``node`` is.

    Raises:
        CheckpointError: one is larger than any SAM2 model has it.
    """
    if isinstance(node, dict):
        for name, value in node.items():
            check_numbers(value, origin, str(name))
    elif isinstance(node, (list, tuple)):
        for item in node:
            check_numbers(item, origin, key)
    elif isinstance(node, (int, float)):
        limit = _limit(key)
        if not abs(node) <= limit:  # true for NaN, too
            raise CheckpointError(
                f"the configuration {origin} has {node!r:.40} for {key!r:.40}, but may have "
                f"numbers up to {limit}"
            )


def _limit(key: str) -> int:
    if key == "image_size":
        return _MAX_SIZE
    if key in _COUNTS:
        return _MAX_COUNT
    return _MAX_WIDTH if key in _WIDTHS else _MAX_NUMBER
