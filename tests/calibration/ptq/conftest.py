import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

from qsam2_deploy.calibration.ptq.reconstruction import Block
from qsam2_deploy.calibration.start import start_from_statistics, start_weights
from qsam2_deploy.calibration.statistics import LayerStatistics, collect_statistics
from qsam2_deploy.quant.layers.modules import LayerPlan, quantize_layers, quantized_layers

WIDTH = 24


@dataclass(frozen=True)
class TinyBlock:
    """A float block of two linear layers, correlated inputs for it, and quantized copies."""

    module: nn.Module
    inputs: list[torch.Tensor]
    statistics: dict[str, LayerStatistics]

    def quantized(self, weight_bits: int, input_bits: int, **plan: Any) -> Block:
        """Return a quantized copy; ``plan`` holds other arguments of ``LayerPlan``."""
        module = copy.deepcopy(self.module)
        plans = {n: LayerPlan(weight_bits, input_bits, **plan) for n in self.statistics}
        for name, layer in quantize_layers(module, plans).items():
            start_weights(layer)
            start_from_statistics(layer.input_quantizer, self.statistics[name])
        module.eval().requires_grad_(False)
        targets = [self.module(x) for x in self.inputs]
        layers = quantized_layers(module)
        return Block(module, layers, self.statistics, self.inputs, self.inputs, targets)


@pytest.fixture
def tiny_block(correlated) -> TinyBlock:
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
