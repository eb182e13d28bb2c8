"""What scripts import from ``sam2.modeling.sam2_base``: a name to ask ``isinstance`` with."""

from __future__ import annotations

from ...predictors.module_like import ModuleLike as SAM2Base
from ...spec import NO_OBJ_SCORE

__all__ = ["NO_OBJ_SCORE", "SAM2Base"]
