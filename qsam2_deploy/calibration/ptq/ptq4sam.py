"""The part of PTQ4SAM that belongs into a checkpoint: the fold of the signs of the keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ..data import Images
from .method import PtqMethod, register_ptq
from .sign_fold import fold_signs, foldable_attentions, is_bimodal, key_statistics


@register_ptq("ptq4sam")
class Ptq4SamPtq(PtqMethod):
    """Clips of least error after bimodal integration.

    Keys and attention probabilities are float in our scopes; the quantizers of PTQ4SAM for them are
    in :mod:`.attention`, for PyTorch only.
    """

    def prepare(
        self, model: nn.Module, images: Images, start: Callable[[], Callable[[torch.Tensor], Any]]
    ) -> None:
        """Fold the signs of the attentions whose keys are bimodal, in place."""
        attentions = foldable_attentions(model)
        folded = {}
        for name, statistics in key_statistics(start(), attentions, images).items():
            if statistics.total is not None and is_bimodal(statistics.histogram):
                folded[name] = fold_signs(attentions[name], statistics.total)
        self.notes["folded_channels"] = folded
