"""The quantizers of a model in training: statistics, widths, and clips that stay positive."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import nn

from ...calibration.start import start_from_statistics, start_weights
from ...calibration.statistics import LayerStatistics
from ...errors import TrainingError
from ...quant.layers.attention import quantized_attentions
from ...quant.layers.modules import (
    ENCODER_PREFIX,
    held_weights,
    quantization_penalty,
    quantized_layers,
)
from ...quant.quantizers.quantizer import Quantizer
from ..config import QuantizerTraining
from ..distributed import World
from ..inputs.samples import InputSamples

_OF_IMAGES = (ENCODER_PREFIX, "sam_mask_decoder.conv_s0", "sam_mask_decoder.conv_s1")
"""How the names of layers start that run once in a step, on all images of the batch.

It would not pay to hold their weights. The other layers run on objects, frame by frame.
"""

_OF_NEITHER = ("obj_ptr_tpos_proj",)
"""What projects the ages of object pointers: the same values in every process."""

_LEAST_SHARE = 0.01
"""Of the clip that a quantizer begins the run with; one that gets smaller begins anew."""

_CHECK_EVERY = 10
"""Steps between two looks at the clips: in so few none can vanish, and a look costs time."""


class QuantizerTrainer:
    """Does for the quantizers what the optimizer does not.

    All quantizers are frozen in the forward pass; their statistics are updated at the end of a
    step, see `samples.py`. A float model has no quantizers, and nothing is done for it.
    """

    def __init__(
        self, model: nn.Module, config: QuantizerTraining, total_steps: int, world: World
    ) -> None:
        """Take over the quantizers of ``model``, in place.

        Args:
            model: with the widths that it shall have in the end.
            config: what to do when.
            total_steps: of the run.
            world: the processes; all end each step with the same statistics.
        """
        self.layers = quantized_layers(model)
        self.config, self.total_steps, self.world = config, total_steps, world
        self._inputs = _inputs(model)
        self._samples = InputSamples(self._inputs)
        self._quantizers = _quantizers(model)
        self._grids = [quantizer.grid for quantizer in self._quantizers]
        self._floors = [_LEAST_SHARE * _clip(quantizer) for quantizer in self._quantizers]
        self._starts = [[p.detach().clone() for p in q.parameters()] for q in self._quantizers]
        self._penalised = nn.ModuleList(
            m for m in model.modules() if isinstance(m, Quantizer) and m.penalty() is not None
        )
        for quantizer in self._quantizers:
            quantizer.frozen = True

    def least_bits(self, step: int) -> int:
        """Return the least width that a layer has in ``step``; 0 for no limit.

        The last step has the final widths, whatever the recipe says.
        """
        for share, bits in self.config.lower:
            if step < min(share * self.total_steps, self.total_steps - 1):
                return bits
        return 0

    @property
    def starts_higher(self) -> bool:
        """Whether the run begins at higher widths than it ends with."""
        return bool(self.layers) and self.least_bits(0) > 0

    def lowers_after(self, step: int) -> bool:
        """Return whether widths are lowered between ``step`` and the next."""
        return bool(self.layers) and self.least_bits(step) != self.least_bits(step + 1)

    def freezes(self, step: int) -> bool:
        """Return whether ``step`` is among the last, in which no statistics change."""
        last = round(self.config.freeze * self.total_steps)
        return step >= self.total_steps - last and not self.lowers_after(step)

    def observes(self, step: int) -> bool:
        """Return whether ``step`` updates the statistics."""
        if not self.layers or self.freezes(step):
            return False
        regular = step < self.config.observe_first or step % self.config.observe_every == 0
        return regular or self.lowers_after(step)

    def set_widths(self, step: int) -> None:
        """Give each quantizer the width that it has in ``step``; its statistics stay."""
        least = self.least_bits(step)
        for quantizer, grid in zip(self._quantizers, self._grids, strict=True):
            quantizer.grid = grid.of_at_least(least)

    def share_batch(self, image_count: int, object_count: int) -> None:
        """Let the gradients of all processes count the values of the whole batch.

        Processes average their gradients, and a quantizer divides its own by the root of the number
        of values (see `Quantizer.batch_share`). Weights are the same everywhere.

        Args:
            image_count: images of this process in this step.
            object_count: objects of this process in this step.
        """
        if not self.layers:
            return
        of_images, of_objects = self.world.shares((image_count, object_count))
        for name, quantizer in self._inputs.items():
            if not name.startswith(_OF_NEITHER):
                quantizer.batch_share = of_images if name.startswith(_OF_IMAGES) else of_objects

    @contextmanager
    def training(self) -> Iterator[None]:
        """Surround the forward and the backward pass of a step."""
        often = [layer for n, layer in self.layers.items() if not n.startswith(_OF_IMAGES)]
        with held_weights(often):
            yield

    @contextmanager
    def forward(self, step: int, image_count: int) -> Iterator[None]:
        """Surround the forward pass of ``step`` on so many images."""
        with ExitStack() as stack:
            if self.observes(step):
                stack.enter_context(self._samples.recorded(image_count))
            yield

    @contextmanager
    def calibration(self, image_count: int) -> Iterator[None]:
        """Surround a forward pass on so many images, from which all quantizers start anew.

        For a run that begins at higher widths than its checkpoint has. Weights are already
        quantized at these widths inside the block; activations pass as they are.
        """
        self.set_widths(0)
        for layer in self.layers.values():
            start_weights(layer)
        inputs = [layer.input_quantizer for layer in self.layers.values()]
        handles = [q.register_forward_hook(lambda _, args, __: args[0]) for q in inputs]
        try:
            with self._samples.recorded(image_count):
                yield
        finally:
            for handle in handles:
                handle.remove()
        self._start_inputs(self._joined_samples(("calibration",)))

    def add_penalty(self) -> None:
        """Add the gradient of what the quantizers' papers add to a loss; see PACT.

        It is the same in all processes, and so kept out of their common backward pass.
        """
        penalty = self.config.penalty * quantization_penalty(self._penalised)
        learned = list(self._penalised.parameters())
        if not learned:
            return
        grads = torch.autograd.grad(penalty, learned, allow_unused=True)
        for parameter, grad in zip(learned, grads, strict=True):
            if grad is not None:
                parameter.grad = grad if parameter.grad is None else parameter.grad + grad

    @torch.no_grad()
    def end_step(self, step: int, clips: Sequence[str] = ()) -> list[str]:
        """Go on after the optimizer has stepped.

        Args:
            step: the step, from 0.
            clips: names of the batch, for messages.

        Returns:
            What the user should know: sentences.

        Raises:
            TrainingError: the inputs of a layer are not finite.
        """
        if not self.layers:
            return []
        notes = []
        if (step + 1) % _CHECK_EVERY == 0 or step + 1 == self.total_steps:
            notes += self._keep_positive()
        samples = self._joined_samples(clips) if self.observes(step) else {}
        if not self.freezes(step):
            self._observe_weights(all_of_them=self.observes(step))
        self._observe_inputs(samples)
        if self.lowers_after(step):
            self.set_widths(step + 1)
            for layer in self.layers.values():
                start_weights(layer)
            self._start_inputs(samples)
            least = min(quantizer.grid.bits for quantizer in self._quantizers)
            notes.append(f"the lowest width is {least} bits from now on")
        if self.freezes(step + 1) and not self.freezes(step) and step + 1 < self.total_steps:
            notes.append("the statistics of the quantizers are frozen from now on")
        return notes

    def copy_to(self, model: nn.Module) -> None:
        """Give the quantizers of ``model``, a copy of this one, the same widths and states."""
        self.copy_widths_to(model)
        for ours, theirs in zip(self._quantizers, _quantizers(model), strict=True):
            theirs.load_state_dict(ours.state_dict())

    def copy_widths_to(self, model: nn.Module) -> None:
        """Give the quantizers of ``model``, a copy of this one, the same widths."""
        for ours, theirs in zip(self._quantizers, _quantizers(model), strict=True):
            theirs.grid = ours.grid

    def _observe_weights(self, *, all_of_them: bool) -> None:
        """Update the statistics of weights: of all, or of those that are anew in every step."""
        for layer in self.layers.values():
            quantizer = layer.weight_quantizer
            if all_of_them or quantizer.recomputes_weights:
                quantizer.observe(layer.weight_rows().detach())

    def _observe_inputs(self, samples: Mapping[str, torch.Tensor]) -> None:
        for name, values in samples.items():
            if values.numel():  # a layer may have had nothing to do
                self._inputs[name].observe(values)

    def _start_inputs(self, samples: Mapping[str, torch.Tensor]) -> None:
        """Start the inputs' quantizers; a layer that did not run keeps its clip."""
        for name, layer in self.layers.items():
            if samples[name].numel():
                statistics = LayerStatistics()
                statistics.add(samples[name][None], heldout=False)
                start_from_statistics(layer.input_quantizer, statistics)

    def _joined_samples(self, clips: Sequence[str]) -> dict[str, torch.Tensor]:
        own = self._samples.take()
        joined = dict(zip(own, self.world.joined(list(own.values())), strict=True))
        if bool(torch.stack([values.isfinite().all() for values in joined.values()]).all()):
            return joined
        bad = next(name for name, values in joined.items() if not bool(values.isfinite().all()))
        raise TrainingError(
            f"the inputs of {bad} are not finite; the batch was made of "
            f"{', '.join(clips)}; check these, or start anew with a lower learning rate"
        )

    def _keep_positive(self) -> list[str]:
        """Let what is learned begin anew where a clip has all but vanished."""
        counts = []
        for quantizer, floor, start in zip(
            self._quantizers, self._floors, self._starts, strict=True
        ):
            small = ~(_clip(quantizer) >= floor)
            for parameter, first in zip(quantizer.parameters(), start, strict=True):
                anew = small if parameter.shape == small.shape else small.any()
                parameter.copy_(torch.where(anew, first, parameter))
            if start:
                counts.append(small.sum())
        found = int(torch.stack(counts).sum()) if counts else 0
        if not found:
            return []
        return [f"{found} clips ran towards zero and begin anew; quantizers.rate may be too high"]


def _inputs(model: nn.Module) -> dict[str, Quantizer]:
    """Return the quantizers of activations: of layers, and of attention products by their part."""
    found = {name: layer.input_quantizer for name, layer in quantized_layers(model).items()}
    for name, attention in quantized_attentions(model).items():
        parts = attention.product.quantizers.items()
        found |= {f"{name}.{part}": quantizer for part, quantizer in parts}
    return found


def _quantizers(model: nn.Module) -> list[Quantizer]:
    """Return all quantizers of a model, in the same order for its copies."""
    weights = [layer.weight_quantizer for layer in quantized_layers(model).values()]
    return [*weights, *_inputs(model).values()]


def _clip(quantizer: Quantizer) -> torch.Tensor:
    """Return the clip threshold, or the width of an affine range, [channels] or []."""
    return quantizer.scale * quantizer.grid.clip_steps
