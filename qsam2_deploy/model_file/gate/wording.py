"""How a file that cannot have been exported is told."""

from __future__ import annotations

import os

from ..._common.contradictions import shown
from ...errors import ModelFileError

__all__ = ["refusal", "shown"]


def refusal(origin: str | os.PathLike[str], what: str) -> ModelFileError:
    """Return the error about a file that qsam2-export cannot have written.

    Args:
        origin: the file.
        what: is wrong with it and what was expected.
    """
    return ModelFileError(
        f"{os.fspath(origin)} is no model of qsam2-export: {what}; export the checkpoint again"
    )
