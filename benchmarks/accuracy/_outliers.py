"""The same function with the weight outliers of a real checkpoint.

A model that was trained from scratch is easy to quantize: its largest weights are 3 to 6 standard
deviations, where those of SAM 2.1 base+ are 11.4 at the median and up to 39. Here channels between
a LayerNorm and the linear layers that read it, and between the values of an attention and its
output projection, are scaled down on one side and up on the other. That changes no output beyond
rounding, but gives weights the wanted peaks. The second layer of an MLP has no linear neighbour and
stays as it is.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from qsam2_deploy.errors import InputError

SHARE = 0.03
"""Share of the channels that are scaled, at least one."""

_LAYER = re.compile(r"image_encoder\.trunk\.blocks\.(\d+)\.(attn\.qkv|attn\.proj|mlp\.layers\.0)")
_LARGEST_FACTOR = 256.0
_SMALLEST_SHARE = 0.5
_BISECTIONS = 40


@dataclass(frozen=True)
class Scaled:
    """What became of one layer.

    Attributes:
        name: of the layer.
        wanted: its peak by standard deviation in the real checkpoint.
        before: the same of this checkpoint.
        after: the same when its inputs are scaled; below ``wanted`` where the layer is too narrow.
    """

    name: str
    wanted: float
    before: float
    after: float


@dataclass(frozen=True)
class _Place:
    """A layer that reads scaled channels: ``shrink`` divides them, ``readers`` multiply them."""

    name: str
    reader: nn.Linear
    others: Sequence[nn.Linear]
    shrink: Callable[[torch.Tensor], None]


def peak_ratio(weight: torch.Tensor) -> float:
    """Return the largest magnitude of a weight by its standard deviation."""
    return float(weight.abs().max() / weight.double().std())


def real_peaks(statistics: Path) -> dict[str, list[float]]:
    """Return the ratios of a real checkpoint by role (``attn.qkv``, ...), in order of depth.

    Args:
        statistics: CSV with the columns name, std, min and max of every tensor.

    Raises:
        InputError: the file cannot be read, or holds no such layers.
    """
    found: dict[str, list[float]] = {}
    try:
        with statistics.open(newline="", encoding="utf-8") as stream:
            for row in csv.DictReader(stream):
                match = re.fullmatch(_LAYER.pattern + r"\.weight", row["name"])
                if match:
                    peak = max(abs(float(row["min"])), abs(float(row["max"])))
                    found.setdefault(match[2], []).append(peak / float(row["std"]))
    except (OSError, UnicodeDecodeError, KeyError, ValueError) as error:
        raise InputError(f"cannot read the weight statistics {statistics}: {error}") from error
    if not found:
        raise InputError(f"the weight statistics {statistics} hold no layers of a trunk")
    return found


@torch.no_grad()
def add_outliers(model: Any, peaks: Mapping[str, Sequence[float]], seed: int = 0) -> list[Scaled]:
    """Scale channels of the trunk's blocks in place until their weights have the wanted peaks.

    Args:
        model: a float SAM2 model.
        peaks: of :func:`real_peaks`; a block takes those of the same relative depth.
        seed: of the choice of channels.

    Returns:
        A row per scaled layer.
    """
    generator = torch.Generator().manual_seed(seed)
    blocks = list(model.image_encoder.trunk.blocks)
    rows = []
    for number, block in enumerate(blocks):
        for place in _places(block):
            ratios = peaks[place.name]
            wanted = ratios[round(number / max(1, len(blocks) - 1) * (len(ratios) - 1))]
            before = peak_ratio(place.reader.weight)
            _scale(place, wanted, generator)
            name = f"image_encoder.trunk.blocks.{number}.{place.name}"
            rows.append(Scaled(name, wanted, before, peak_ratio(place.reader.weight)))
    return rows


def _places(block: Any) -> list[_Place]:
    shortcut = [block.proj] if block.dim != block.dim_out else []
    # The output projection first, because it changes the values' part of the first layer.
    return [
        _Place("attn.proj", block.attn.proj, [], lambda k: _shrink_values(block.attn, k)),
        _Place("attn.qkv", block.attn.qkv, shortcut, lambda k: _shrink(block.norm1, k)),
        _Place("mlp.layers.0", block.mlp.layers[0], [], lambda k: _shrink(block.norm2, k)),
    ]


def _shrink(norm: nn.LayerNorm, factors: torch.Tensor) -> None:
    norm.weight.div_(factors)
    norm.bias.div_(factors)


def _shrink_values(attention: Any, factors: torch.Tensor) -> None:
    first = 2 * attention.proj.in_features  # queries and keys come before the values
    attention.qkv.weight[first:].div_(factors[:, None])
    attention.qkv.bias[first:].div_(factors)


def _scale(place: _Place, wanted: float, generator: torch.Generator) -> None:
    weight = place.reader.weight
    if peak_ratio(weight) >= wanted:
        return
    width = weight.shape[1]
    chosen = torch.randperm(width, generator=generator)[: max(1, int(SHARE * width))]
    spread = _SMALLEST_SHARE + (1 - _SMALLEST_SHARE) * torch.rand(len(chosen), generator=generator)
    # Many large columns raise the deviation too: in a narrow layer only fewer give the wanted peak.
    while len(chosen) > 1 and _ratio(weight, chosen, spread * _LARGEST_FACTOR) < wanted:
        chosen, spread = chosen[: len(chosen) // 2], spread[: len(chosen) // 2]
    factors = torch.ones(width)
    factors[chosen] = (spread * _factor(weight, chosen, spread, wanted)).clamp_min(1.0)
    place.shrink(factors)
    for layer in (place.reader, *place.others):
        layer.weight.mul_(factors)


def _ratio(weight: torch.Tensor, chosen: torch.Tensor, factors: torch.Tensor) -> float:
    scaled = weight.clone()
    scaled[:, chosen] *= factors.clamp_min(1.0)
    return peak_ratio(scaled)


def _factor(
    weight: torch.Tensor, chosen: torch.Tensor, spread: torch.Tensor, wanted: float
) -> float:
    """Bisect for the factor of the chosen columns at which the peak is ``wanted``."""
    low, high = 1.0, _LARGEST_FACTOR
    for _ in range(_BISECTIONS):
        middle = (low * high) ** 0.5
        reached = _ratio(weight, chosen, spread * middle) >= wanted
        low, high = (low, middle) if reached else (middle, high)
    return high
