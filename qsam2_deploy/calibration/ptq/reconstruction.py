"""BRECQ and QDrop: making the output of every block of the trunk what it was in float.

BRECQ: Y. Li et al., "BRECQ: Pushing the Limit of Post-Training Quantization by Block
Reconstruction", ICLR 2021, arXiv 2102.05426, section 3.3 and algorithm 1. QDrop: X. Wei et al.,
ICLR 2022, arXiv 2203.05740. A block is one of Hiera's; what runs elsewhere keeps its start.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from ..._common.progress import progress
from ...quant.layers.modules import QuantLayer, quantized_layers
from ..statistics import LayerStatistics, is_heldout
from .bypass import PARTS, bypassed, replaced
from .method import PtqJob, PtqMethod, register_ptq
from .options import PtqOptions
from .rounding import SoftRounding
from .steps import LearnedStep, mix
from .streams import affordable, first_inputs, outputs, squared_error

TRUNK = "image_encoder.trunk.blocks"

_WEIGHT, _INPUT = PARTS
_WARM_UP = 0.2
_FIRST_BETA, _LAST_BETA = 20.0, 2.0
# In units of the error of plain rounding per weight. With 1 and below, many weights are still
# undecided at the end, and rounding these undoes what was learned.
_REGULARISER = 100.0
_TINY = 1e-30


@dataclass(frozen=True)
class Block:
    """One block with what its quantized layers should reproduce.

    Attributes:
        module: the block.
        layers: its quantized layers by name.
        statistics: of the inputs of these layers.
        inputs: what it gets in the quantized model, one ``[1, H, W, C]`` per image.
        float_inputs: what it gets in the float model.
        targets: what it gives in the float model.
    """

    module: nn.Module
    layers: Mapping[str, QuantLayer]
    statistics: Mapping[str, LayerStatistics]
    inputs: Sequence[torch.Tensor]
    float_inputs: Sequence[torch.Tensor]
    targets: Sequence[torch.Tensor]

    def error(self) -> float:
        """Return the squared error of the block's outputs, as it is now."""
        return squared_error(outputs(self.module, self.inputs), self.targets)


class _Reconstruction(PtqMethod):
    """Goes through the blocks in the order in which they run."""

    def refine(self, job: PtqJob) -> None:
        """Learn the rounding and the activation steps of the blocks of the trunk, in place."""
        encoder = job.model.image_encoder
        blocks = list(encoder.trunk.blocks)
        names = {id(layer): name for name, layer in job.layers.items()}
        images = self._images(job)
        quantized = first_inputs(encoder, blocks[0], images, "block inputs")
        with bypassed(job.layers.values()):
            plain = first_inputs(encoder, blocks[0], images, "block inputs")
        generator = torch.Generator().manual_seed(self.options.seed)
        for number, module in enumerate(progress(blocks, self.name, unit="block")):
            layers = {names[id(x)]: x for x in quantized_layers(module).values() if id(x) in names}
            with bypassed(layers.values()):
                targets = outputs(module, plain)
            block = Block(module, layers, job.statistics, quantized, plain, targets)
            if layers:
                self.notes[f"{TRUNK}.{number}"] = self._keep_if_better(block, generator)
            quantized, plain = outputs(module, quantized), targets

    def reconstruct(self, block: Block, generator: torch.Generator) -> None:
        """Learn the weights and the activation steps of one block, in place."""
        raise NotImplementedError

    def _images(self, job: PtqJob) -> list[torch.Tensor]:
        """Return the images that are not held out, as many as the budget allows."""
        count = len(job.images)
        used = [i for i in range(count) if not is_heldout(i, count)]
        blocks = job.model.image_encoder.trunk.blocks
        (first,) = first_inputs(job.model.image_encoder, blocks[0], [job.images[used[0]]], "size")
        return [job.images[i] for i in used[: affordable(first, job.memory_budget)]]

    def _keep_if_better(self, block: Block, generator: torch.Generator) -> dict[str, float]:
        """Reconstruct the block, unless that is for the worse; return the relative errors."""
        signal = max(sum(float(y.double().square().sum()) for y in block.targets), _TINY)
        before = after = block.error()
        if before > 0.0:
            saved = {layer: copy.deepcopy(layer.state_dict()) for layer in block.layers.values()}
            self.reconstruct(block, generator)
            after = block.error()
            if not after <= before:
                for layer, state in saved.items():
                    layer.load_state_dict(state)
        return {
            "error_before": math.sqrt(before / signal),
            "error_after": math.sqrt(min(before, after) / signal),
        }


@register_ptq("brecq")
class BrecqPtq(_Reconstruction):
    """First the rounding of the weights with float activations, then the activation steps."""

    def reconstruct(self, block: Block, generator: torch.Generator) -> None:
        """Learn both, one after the other."""
        rounding = _soft_roundings(block)
        float_inputs = {layer: {_INPUT: nn.Identity()} for layer in block.layers.values()}
        with replaced(float_inputs):
            _optimise(block, self.options, generator, rounding=rounding)
        steps = {name: LearnedStep(layer) for name, layer in block.layers.items()}
        _optimise(block, self.options, generator, steps=steps)


@register_ptq("qdrop")
class QDropPtq(_Reconstruction):
    """Rounding and activation steps at once, while activations are left unquantized at random.

    The block's own input is mixed from those of the float and the quantized model in the same way.
    """

    def reconstruct(self, block: Block, generator: torch.Generator) -> None:
        """Learn both together; nothing is dropped any more afterwards."""
        drop = self.options.drop
        rounding = _soft_roundings(block)
        steps = {name: LearnedStep(layer, drop, generator) for name, layer in block.layers.items()}
        _optimise(block, self.options, generator, rounding=rounding, steps=steps, drop=drop)


def _soft_roundings(block: Block) -> dict[str, SoftRounding]:
    return {
        name: SoftRounding(layer.weight_rows(), layer.weight_quantizer)
        for name, layer in block.layers.items()
    }


def _optimise(
    block: Block,
    options: PtqOptions,
    generator: torch.Generator,
    *,
    rounding: Mapping[str, SoftRounding] | None = None,
    steps: Mapping[str, LearnedStep] | None = None,
    drop: float = 0.0,
) -> None:
    """Learn the rounding or the steps, or both, and give the results to the layers."""
    rounding, steps = rounding or {}, steps or {}
    modules: dict[QuantLayer, dict[str, nn.Module]] = {
        layer: {
            **({_WEIGHT: rounding[name]} if name in rounding else {}),
            **({_INPUT: steps[name]} if name in steps else {}),
        }
        for name, layer in block.layers.items()
    }
    # The error of plain rounding is the unit: one for each weight, whatever the block's scale.
    unit = max(block.error() / len(block.inputs), _TINY)
    with replaced(modules), torch.enable_grad():
        _learn(block, options, generator, list(rounding.values()), list(steps.values()), drop, unit)
    for name, soft in rounding.items():
        layer = block.layers[name]
        layer.weight.data.copy_(layer.weight_from_quantizer(soft.hard()))
    for name, step in steps.items():
        step.settle(block.layers[name], block.statistics[name])


def _learn(
    block: Block,
    options: PtqOptions,
    generator: torch.Generator,
    rounding: Sequence[SoftRounding],
    steps: Sequence[LearnedStep],
    drop: float,
    unit: float,
) -> None:
    groups = [
        {"params": [soft.v for soft in rounding], "lr": options.rounding_rate},
        {"params": [step.log_factor for step in steps], "lr": options.step_rate},
    ]
    optimiser = torch.optim.Adam([group for group in groups if group["params"]])
    weights = max(1, sum(soft.v.numel() for soft in rounding))
    for number in range(options.iterations):
        x, target = _batch(block, options.batch, drop, generator)
        error = (block.module(x) - target).square().sum() / len(x)
        loss = weights * error / unit
        if number >= _WARM_UP * options.iterations:
            beta = _beta(number / options.iterations)
            loss = loss + _REGULARISER * sum(soft.regulariser(beta) for soft in rounding)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def _batch(
    block: Block, size: int, drop: float, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    chosen = torch.randint(len(block.inputs), (size,), generator=generator).tolist()
    x = torch.cat([block.inputs[i] for i in chosen])
    if drop > 0.0:
        x = mix(torch.cat([block.float_inputs[i] for i in chosen]), x, drop, generator)
    return x, torch.cat([block.targets[i] for i in chosen])


def _beta(share: float) -> float:
    """Fall linearly from the first to the last beta after the warm-up."""
    done = (share - _WARM_UP) / (1.0 - _WARM_UP)
    return _FIRST_BETA + (_LAST_BETA - _FIRST_BETA) * done
