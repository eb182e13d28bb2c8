"""Scores against ground truth: J, F and J&F of videos, mIoU; imports data and predictors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._common.lazy import lazy_names

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

__getattr__, __dir__ = lazy_names(__name__, _LAZY, __all__)
