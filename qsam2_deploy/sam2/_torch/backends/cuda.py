"""``torch.backends.cuda``: flags that change nothing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

matmul = SimpleNamespace(allow_tf32=False)


def _nothing(*_args: Any, **_kwargs: Any) -> None:
    """Do nothing."""


enable_flash_sdp = enable_math_sdp = enable_mem_efficient_sdp = _nothing
