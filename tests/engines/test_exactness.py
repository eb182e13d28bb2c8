"""Engines whose integer products are cut off are seen, and not used where exact was asked for."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from qsam2_deploy.engines import exactness
from qsam2_deploy.engines.exactness import PRODUCTS, check_exact, inexact_products, probe_inputs
from qsam2_deploy.engines.onnxruntime import cpu as ort
from qsam2_deploy.engines.open import open_backend
from qsam2_deploy.engines.openvino import requests as openvino_requests
from qsam2_deploy.errors import EngineError
from qsam2_deploy.lowering import lower_for_ort, lower_for_tensorrt_int8, lower_to_float
from qsam2_deploy.lowering.fold_weights import fold_weights
from tests.support.plain_engine import run_plainly

Lower = Callable[[onnx.ModelProto], object]


def engine(lower: Lower) -> exactness.RunProbe:
    """Return what runs the probe, lowered so, in ONNX Runtime."""

    def run(component: onnx.ModelProto) -> dict[str, np.ndarray]:
        names = [output.name for output in component.graph.output]
        lower(component)
        return dict(zip(names, run_plainly(component, probe_inputs()), strict=True))

    return run


@pytest.mark.parametrize(
    "lower",
    [lambda _: None, lower_to_float, ort.lower_here, lambda m: lower_for_ort(m, unsigned=True)],
    ids=["canonical", "floats", "as it is used", "unsigned"],
)
@pytest.mark.parametrize("narrow", [False, True])
def test_what_was_trained_is_exact(lower, narrow):
    assert inexact_products(engine(lower), narrow=narrow) == []


def test_openvino_is_exact_as_it_is_used():
    pytest.importorskip("openvino", reason="needs OpenVINO")
    openvino_requests.require_exact_products()
    for integers in {False, openvino_requests.products() == openvino_requests.INTEGERS}:
        probe = openvino_requests._probe(integers=integers)
        for narrow in (False, True):
            assert inexact_products(probe, narrow=narrow) == []


def test_openvino_multiplies_no_integers_if_those_of_narrow_quantizers_are_wrong(monkeypatch):
    pytest.importorskip("openvino", reason="needs OpenVINO")

    def probe(*, integers: bool) -> exactness.RunProbe:
        def run(component: onnx.ModelProto) -> dict[str, np.ndarray]:
            is_narrow = any(node.op_type == "Clip" for node in component.graph.node)
            found = engine(lower_to_float)(component)
            return found | {"heads": found["heads"] * (2 if integers and is_narrow else 1)}

        return run

    monkeypatch.setattr(openvino_requests, "_probe", probe)
    assert openvino_requests.products.__wrapped__() == openvino_requests.FLOATS


def test_the_probe_holds_every_kind_of_product_in_integers():
    component = exactness.probe_component()
    lower_for_ort(component)
    kinds = [node.op_type for node in component.graph.node]
    assert kinds.count("MatMulIntegerToFloat") == 5  # a layer, and two products of each attention
    assert kinds.count("ConvInteger") == 1
    assert "DequantizeLinear" not in kinds
    assert tuple(output.name for output in component.graph.output) == PRODUCTS


def saturating(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Multiply unsigned by signed bytes as ``vpmaddubsw`` does: pairs are cut off at 16 bits."""
    pairs = a[..., ::2, None].astype(np.int64) * b[::2] + a[..., 1::2, None] * b[1::2]
    return pairs.clip(-(2**15), 2**15 - 1).sum(-2)


def test_pairs_that_are_cut_off_are_seen():
    def run(component: onnx.ModelProto) -> dict[str, np.ndarray]:
        found = engine(lower_to_float)(component)
        codes = {
            t.name: onnx.numpy_helper.to_array(t)
            for t in exactness.probe_component().graph.initializer
        }
        weights = codes["linear/codes"].astype(np.int64)
        unsigned = np.rint(probe_inputs()["x"] / np.float32(0.01)).astype(np.int64) + 128
        sums = saturating(unsigned, weights) - 128 * weights.sum(0)
        return found | {"linear": sums * 1e-4}

    assert inexact_products(run) == ["linear"]
    with pytest.raises(EngineError, match=r"Slow Engine 1.0 does not multiply .* \(linear\), so"):
        check_exact("Slow Engine 1.0", run)


@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize("damage", [lambda y: y * 1.001, lambda y: np.full_like(y, np.nan)])
def test_each_product_is_looked_at(product, damage):
    def run(component: onnx.ModelProto) -> dict[str, np.ndarray]:
        found = engine(lower_to_float)(component)
        return found | {product: damage(found[product])}

    assert inexact_products(run) == [product]


def test_attention_in_other_numbers_is_seen():
    """TensorRT's weights only, and its attention in floats, are another model."""

    def lower(component: onnx.ModelProto) -> None:
        lower_for_tensorrt_int8(component)
        fold_weights(component)

    wrong = inexact_products(engine(lower))
    assert wrong == ["attention", "heads"]


@pytest.fixture
def inexact_ort(monkeypatch) -> None:
    """ONNX Runtime on a processor where none of its products is exact."""

    def refuse(kernels: Path | None = None) -> None:
        check_exact("ONNX Runtime", engine(lambda m: _wrong(m)))

    monkeypatch.setattr(ort, "require_exact_products", refuse)


def _wrong(component: onnx.ModelProto) -> None:
    lower_to_float(component)
    step = next(t for t in component.graph.initializer if t.name == "linear/weight")
    step.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(step) * 2, step.name))


@pytest.mark.usefixtures("inexact_ort")
def test_an_engine_that_is_not_exact_refuses(model_path):
    with pytest.raises(EngineError, match=r"not multiply integers exactly.*another engine"):
        open_backend(model_path, "ort")


@pytest.mark.usefixtures("inexact_ort")
def test_auto_takes_the_engine_that_is_exact(model_path, tmp_path):
    pytest.importorskip("openvino", reason="needs OpenVINO")
    with open_backend(model_path, "auto", threads=1, cache=tmp_path) as backend:
        assert backend.name == "openvino"
        assert list(backend.choice.milliseconds) == ["openvino"]
        assert backend.products == openvino_requests.products()


def test_backends_say_how_they_multiply(model_path):
    assert open_backend(model_path, "ort").products == ort.ort_products()
    assert ort.ort_products() in ("unsigned by signed", "unsigned by unsigned")
