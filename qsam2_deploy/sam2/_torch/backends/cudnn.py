"""``torch.backends.cudnn``: flags that change nothing."""

from __future__ import annotations

allow_tf32 = benchmark = deterministic = enabled = False
