"""Every quantizer and grid, from calibration to ONNX Runtime: what fake quantization computes."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from qsam2_deploy.calibration.start import start_from_statistics, start_weights
from qsam2_deploy.calibration.statistics import collect_statistics
from qsam2_deploy.engines.onnxruntime.cpu import lower_here
from qsam2_deploy.errors import UnsupportedModelError
from qsam2_deploy.lowering import lower_for_tensorrt_int4, lower_for_tensorrt_int8, lower_to_float
from qsam2_deploy.lowering.integer_conv import CONV
from qsam2_deploy.lowering.integer_matmul import FUSED
from qsam2_deploy.quant.layers.layer import QuantLayer
from qsam2_deploy.quant.layers.layer_plan import INPUT_GRIDS, WEIGHT_GRIDS
from qsam2_deploy.quant.layers.modules import LayerPlan, quantize_layers
from qsam2_deploy.quant.quantizers.grid import AFFINE, MIDRISE
from qsam2_deploy.quant.quantizers.quantizer import quantizer_class, quantizer_names
from tests.support.quantized_layers import KINDS, assert_computes, graph_of

INTEGER_OPERATOR = {"linear": FUSED, "conv": CONV}
PLANS: list[dict[str, Any]] = [
    *({"method": method} for method in quantizer_names()),
    *(
        {"input_method": method, "method": method, "input_grid": AFFINE, "weight_grid": MIDRISE}
        for method in quantizer_names()
        if {AFFINE, MIDRISE} <= set(quantizer_class(method).grids)
    ),
    {"method": "lsc", "input_grid": AFFINE, "half_steps": True},
    {"method": "minmax", "granularity": "tensor", "input_grid": AFFINE},
]


def calibrated(kind: str, bits: int, plan: dict[str, Any]) -> tuple[QuantLayer, torch.Tensor]:
    """Return a layer started from the statistics of one-sided inputs, and those inputs."""
    torch.manual_seed(bits)
    model = nn.Sequential(KINDS[kind].layer())
    x = nn.functional.gelu(2 * torch.randn(KINDS[kind].shape))
    statistics = collect_statistics(model, {"0": model[0]}, [x], count=1, grams=False)["0"]
    layer = quantize_layers(model, {"0": LayerPlan(bits, bits, **plan)})["0"]
    layer.layer_name = "layer"
    start_weights(layer)
    start_from_statistics(layer.input_quantizer, statistics)
    return layer.eval().requires_grad_(False), x


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: "-".join(map(str, plan.values())))
@pytest.mark.parametrize("kind", ["linear", "conv", "depthwise", "transposed"])
def test_calibrate_export_and_run(kind, plan, bits):
    layer, x = calibrated(kind, bits, plan)
    form = layer.export_form()
    assert form.weight_grid in WEIGHT_GRIDS
    assert form.input_grid in INPUT_GRIDS
    # Values behind a GELU lie on one side, and so does their zero-point.
    assert form.input_zero_point < 0 or form.input_grid != AFFINE
    with torch.inference_mode():
        expected = layer(x).numpy()
    assert np.ptp(expected) > 0.5
    for lower in (lower_to_float, lower_here):
        model = assert_computes(lower, kind, layer, x)
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count(INTEGER_OPERATOR.get(kind, "Conv")) == (kind != "transposed")


@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_affine_inputs_are_closer_to_one_sided_values(kind):
    errors = []
    for grid in INPUT_GRIDS:
        layer, x = calibrated(kind, 3, {"input_grid": grid})
        errors.append(float((layer.input_quantizer(x) - x).norm() / x.norm()))
    assert errors[1] < 0.75 * errors[0]


def test_tensorrt_refuses_affine_inputs_where_it_quantizes_them():
    layer, _ = calibrated("linear", 4, {"input_grid": AFFINE})
    message = (
        "the input of the layer c/layer has an affine grid, but TensorRT INT8 knows symmetric ones "
        "alone; calibrate with --activation-grid symmetric, or run the model with ONNX Runtime"
    )
    with pytest.raises(UnsupportedModelError, match=message):
        lower_for_tensorrt_int8(graph_of("linear", layer))
    model = graph_of("linear", layer)
    assert lower_for_tensorrt_int4(model) == 1
    assert "QuantizeLinear" not in {node.op_type for node in model.graph.node}
