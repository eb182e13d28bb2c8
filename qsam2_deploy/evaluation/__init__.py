"""Scores against ground truth: J, F and J&F of videos by the rules of DAVIS and SA-V, mIoU."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_LAZY = {
    "Evaluation": "results",
    "EvaluationConfig": "run",
    "boundary_accuracy": "metrics",
    "evaluate": "scoring",
    "first_prompts": "prompts",
    "region_similarity": "metrics",
    "run_evaluation": "run",
}

__all__ = [
    "Evaluation",
    "EvaluationConfig",
    "boundary_accuracy",
    "evaluate",
    "first_prompts",
    "region_similarity",
    "run_evaluation",
]

if TYPE_CHECKING:
    from .metrics import boundary_accuracy, region_similarity
    from .prompts import first_prompts
    from .results import Evaluation
    from .run import EvaluationConfig, run_evaluation
    from .scoring import evaluate


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
