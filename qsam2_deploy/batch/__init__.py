"""Many videos, by several processes or machines, each finished once; imports evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._common.lazy import lazy_names

_LAZY = {
    "BatchOptions": "options",
    "BatchSummary": "summary",
    "Job": "jobs",
    "Outcome": "outcome",
    "jobs_from_davis": "jobs",
    "jobs_from_folder": "jobs",
    "jobs_from_manifest": "jobs",
    "jobs_from_sav": "jobs",
    "run_batch": "run",
}

__all__ = [
    "BatchOptions",
    "BatchSummary",
    "Job",
    "Outcome",
    "jobs_from_davis",
    "jobs_from_folder",
    "jobs_from_manifest",
    "jobs_from_sav",
    "run_batch",
]

if TYPE_CHECKING:
    from .jobs import Job, jobs_from_davis, jobs_from_folder, jobs_from_manifest, jobs_from_sav
    from .options import BatchOptions
    from .outcome import Outcome
    from .run import run_batch
    from .summary import BatchSummary

__getattr__, __dir__ = lazy_names(__name__, _LAZY, __all__)
