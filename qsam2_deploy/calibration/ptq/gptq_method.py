"""GPTQ for all linear layers of a model."""

from __future__ import annotations

import torch

from ..._common.progress import progress
from ...quant.layers.modules import QuantLayer, QuantLinear
from ..statistics import LayerStatistics, collect_statistics, layer_groups
from ..vrc import relative_output_error
from .bypass import bypassed
from .gptq import gptq
from .method import PtqJob, PtqMethod, register_ptq


@register_ptq("gptq")
class GptqPtq(PtqMethod):
    """GPTQ on steps of least squared error; convolutions keep plain rounding.

    The Gram matrices are those of the float model, as VRC's are, so that one pass serves all
    layers; the paper goes block by block through the quantized model. A layer keeps plain rounding
    if GPTQ's codes have the larger output error on held-out images.
    """

    @torch.no_grad()
    def refine(self, job: PtqJob) -> None:
        """Replace the weights by the solution, which is on the grid of the layer's steps."""
        linears = {n: layer for n, layer in job.layers.items() if isinstance(layer, QuantLinear)}
        groups = list(layer_groups(linears, job.memory_budget))
        found = {}
        for number, group in enumerate(groups, 1):
            part = f" {number}/{len(groups)}" if len(groups) > 1 else ""
            with bypassed(job.layers.values()):
                collected = collect_statistics(
                    job.start(),
                    group,
                    job.images,
                    count=len(job.images),
                    grams=True,
                    most_tokens=job.most_tokens,
                    description=f"Gram matrices{part}",
                )
            for name in progress(list(collected), f"GPTQ{part}", unit="layer"):
                found[name] = self._solve(linears[name], collected.pop(name))
        # Only now, so that every Gram matrix is that of the same model.
        for name, weight in found.items():
            if weight is not None:
                job.layers[name].weight.copy_(weight)
        self.notes["plain_rounding"] = [name for name, weight in found.items() if weight is None]

    def _solve(self, layer: QuantLayer, statistics: LayerStatistics) -> torch.Tensor | None:
        """Return GPTQ's weights, or None if plain rounding is better on held-out images."""
        gram, heldout = statistics.grams
        weight, quantizer = layer.rows(layer.weight), layer.weight_quantizer
        solution = gptq(
            weight,
            gram,
            quantizer.scale,
            quantizer.grid,
            damping=self.options.damping,
            act_order=self.options.act_order,
        )
        rounded = layer.quantized_weight()
        judge = heldout if statistics.heldout_tokens else gram
        error, plain = (relative_output_error(weight, w, judge) for w in (solution, rounded))
        return solution if error <= plain else None
