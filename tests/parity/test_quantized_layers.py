"""Every kind of layer at every width: what was trained, in floats and in integers.

The results are compared as the next layer sees them, rounded to 8 bits: they may differ by one step
in one of a thousand values, where rounding errors of the sums fall on different sides.
"""

import functools

import numpy as np
import onnx
import pytest
import torch

from qsam2_deploy.engines.onnxruntime import cpu as ort
from qsam2_deploy.engines.openvino.requests import FLOATS, products
from qsam2_deploy.lowering import lower_for_openvino, lower_for_ort, lower_to_float
from qsam2_deploy.lowering.integer_conv import CONV
from qsam2_deploy.lowering.integer_matmul import FUSED
from tests.support.graphs import compiled, kernels_of
from tests.support.quantized_layers import KINDS, assert_computes, graph_of, make_layer, steps_apart

INTEGER_OPERATOR = {"linear": FUSED, "conv": CONV, "patches": CONV, "pointwise": CONV}


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("kind", KINDS)
def test_floats_and_integers_are_what_was_trained(kind, bits):
    layer, x = make_layer(kind, bits)
    with torch.inference_mode():
        expected = layer(x).numpy()
    assert np.ptp(expected) > 1
    for lower in (lower_to_float, ort.lower_here, _lower_to_unsigned):
        assert_computes(lower, kind, layer, x)


_lower_to_unsigned = functools.partial(lower_for_ort, unsigned=True)
_lower_for_old_ort = functools.partial(lower_for_ort, unsigned_conv_weights=True)


@pytest.mark.parametrize("kind", ["conv", "patches", "pointwise"])
def test_old_versions_of_onnxruntime_multiply_unsigned_weights(kind):
    model = graph_of(kind, make_layer(kind, 8)[0])
    _lower_for_old_ort(model)
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    [conv] = [node for node in model.graph.node if node.op_type == CONV]
    unsigned = onnx.TensorProto.UINT8
    assert [types.get(name, unsigned) for name in conv.input] == [unsigned] * 4
    assert onnx.TensorProto.INT8 not in types.values(), "the signed codes are gone"


@pytest.mark.parametrize("grids", [{}, {"weight_grid": "midrise", "input_grid": "affine"}])
@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("kind", KINDS)
def test_openvino_computes_what_was_trained_in_integers(kind, bits, grids):
    """In integers where it has them, and they are exact; where not, in floats."""
    layer, x = make_layer(kind, bits, **grids)
    x = _off_the_middle(x, float(layer.input_quantizer.scale))
    model = graph_of(kind, layer)
    lower_for_openvino(model)
    made = compiled(model)
    found = made({0: x.numpy()})[0]
    with torch.inference_mode():
        expected = layer(x).numpy()
    apart = steps_apart(found, expected, float(np.ptp(expected)) / 255)
    assert apart.max() <= 1
    assert np.mean(apart > 0) <= 1e-3
    layers = ("FullyConnected", "Convolution", "Deconvolution")
    kernels = [kernel for kind, kernel in kernels_of(made) if kind in layers]
    assert len(kernels) == 1
    # It has no integer kernel for a transposed convolution of inputs with a zero-point, and for
    # other convolutions of them none with AMX (2026.4; qsam2-inspect counts what runs in integers).
    if products() == FLOATS or (kind == "transposed" and grids):
        assert kernels[0].lower().endswith("f32")
    elif kind == "linear" or not grids:
        assert kernels[0].lower().endswith("i8")


def _off_the_middle(x: torch.Tensor, step: float) -> torch.Tensor:
    """Move values away that lie in the middle of two steps, up to 1/10000 of a step.

    OpenVINO subtracts the lower end of the range first, and so rounds these either way; a single
    one that differs is in hundreds of results of a convolution.
    """
    levels = x / step
    in_the_middle = (levels - levels.floor() - 0.5).abs() < 1e-4
    assert in_the_middle.float().mean() <= 1e-3
    return torch.where(in_the_middle, (levels + 1e-3) * step, x)


@pytest.mark.parametrize("bits", [8, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_the_reference_knows_only_floats(kind, bits):
    model = graph_of(kind, make_layer(kind, bits)[0])
    lower_to_float(model)
    kinds = {node.op_type for node in model.graph.node}
    assert not {"QuantizeLinear", "DequantizeLinear"} & kinds
    assert {"Round", "Clip"} < kinds
    types = {tensor.data_type for tensor in model.graph.initializer}
    assert types <= {1, 7}  # FLOAT, and INT64 for shapes


@pytest.mark.parametrize("bits", [8, 4, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_all_widths_run_in_the_same_integer_operators(kind, bits):
    model = graph_of(kind, make_layer(kind, bits)[0])
    lower_for_ort(model)
    kinds = [node.op_type for node in model.graph.node]
    wanted = INTEGER_OPERATOR.get(kind)
    assert "DequantizeLinear" not in kinds or wanted is None
    assert [k for k in kinds if k in (FUSED, CONV)] == ([wanted] if wanted else [])
