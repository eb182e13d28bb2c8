"""Every quantized layer by itself: torch, the float reference and the integers, on real inputs.

Differences of a whole model say little: a value in the middle of two steps may fall on either, and
the layers behind carry that on. So each layer gets the inputs that it has in the fake-quantized
torch model, and its exported form gets the very same ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from torch import nn

from qsam2_deploy.calibration.session import TrackingSession
from qsam2_deploy.calibration.statistics import observed_inputs
from qsam2_deploy.engines.onnxruntime.cpu import lower_here
from qsam2_deploy.export.graph import GraphBuilder, Tensor, model_from_graphs
from qsam2_deploy.export.layers import conv, conv_transpose, linear
from qsam2_deploy.export.quantized import fake_quantized
from qsam2_deploy.lowering import lower_to_float
from qsam2_deploy.quant.layers.modules import QuantLayer, quantized_layers
from qsam2_deploy.spec import ComponentSpec, TensorSpec

OUTPUT_STEPS = 255
"""Outputs are compared in steps of their range by this: as a next layer of 8 bits sees them."""

_MOST_VALUES = 1 << 22
"""Inputs of a layer are kept up to so many values."""

Array = npt.NDArray[np.float32]
Lowering = Callable[[onnx.ModelProto], None]


@dataclass
class Difference:
    """Values that two computations put on other levels.

    Attributes:
        values: how many were compared.
        off: those on another level.
        steps: by how many levels they differ at most.
    """

    values: int = 0
    off: int = 0
    steps: int = 0

    def add(self, found: Array, expected: Array, step: float) -> None:
        """Compare two results after rounding both to multiples of ``step``."""
        apart = np.abs(np.round(found / step) - np.round(expected / step))
        self.values += apart.size
        self.off += int(np.count_nonzero(apart))
        self.steps = max(self.steps, int(apart.max(initial=0)))

    @property
    def share(self) -> float:
        """``off / values``."""
        return self.off / self.values if self.values else 0.0

    @property
    def is_exact(self) -> bool:
        """At most one of 1000 values (and one value of fewer) is off, and by one step."""
        return self.steps <= 1 and self.off <= max(1, self.values // 1000)


@dataclass(frozen=True)
class LayerExactness:
    """How one layer agrees with itself in torch.

    Attributes:
        inputs: codes of the input in the float reference.
        reference: outputs of the float reference.
        integers: outputs of ONNX Runtime's integers.
    """

    inputs: Difference
    reference: Difference
    integers: Difference

    @property
    def is_exact(self) -> bool:
        """All three are."""
        return all(d.is_exact for d in (self.inputs, self.reference, self.integers))


def layer_exactness(model: nn.Module, images: Iterable[torch.Tensor]) -> dict[str, LayerExactness]:
    """Compare every quantized layer that runs when ``images`` are tracked.

    Args:
        model: a fake-quantized SAM2 model in evaluation mode.
        images: float32 ``[1, 3, S, S]`` each.
    """
    layers = quantized_layers(model)
    recorded = _record(model, layers, images)
    return {name: _compare(layers[name], inputs) for name, inputs in recorded.items() if inputs}


def _record(
    model: nn.Module, layers: dict[str, QuantLayer], images: Iterable[torch.Tensor]
) -> dict[str, list[torch.Tensor]]:
    kept: dict[str, list[torch.Tensor]] = {name: [] for name in layers}

    def remember(name: str, x: torch.Tensor) -> None:
        if sum(t.numel() for t in kept[name]) + x.numel() <= _MOST_VALUES or not kept[name]:
            kept[name].append(x.detach().clone())

    with observed_inputs(layers, remember):
        session = TrackingSession(model)
        for image in images:
            session(image)
    return kept


@torch.no_grad()
def _compare(layer: QuantLayer, inputs: list[torch.Tensor]) -> LayerExactness:
    outputs = [layer(x).numpy() for x in inputs]
    result = LayerExactness(Difference(), Difference(), Difference())
    low, high = min(float(y.min()) for y in outputs), max(float(y.max()) for y in outputs)
    step = (high - low) / OUTPUT_STEPS or 1.0
    input_step = float(layer.input_quantizer.scale)
    reference = _session(layer, inputs[0], outputs[0], lower_to_float)
    integers = _session(layer, inputs[0], outputs[0], lower_here)
    for x, y in zip(inputs, outputs, strict=True):
        codes, found = reference.run(None, {"layer/x": x.numpy()})
        result.inputs.add(codes, layer.input_quantizer(x).numpy(), input_step)
        result.reference.add(found, y, step)
        result.integers.add(integers.run(None, {"layer/x": x.numpy()})[1], y, step)
    return result


def _session(layer: QuantLayer, x: torch.Tensor, y: Array, lower: Lowering) -> Any:
    """Return a session of one layer: its input on the grid, and its output."""
    model = _graph(layer, x.dim(), y.ndim)
    lower(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _graph(layer: QuantLayer, input_rank: int, output_rank: int) -> onnx.ModelProto:
    """Return the canonical model of ``layer``, exported as the whole model is."""
    shape = tuple(f"x{i}" for i in range(input_rank))
    output = TensorSpec("y", "float32", tuple(f"y{i}" for i in range(output_rank)))
    x, on_grid = (TensorSpec(name, "float32", shape) for name in ("x", "on_grid"))
    g = GraphBuilder(ComponentSpec("layer", (x,), (on_grid, output)))
    form = layer.export_form()
    g.output("on_grid", fake_quantized(g, g.input("x"), form, name="layer.checked"))
    g.output("y", _emit(g, layer))
    return model_from_graphs([g], {}, "benchmark", None)


def _emit(g: GraphBuilder, layer: QuantLayer) -> Tensor:
    if isinstance(layer, nn.Conv2d):
        return conv(g, g.input("x"), layer, name="layer")
    if isinstance(layer, nn.ConvTranspose2d):
        return conv_transpose(g, g.input("x"), layer, name="layer")
    return linear(g, g.input("x"), layer, name="layer")
