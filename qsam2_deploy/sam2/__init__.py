"""The modules of the package ``sam2`` that scripts import, over our predictors; imports those.

``from qsam2_deploy.sam2.build_sam import build_sam2`` is what ``from sam2.build_sam import
build_sam2`` would be, with an exported model instead of a torch module. ``qsam2-run SCRIPT.py``
gives a script that says the latter the former.
"""

from __future__ import annotations

from .._common.version import __version__

__all__ = ["__version__"]
