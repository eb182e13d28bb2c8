"""Small quantized layers of every kind, and their graphs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

from qsam2_deploy.export.graph import GraphBuilder, model_from_graphs
from qsam2_deploy.export.layers import conv, conv_transpose, linear
from qsam2_deploy.quant.layers.modules import LayerPlan, QuantLayer, quantize_layers
from qsam2_deploy.spec import ComponentSpec, TensorSpec
from tests.support.plain_engine import run_plainly


@dataclass(frozen=True)
class Kind:
    """How to make a layer, its input, and its nodes."""

    layer: Callable[[], nn.Module]
    shape: tuple[int, ...]
    emit: Callable[..., str]


KINDS = {
    "linear": Kind(lambda: nn.Linear(128, 48), (64, 128), linear),
    "conv": Kind(lambda: nn.Conv2d(8, 24, 3, stride=2, padding=1), (2, 8, 16, 16), conv),
    "patches": Kind(lambda: nn.Conv2d(3, 24, 7, stride=4, padding=3), (1, 3, 32, 32), conv),
    "pointwise": Kind(lambda: nn.Conv2d(48, 24, 1, bias=False), (1, 48, 8, 8), conv),
    "depthwise": Kind(lambda: nn.Conv2d(16, 16, 7, padding=3, groups=16), (1, 16, 16, 16), conv),
    "transposed": Kind(lambda: nn.ConvTranspose2d(32, 12, 2, 2), (1, 32, 8, 8), conv_transpose),
}


def make_layer(kind: str, bits: int, **plan: Any) -> tuple[QuantLayer, torch.Tensor]:
    """Return a quantized layer with sensible clips, and an input for it.

    ``plan`` holds other arguments of ``LayerPlan``.
    """
    torch.manual_seed(bits)
    model = nn.Sequential(KINDS[kind].layer())
    x = torch.randn(KINDS[kind].shape) * 3
    layer = quantize_layers(model, {"0": LayerPlan(bits, bits, **plan)})["0"]
    layer.layer_name = "layer"
    rows = layer.weight_rows().detach()
    layer.weight_quantizer.warm_start(2 * rows.std(1), rows.std(1), rows.mean(1))
    layer.input_quantizer.warm_start(2 * x.std(), x.std(), x.mean(), -x.std())
    return layer.eval().requires_grad_(False), x


def graph_of(kind: str, layer: nn.Module, opset: int | None = None) -> onnx.ModelProto:
    """Return the canonical model of one layer, with input ``c/x`` and output ``c/y``."""
    with torch.inference_mode():
        shape = tuple(layer(torch.zeros(KINDS[kind].shape)).shape)
    g = builder_for(KINDS[kind].shape, shape)
    g.output("y", KINDS[kind].emit(g, g.input("x"), layer, name="layer"))
    return model_from_graphs([g], {}, "test", opset)


def builder_for(inputs: tuple[int, ...], outputs: tuple[int, ...]) -> GraphBuilder:
    """Return a builder of a component ``c`` with input ``x`` and output ``y``."""
    x, y = TensorSpec("x", "float32", inputs), TensorSpec("y", "float32", outputs)
    return GraphBuilder(ComponentSpec("c", (x,), (y,)))


def run(model: onnx.ModelProto, x: torch.Tensor) -> Any:
    """Check and run a model of one layer in ONNX Runtime."""
    [found] = run_plainly(model, {"c/x": x.numpy()})
    assert np.isfinite(found).all()
    return found


def steps_apart(found: Any, expected: Any, step: float) -> Any:
    """Return by how many steps two results differ after rounding both to a grid."""
    return np.abs(np.round(found / step) - np.round(expected / step))


def assert_computes(
    lower: Callable[[onnx.ModelProto], object], kind: str, layer: Any, x: torch.Tensor
) -> onnx.ModelProto:
    """Assert that the lowered graph of ``layer`` computes what it does; return that graph.

    As the next layer sees the results, rounded to 8 bits: they may differ by one step in one of a
    thousand values.
    """
    with torch.inference_mode():
        expected = layer(x).numpy()
    model = graph_of(kind, layer)
    lower(model)
    found = run(model, x)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.ptp(expected))
    apart = steps_apart(found, expected, float(np.ptp(expected)) / 255)
    assert apart.max() <= 1
    assert np.mean(apart > 0) <= 1e-3
    return model
