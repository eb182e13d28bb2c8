"""Post-training quantization methods behind one interface; imports calibration and quant.

A new method is one file: a subclass of :class:`PtqMethod` under ``@register_ptq("name")``, which
is imported here so that it registers itself.
"""

from __future__ import annotations

from . import clip_rules, gptq_method, ptq4sam, reconstruction  # noqa: F401  (they register)
from .method import PtqJob, PtqMethod, make_ptq, ptq_names, register_ptq
from .options import PtqOptions

__all__ = ["PtqJob", "PtqMethod", "PtqOptions", "make_ptq", "ptq_names", "register_ptq"]
