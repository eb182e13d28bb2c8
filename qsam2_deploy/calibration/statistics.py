"""One pass of images through a model, collecting what calibration needs of every layer's input."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from .._common.progress import progress
from ..errors import Qsam2Error
from ..quant.quantizers.value_statistics import ValueStatistics
from .data import CalibrationImages
from .histogram import Histogram

HOLDOUT_EVERY = 4
"""Every fourth image is held out to measure output errors, if there are as many."""

_ROWS = 8192
_FLOAT64_BYTES = 8


@dataclass
class LayerStatistics:
    """Statistics of the inputs X ``[tokens, features]`` of one layer, over all images.

    Attributes:
        gram: ``X^T X`` of the images that are not held out, float64 ``[features, features]``, or
            None if it was not asked for.
        heldout_gram: the same of the held-out images; zero if there are none.
        tokens: number of rows in ``gram``; fewer than were seen, if they were sampled.
        heldout_tokens: number of rows in ``heldout_gram``.
        count: number of values, held-out images included, as in all that follows.
        total: sum of the values.
        total_abs: sum of the magnitudes.
        total_square: sum of the squares.
        low: smallest value.
        high: largest value.
        histogram: of all values.
    """

    gram: torch.Tensor | None = None
    heldout_gram: torch.Tensor | None = None
    tokens: int = 0
    heldout_tokens: int = 0
    count: int = 0
    total: float = 0.0
    total_abs: float = 0.0
    total_square: float = 0.0
    low: float = math.inf
    high: float = -math.inf
    histogram: Histogram = field(default_factory=Histogram)

    @property
    def grams(self) -> tuple[torch.Tensor, torch.Tensor]:
        """``gram`` and ``heldout_gram``, where they were asked for."""
        if self.gram is None or self.heldout_gram is None:
            raise ValueError("the statistics must be collected with their Gram matrices")
        return self.gram, self.heldout_gram

    @property
    def absmax(self) -> float:
        """Largest magnitude."""
        return max(-self.low, self.high)

    @property
    def mean(self) -> float:
        """Mean of the values."""
        return self.total / self.count

    @property
    def mean_abs(self) -> float:
        """Mean of the magnitudes."""
        return self.total_abs / self.count

    @property
    def std(self) -> float:
        """Standard deviation of the values."""
        return math.sqrt(max(self.total_square / self.count - self.mean**2, 0.0))

    def values(self, device: torch.device | None = None) -> ValueStatistics:
        """Return what quantizers start from, float32 tensors ``[]``."""
        numbers = (self.mean, self.std, self.mean_abs, self.low, self.high)
        return ValueStatistics(*(torch.tensor(number, device=device) for number in numbers))

    def add(self, x: torch.Tensor, *, heldout: bool, most: int | None = None) -> None:
        """Add rows ``x [n, features]``; of these at most ``most``, at random, to the Gram matrix.

        Raises:
            ValueError: a value is not finite.
        """
        if not x.numel():
            return
        for rows in torch.split(x, _ROWS):
            self._add_values(rows)
        used = self._sampled(x, most)
        gram = self.heldout_gram if heldout else self.gram
        if gram is not None:
            for rows in torch.split(used, _ROWS):
                precise = rows.double()
                gram.addmm_(precise.T, precise)
        if heldout:
            self.heldout_tokens += len(used)
        else:
            self.tokens += len(used)

    def _sampled(self, x: torch.Tensor, most: int | None) -> torch.Tensor:
        if most is None or len(x) <= most:
            return x
        # Seeded by what came before, so that the choice depends on nothing else.
        generator = torch.Generator().manual_seed(self.tokens + self.heldout_tokens)
        return x[torch.randperm(len(x), generator=generator)[:most].to(x.device)]

    def _add_values(self, rows: torch.Tensor) -> None:
        precise = rows.double()
        low, high = map(float, torch.aminmax(rows))
        if not math.isfinite(high - low):
            raise ValueError("not finite")
        self.count += rows.numel()
        self.total += float(precise.sum())
        self.total_abs += float(precise.abs().sum())
        self.total_square += float(precise.square().sum())
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.histogram.add(rows, max(-low, high))


def is_heldout(index: int, count: int) -> bool:
    """Return whether image ``index`` of ``count`` is held out."""
    return count >= HOLDOUT_EVERY and index % HOLDOUT_EVERY == HOLDOUT_EVERY - 1


def collect_statistics(
    model: Callable[[torch.Tensor], Any],
    layers: Mapping[str, nn.Module],
    images: Iterable[torch.Tensor],
    *,
    count: int,
    grams: bool,
    most_tokens: int | None = None,
    description: str = "statistics",
) -> dict[str, LayerStatistics]:
    """Run ``images`` through ``model`` once and return the input statistics of ``layers``.

    Activations are never stored; the Gram matrices take 16 bytes per squared feature.

    Args:
        model: is called with each image.
        layers: layers inside it, by name; the Gram matrices are those of linear layers.
        images: inputs ``[1, 3, S, S]``.
        count: number of images, to choose the held-out ones and for the progress bar.
        grams: also accumulate the Gram matrices.
        most_tokens: rows that enter a Gram matrix each time a layer runs, chosen at random; None
            for all. For large images, whose Gram matrices take longest.
        description: for the progress bar.

    Returns:
        By name, in the order in which the layers run.

    Raises:
        Qsam2Error: an activation is not finite, or a layer never ran; the message names the layer
            and, for the former, the image.
    """
    found: dict[str, LayerStatistics] = {}
    current = 0

    def observe(name: str, x: torch.Tensor) -> None:
        if name not in found:
            found[name] = _empty_statistics(x.shape[-1], grams, x.device)
        try:
            found[name].add(
                x.detach().reshape(-1, x.shape[-1]),
                heldout=is_heldout(current, count),
                most=most_tokens,
            )
        except ValueError as error:
            raise Qsam2Error(
                f"the inputs of the layer {name} are not finite on the calibration image "
                f"{_image_name(images, current)}; the checkpoint is damaged or its training "
                "diverged, or the image is to be left out"
            ) from error

    with torch.no_grad(), observed_inputs(layers, observe):
        for index, image in enumerate(progress(images, description, total=count, unit="image")):
            current = index
            model(image)
    unseen = next((n for n in layers if n not in found or not found[n].count), None)
    if unseen is not None:
        raise Qsam2Error(
            f"the layer {unseen} never ran on the calibration images, so there are no statistics "
            "for it; leave it in float with a plan"
        )
    return found


def layer_groups(
    layers: Mapping[str, nn.Linear], budget_bytes: int
) -> Iterator[dict[str, nn.Linear]]:
    """Split layers into groups whose Gram matrices fit ``budget_bytes``; at least one in each."""
    group: dict[str, nn.Linear] = {}
    used = 0
    for name, layer in layers.items():
        size = 2 * _FLOAT64_BYTES * layer.in_features**2
        if group and used + size > budget_bytes:
            yield group
            group, used = {}, 0
        group[name] = layer
        used += size
    if group:
        yield group


def _image_name(images: object, index: int) -> str:
    return images.name(index) if isinstance(images, CalibrationImages) else f"number {index + 1}"


def _empty_statistics(features: int, grams: bool, device: torch.device) -> LayerStatistics:
    if not grams:
        return LayerStatistics()
    zeros = torch.zeros(features, features, dtype=torch.float64, device=device)
    return LayerStatistics(gram=zeros, heldout_gram=zeros.clone())


@contextmanager
def observed_inputs(
    layers: Mapping[str, nn.Module], observe: Callable[[str, torch.Tensor], None]
) -> Iterator[None]:
    """Call ``observe`` with the name and the input of each layer that runs within the block."""

    def hook_for(name: str) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], None]:
        return lambda _, inputs: observe(name, inputs[0])

    handles = [layer.register_forward_pre_hook(hook_for(name)) for name, layer in layers.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
