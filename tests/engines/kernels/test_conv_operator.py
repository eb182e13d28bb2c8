"""A convolution as one operator gives, to the bit, what ONNX Runtime's ConvInteger gives."""

import functools

import numpy as np
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper

from qsam2_deploy.engines.onnxruntime.cpu import (
    multiplies_signed_conv_weights,
    run_session,
    session_from_lowered,
)
from qsam2_deploy.lowering.fused_conv import fused_conv
from qsam2_deploy.lowering.integer_conv import integer_conv
from tests.engines.kernels.operators import random_codes, session
from tests.support.graphs import model_of


def graph(
    x: np.ndarray,
    weight: np.ndarray,
    strides: tuple[int, int],
    pads: tuple[int, ...],
    zero: int,
    *,
    last: bool = True,
    group: int = 1,
) -> onnxruntime.InferenceSession:
    """Return a canonical quantized convolution, with the channels put last after it."""
    rng = np.random.default_rng(0)
    constants = {
        "codes": weight,
        "scales": rng.uniform(1e-3, 2e-3, len(weight)).astype(np.float32),
        "step": np.asarray(0.03, np.float32),
        "zero": np.asarray(zero, np.int8),
        "bias": rng.normal(size=len(weight)).astype(np.float32),
    }
    make = helper.make_node
    nodes = [
        make("QuantizeLinear", ["x", "step", "zero"], ["q"], "q"),
        make("DequantizeLinear", ["q", "step", "zero"], ["on_grid"], "on_grid"),
        make("DequantizeLinear", ["codes", "scales"], ["w"], "w", axis=0),
        make("Conv", ["on_grid", "w", "bias"], ["c"], "conv", strides=strides, pads=pads,
             group=group),
        make("Transpose", ["c"], ["t"], "last", perm=[0, 2, 3, 1]) if last
        else make("Identity", ["c"], ["t"], "last"),
        make("Identity", ["t"], ["y"], "end"),
    ]  # fmt: skip
    return model_of(nodes, {"x": x.shape}, {"y": None}, constants)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.tuples(st.integers(1, 2), *(st.integers(1, n) for n in (7, 12, 14, 40))),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    pads=st.tuples(*(st.integers(0, 3) for _ in range(4))),
    zero=st.integers(-128, 127),
    last=st.booleans(),
)
def test_same_numbers_as_the_engine(library, sizes, kernel, strides, pads, zero, last):
    batch, channels, height, width, outputs = sizes
    height, width = max(height, kernel[0]), max(width, kernel[1])
    rng = np.random.default_rng(channels)
    x = rng.normal(size=(batch, channels, height, width)).astype(np.float32)
    weight = random_codes(rng, outputs, channels, *kernel)
    results = []
    plain = functools.partial(integer_conv, unsigned=not multiplies_signed_conv_weights())
    for lower, kernels in ((plain, None), (fused_conv, library)):
        model = graph(x, weight, strides, pads, zero, last=last)
        assert lower(model) == 1
        kinds = [node.op_type for node in model.graph.node]
        assert ("QuantizedConv" in kinds) == (kernels is not None)
        assert kinds.count("Transpose") == (last if kernels is None else not last)
        made = session_from_lowered(model.SerializeToString(), "c", 1, kernels=kernels)
        results.append(run_session(made, "c", {"x": x})["y"])
    np.testing.assert_array_equal(*results)
    assert results[0].size


def test_depthwise_is_left_alone():
    x = np.zeros((1, 6, 8, 8), np.float32)
    model = graph(x, np.ones((6, 1, 3, 3), np.int8), (1, 1), (1, 1, 1, 1), 0, group=6)
    before = model.SerializeToString()
    assert fused_conv(model) == 0
    assert model.SerializeToString() == before


def test_threads_and_codes_as_input(library):
    rng = np.random.default_rng(1)
    constants = {
        "weight": random_codes(rng, 3 * 4 * 4, 20),
        "x_scale": np.asarray(0.03, np.float32),
        "x_zero": np.asarray(-4, np.int8),
        "scales": np.full(20, 1e-3, np.float32),
        "bias": np.zeros(20, np.float32),
    }
    sizes = {"kernel_h": 4, "kernel_w": 4, "stride_h": 2, "stride_w": 2}
    sizes |= {"pad_top": 1, "pad_left": 1, "pad_bottom": 1, "pad_right": 1}
    codes = random_codes(rng, 2, 3, 40, 40)
    x = ((codes.astype(np.int64) + 4) * constants["x_scale"]).astype(np.float32)
    results = []
    for given_, threads in ((codes, 1), (codes, 2), (x, 1), (x, 2)):
        made = session(library, "QuantizedConv", {"x": given_}, constants, threads=threads, **sizes)
        results.append(made.run(None, {"x": given_})[0])
    assert results[0].shape == (2, 20, 20, 20)
    assert np.ptp(results[0]) > 0
    for other in results[1:]:
        np.testing.assert_array_equal(other, results[0])


@pytest.mark.parametrize(
    ("shape", "changes", "message"),
    [
        ((1, 3, 2, 2), {}, "does not fit the weight"),
        ((1, 2, 9, 9), {}, "does not fit the weight"),
        ((3, 9, 9), {}, "of 4 dimensions"),
        ((1, 3, 9, 9), {"stride_w": 0}, "a kernel, stride or padding is wrong"),
    ],
)
def test_what_does_not_fit(library, shape, changes, message):
    constants = {
        "weight": np.ones((27, 4), np.int8),
        "x_scale": np.asarray(0.03, np.float32),
        "x_zero": np.asarray(0, np.int8),
        "scales": np.ones(4, np.float32),
        "bias": np.zeros(4, np.float32),
    }
    sizes = {"kernel_h": 3, "kernel_w": 3, "stride_h": 1, "stride_w": 1}
    sizes |= dict.fromkeys(("pad_top", "pad_left", "pad_bottom", "pad_right"), 0) | changes
    x = np.zeros(shape, np.float32)
    with pytest.raises(Exception, match=message):
        session(library, "QuantizedConv", {"x": x}, constants, **sizes).run(None, {"x": x})
