from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from qsam2_deploy.calibration.clip import histogram_clip, weight_clip
from qsam2_deploy.calibration.ptq.reconstruction import Block
from qsam2_deploy.calibration.statistics import LayerStatistics, collect_statistics
from qsam2_deploy.quant.grid import Grid
from qsam2_deploy.quant.modules import LayerPlan, quantize_layers, quantized_layers
from qsam2_deploy.quant.quantizer import tensor_statistics

WIDTH = 24


@dataclass(frozen=True)
class TinyBlock:
    """A float block of two linear layers, correlated inputs for it, and quantized copies."""

    module: nn.Module
    inputs: list[torch.Tensor]
    statistics: dict[str, LayerStatistics]

    def quantized(self, weight_bits: int, input_bits: int, *, half: bool = False) -> Block:
        module = copy.deepcopy(self.module)
        plan = {n: LayerPlan(weight_bits, input_bits, half_steps=half) for n in self.statistics}
        for name, layer in quantize_layers(module, plan).items():
            rows, seen = layer.weight_rows().detach(), self.statistics[name]
            layer.weight_quantizer.warm_start(
                weight_clip(rows, Grid(weight_bits)), *tensor_statistics(rows, per_row=True)
            )
            clip = histogram_clip(seen.histogram, Grid(input_bits))
            layer.input_quantizer.warm_start(
                torch.tensor(clip), torch.tensor(seen.std), torch.tensor(seen.mean)
            )
        module.eval().requires_grad_(False)
        targets = [self.module(x) for x in self.inputs]
        layers = quantized_layers(module)
        return Block(module, layers, self.statistics, self.inputs, self.inputs, targets)


@pytest.fixture
def tiny_block(correlated: Callable[[int], torch.Tensor]) -> TinyBlock:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))
    module.eval().requires_grad_(False)
    inputs = [correlated(seed).reshape(1, 8, 8, WIDTH) for seed in range(3)]
    layers = {"0": module[0], "2": module[2]}
    statistics = collect_statistics(module, layers, inputs, count=3, grams=False)
    return TinyBlock(module, inputs, statistics)


@pytest.fixture(scope="session")
def correlated() -> Callable[[int], torch.Tensor]:
    """Inputs ``[64, WIDTH]`` whose channels are correlated, as those of trained layers are."""
    generator = torch.Generator().manual_seed(1)
    mixing = torch.randn(WIDTH, WIDTH, generator=generator) * torch.logspace(0, -2, WIDTH)

    def make(seed: int) -> torch.Tensor:
        noise = torch.randn(64, WIDTH, generator=torch.Generator().manual_seed(seed))
        return noise @ mixing

    return make
