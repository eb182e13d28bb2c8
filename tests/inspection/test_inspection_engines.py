"""The count of integer multiply-adds, on layers whose numbers are known by hand."""

import onnx
import pytest
from onnx import helper

from qsam2_deploy.engines.openvino.requests import INTEGERS, products
from qsam2_deploy.errors import ModelFileError
from qsam2_deploy.inspection.engines import (
    engine_version,
    openvino_integer_products,
    ort_integer_products,
)
from qsam2_deploy.inspection.layers import quantized_layers
from qsam2_deploy.inspection.products import multiply_adds
from qsam2_deploy.inspection.report import inspect_component
from qsam2_deploy.model_file.bundle import read_bundle
from qsam2_deploy.spec import IMAGE_ENCODER, QuantizationInfo
from tests.support.graphs import model_of
from tests.support.quantized_layers import graph_of, make_layer

COUNTS = {
    "linear": 64 * 128 * 48,
    "conv": 2 * 24 * 8 * 8 * (8 * 9),
    "depthwise": 16 * 16 * 16 * 49,
    "transposed": 8 * 8 * 32 * 12 * 4,
}
W4A4 = QuantizationInfo("all", 4, 4, 1, weights=1)


@pytest.mark.parametrize("plan", [{}, {"weight_grid": "midrise", "input_grid": "affine"}])
@pytest.mark.parametrize("kind", COUNTS)
def test_multiply_adds_of_a_layer(kind, plan):
    model = graph_of(kind, make_layer(kind, 4, **plan)[0])
    assert list(multiply_adds(model).values()) == [COUNTS[kind]]
    runs_in_integers = kind in ("linear", "conv")
    assert bool(ort_integer_products(model)) == runs_in_integers
    layers = quantized_layers(model, W4A4)
    work, [report] = inspect_component(model, layers, ["onnxruntime"], {})
    assert (work.all, work.quantized) == (COUNTS[kind], COUNTS[kind])
    assert work.share("onnxruntime") == work.quantized_share("onnxruntime") == runs_in_integers
    assert report.integer_share == {"onnxruntime": runs_in_integers}


def test_float_products_count_as_such():
    """Attention of 5 queries to 7 keys, 3 wide: two products."""
    make = helper.make_node
    nodes = [
        make("MatMul", ["q", "k"], ["s"], "scores"),
        make("Softmax", ["s"], ["p"], "softmax"),
        make("MatMul", ["p", "v"], ["y"], "context"),
    ]
    shapes = {"q": ["B", 5, 3], "k": ["B", 3, 7], "v": ["B", 7, 3]}
    model = model_of(nodes, shapes, {"y": ["B", 5, 3]})
    assert multiply_adds(model) == {"scores": 5 * 3 * 7, "context": 5 * 7 * 3}
    work, reports = inspect_component(model, [], ["onnxruntime"], {})
    assert (work.all, work.quantized, reports) == (210, 0, [])
    assert work.share("onnxruntime") == 0
    assert work.quantized_share("onnxruntime") is None
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "B", "it was changed"


def test_a_shape_that_nobody_knows_is_not_counted_as_nothing():
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], "t", perm=[1, 0]),
        helper.make_node("MatMul", ["x", "t"], ["y"], "product"),
    ]
    model = model_of(nodes, {"x": ["unknown", 4]}, {"y": ["unknown", "unknown"]})
    with pytest.raises(ModelFileError, match="shape of the product product cannot be inferred"):
        multiply_adds(model)


def test_nearly_all_of_a_model_runs_in_integers(quantized_path):
    bundle = read_bundle(quantized_path)
    assert bundle.spec.quantization is not None
    shares = {}
    for name, component in bundle.components.items():
        layers = quantized_layers(component, bundle.spec.quantization)
        work, reports = inspect_component(component, layers, ["onnxruntime"], {})
        assert work.quantized == sum(report.multiply_adds for report in reports) < work.all * 1.001
        shares[name] = work.quantized_share("onnxruntime")
    assert shares[IMAGE_ENCODER] == 1
    assert all(share is not None and share > 0.7 for share in shares.values())


def test_versions_of_engines():
    assert engine_version("no_such_engine") is None
    assert engine_version("onnx") == onnx.__version__


@pytest.mark.parametrize("kind", COUNTS)
def test_openvino_names_its_integer_products(kind):
    pytest.importorskip("openvino", reason="needs OpenVINO")
    model = graph_of(kind, make_layer(kind, 4)[0])
    wanted = set(multiply_adds(model)) if products() == INTEGERS else set()
    assert openvino_integer_products(model) == wanted
