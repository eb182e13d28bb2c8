"""Bimodal integration: signs of key channels moved into the queries, so that keys have one peak.

C. Lv et al., "PTQ4SAM: Post-Training Quantization for Segment Anything", CVPR 2024, arXiv
2405.03144, section 3.2. In some attentions of SAM half of the key channels lie around +m and the
others around -m. As ``q . k = sum_j (g_j q_j) (g_j k_j)`` for any signs g, the negative channels
can be turned round by negating rows of both projections: the scores stay the same to the bit, and a
quantizer of the keys has one peak to cover instead of two.

Two limits follow from SAM 2: where queries are max-pooled (the first block of a stage) the fold is
not exact, because ``max(-q) != -max(q)``, so it is left out; and rotary embeddings turn pairs of
channels, which therefore share a sign.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from ..._common.progress import progress
from ..data import Images
from ..histogram import Histogram

_BANDWIDTH = 0.1
_POINTS = 256
_VALLEY = 0.8
_LOWEST_PEAK = 0.1


Rows = tuple[int, "int | None"]


@dataclass(frozen=True)
class Projections:
    """The query and key projections of one attention.

    Attributes:
        query: the layer of the queries.
        key: the layer of the keys; may be the same.
        query_rows: first and last (exclusive) of its outputs that are queries; None for the end.
        key_rows: the same for the keys.
        tied: neighbouring channels that need one sign: 2 with rotary embeddings, else 1.
    """

    query: nn.Linear
    key: nn.Linear
    query_rows: Rows = (0, None)
    key_rows: Rows = (0, None)
    tied: int = 1


@dataclass
class KeyStatistics:
    """What was seen of one attention's keys: a histogram of all, and the sum of every channel."""

    histogram: Histogram = field(default_factory=Histogram)
    total: torch.Tensor | None = None

    def add(self, keys: torch.Tensor) -> None:
        """Add keys ``[..., channels]``."""
        self.histogram.add(keys, float(keys.abs().max()))
        rows = keys.reshape(-1, keys.shape[-1]).double().sum(dim=0)
        self.total = rows if self.total is None else self.total + rows


def foldable_attentions(model: nn.Module) -> dict[str, Projections]:
    """Return the attentions of a SAM2 model in which a fold is exact, by name."""
    found = {}
    for name, module in model.named_modules():
        # By name, because importing sam2 for a comparison of types takes seconds.
        read = _READERS.get(type(module).__name__)
        projections = read(module) if read else None
        if projections is not None:
            found[name] = projections
    return found


@torch.no_grad()
def key_statistics(
    run: Callable[[torch.Tensor], Any], attentions: Mapping[str, Projections], images: Images
) -> dict[str, KeyStatistics]:
    """Run the images and return the statistics of the keys of the attentions that ran."""
    found: dict[str, KeyStatistics] = {}
    with _observed(attentions, found):
        for image in progress(images, "keys", total=len(images), unit="image"):
            run(image)
    return found


def is_bimodal(histogram: Histogram) -> bool:
    """Return whether the density has one peak on either side of zero and a valley between.

    The density is a Gaussian kernel estimate whose bandwidth is a tenth of the standard deviation.
    The lower peak has at least a tenth of the height of the other, and the valley is at most 80 %
    of it.
    """
    density, points = _density(histogram)
    left, right = density[points < 0], density[points > 0]
    if not len(left) or not len(right):
        return False
    lower, higher = sorted((float(left.max()), float(right.max())))
    first, second = int(left.argmax()), len(density) - len(right) + int(right.argmax())
    valley = float(density[first : second + 1].min())
    return lower >= _LOWEST_PEAK * higher and valley <= _VALLEY * lower


def fold_signs(projections: Projections, means: torch.Tensor) -> int:
    """Negate the query and key channels whose keys are negative on average, in place.

    Args:
        projections: of one attention.
        means: mean of every key channel, or any multiple of all, ``[channels]``.

    Returns:
        The number of negated channels.
    """
    shared = means.reshape(-1, projections.tied).sum(dim=1)
    signs = torch.where(shared < 0, -1.0, 1.0).repeat_interleave(projections.tied)
    for layer, rows in (
        (projections.query, projections.query_rows),
        (projections.key, projections.key_rows),
    ):
        _scale_rows(layer, rows, signs)
    return int((signs < 0).sum())


def _hiera(attention: Any) -> Projections | None:
    width = attention.proj.in_features
    if attention.q_pool is not None:
        return None
    return Projections(attention.qkv, attention.qkv, (0, width), (width, 2 * width))


def _plain(attention: Any) -> Projections:
    return Projections(attention.q_proj, attention.k_proj)


def _rotary(attention: Any) -> Projections:
    return Projections(attention.q_proj, attention.k_proj, tied=2)


_READERS: dict[str, Callable[[Any], Projections | None]] = {
    "MultiScaleAttention": _hiera,
    "Attention": _plain,
    "RoPEAttention": _rotary,
}


@torch.no_grad()
def _scale_rows(layer: nn.Linear, rows: Rows, factors: torch.Tensor) -> None:
    chosen = slice(*rows)
    layer.weight[chosen] *= factors[:, None].to(layer.weight)
    if layer.bias is not None:
        layer.bias[chosen] *= factors.to(layer.bias)


@contextmanager
def _observed(
    attentions: Mapping[str, Projections], found: dict[str, KeyStatistics]
) -> Iterator[None]:
    def hook_for(name: str, rows: Rows) -> Callable[[Any, Any, torch.Tensor], None]:
        def hook(_: Any, __: Any, output: torch.Tensor) -> None:
            found.setdefault(name, KeyStatistics()).add(output[..., slice(*rows)])

        return hook

    handles = [
        attention.key.register_forward_hook(hook_for(name, attention.key_rows))
        for name, attention in attentions.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _density(histogram: Histogram) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a kernel density estimate at equally spaced points over the range."""
    filled = torch.nonzero(histogram.counts).flatten()
    values, counts = histogram.centres()[filled], histogram.counts[filled]
    mean = (counts @ values) / counts.sum()
    std = ((counts @ (values - mean).square()) / counts.sum()).sqrt().clamp_min(1e-12)
    points = torch.linspace(-3.0, 3.0, _POINTS, dtype=torch.float64) * std + mean
    distance = (points[:, None] - values[None]) / (_BANDWIDTH * std)
    return torch.exp(-0.5 * distance.square()) @ counts, points
