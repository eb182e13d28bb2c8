"""Without their rounding, layers read what came before."""

import numpy as np
import onnx
import pytest
import torch

from qsam2_deploy.lowering import integers_of_constants, lower_to_float
from qsam2_deploy.lowering.drop_activations import drop_activations
from qsam2_deploy.model_file.bundle import read_bundle
from qsam2_deploy.spec import COMPONENTS
from tests.support.quantized_layers import graph_of, make_layer, run


@pytest.mark.parametrize("component", COMPONENTS)
def test_nothing_is_rounded_any_more(quantized_path, component):
    model = read_bundle(quantized_path).components[component]
    integers_of_constants(model)
    before = [node.op_type for node in model.graph.node].count("QuantizeLinear")
    assert drop_activations(model) == before > 0
    onnx.checker.check_model(model, full_check=True)
    assert not {node.op_type for node in model.graph.node} & {"QuantizeLinear", "Clip"}
    assert drop_activations(model) == 0


def test_a_layer_multiplies_what_came_before_its_rounding():
    layer, x = make_layer("linear", 4)
    model, rounded = graph_of("linear", layer), graph_of("linear", layer)
    drop_activations(model)
    with torch.inference_mode():
        levels = layer.weight_quantizer(layer.weight)
        wanted = torch.nn.functional.linear(x, levels, layer.bias).numpy()
    np.testing.assert_allclose(run(model, x), wanted, rtol=1e-4, atol=1e-4)
    lower_to_float(rounded)
    assert np.abs(run(rounded, x) - wanted).max() > 1e-2
