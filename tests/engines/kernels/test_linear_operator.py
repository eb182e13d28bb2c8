"""A linear layer as one operator gives, to the bit, what ONNX Runtime's own operators give."""

from math import erf
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper

from tests.engines.kernels.operators import random_codes, session
from tests.support.graphs import model_of
from tests.support.plain_engine import run_plainly

Y_SCALE = np.float32(0.07)


def layer(depth: int, outputs: int, zero: int) -> dict[str, np.ndarray]:
    """Return the constants of a layer."""
    rng = np.random.default_rng(depth + outputs)
    return {
        "weight": random_codes(rng, depth, outputs),
        "x_scale": np.asarray(0.03, np.float32),
        "x_zero": np.asarray(zero, np.int8),
        "scales": rng.uniform(1e-4, 2e-3, outputs).astype(np.float32),
        "bias": rng.normal(size=outputs).astype(np.float32),
    }


def run(
    library: Path,
    x: np.ndarray,
    constants: dict[str, np.ndarray],
    activation: int = 0,
    y_zero: int | None = None,
    threads: int = 1,
    **limits: int,
) -> np.ndarray:
    if y_zero is None:
        kind, output = "QuantizedLinear", np.float32
    else:
        kind, output = "QuantizedLinearCodes", np.int8
        constants = constants | {"y_scale": Y_SCALE, "y_zero": np.asarray(y_zero, np.int8)}
    attributes = {"activation": activation, **limits}
    made = session(library, kind, {"x": x}, constants, output, threads=threads, **attributes)
    result: np.ndarray = made.run(None, {"x": x})[0]
    return result


def engine(x: np.ndarray, constants: dict[str, np.ndarray]) -> np.ndarray:
    """QuantizeLinear and MatMulIntegerToFloat of ONNX Runtime, all codes unsigned."""
    zero = np.uint8(int(constants["x_zero"]) + 128)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "x_scale", "zero"], ["codes"]),
        helper.make_node(
            "MatMulIntegerToFloat",
            ["codes", "unsigned", "x_scale", "scales", "zero", "middle", "bias"],
            ["y"],
            domain="com.microsoft",
        ),
    ]
    values = {k: v for k, v in constants.items() if k not in ("x_zero", "weight")}
    values |= {"zero": np.asarray(zero), "middle": np.asarray(np.uint8(128))}
    values["unsigned"] = (constants["weight"].astype(np.int16) + 128).astype(np.uint8)
    y = [*x.shape[:-1], len(constants["bias"])]
    model = model_of(nodes, {"x": x.shape}, {"y": y}, values, domain="com.microsoft")
    return run_plainly(model, {"x": x})[0]


def whole_numbers(x: np.ndarray, constants: dict[str, np.ndarray]) -> np.ndarray:
    """The same from sums of whole numbers, each step rounded to a float."""
    zero = int(constants["x_zero"])
    codes = np.clip(np.rint(x / constants["x_scale"]) + zero, -128, 127).astype(np.int64)
    sums = ((codes - zero) @ constants["weight"].astype(np.int64)).astype(np.float32)
    return sums * (constants["x_scale"] * constants["scales"]) + constants["bias"]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.integers(1, 140),
    depth=st.integers(1, 150),
    outputs=st.integers(1, 100),
    zero=st.integers(-128, 127),
)
def test_floats(library, rows, depth, outputs, zero):
    x = np.random.default_rng(rows).normal(size=(rows, depth)).astype(np.float32)
    constants = layer(depth, outputs, zero)
    np.testing.assert_array_equal(run(library, x, constants), whole_numbers(x, constants))


def test_every_path_is_the_engine_to_the_bit(library, path):
    x = np.random.default_rng(0).normal(size=(3, 50, 96)).astype(np.float32)
    constants = layer(96, 200, 5)
    found = run(library, x, constants)
    np.testing.assert_array_equal(found, engine(x, constants))
    assert np.ptp(found) > 1


@pytest.mark.parametrize("activation", [0, 1, 2])
@pytest.mark.parametrize("y_zero", [0, -128, 31])
def test_codes(library, path, activation, y_zero):
    x = np.random.default_rng(1).normal(size=(200, 64)).astype(np.float32)
    constants = layer(64, 90, -3)
    y = whole_numbers(x, constants).astype(np.float64)
    if activation == 1:
        y = np.maximum(y, 0)
    elif activation == 2:
        y = y * 0.5 * (1 + np.vectorize(erf)(y * 0.5**0.5))
    exact = np.clip(y / np.float64(Y_SCALE) + y_zero, -128, 127)
    found = run(library, x, constants, activation, y_zero).astype(np.int64)
    wanted = np.rint(exact).astype(np.int64)
    tie = np.abs(exact - np.floor(exact) - 0.5) < 1e-4
    np.testing.assert_array_equal(found[~tie], wanted[~tie])
    assert np.abs(found - wanted).max() <= 1
    assert tie.mean() < 1e-3
    assert np.ptp(found) > 50


@pytest.mark.parametrize(("lowest", "highest"), [(-2, 1), (-128, -125), (-8, 7), (0, 0)])
def test_codes_are_cut_off(library, path, lowest, highest):
    x = np.random.default_rng(4).normal(size=(130, 45)).astype(np.float32)
    constants = layer(45, 70, 0)
    codes = np.clip(np.rint(x / constants["x_scale"]), lowest, highest).astype(np.int8)
    found = run(library, x, constants, x_lowest=lowest, x_highest=highest)
    np.testing.assert_array_equal(found, run(library, codes, constants))
    wide = run(library, x, constants, 2, 0)
    narrow = run(library, x, constants, 2, 0, y_lowest=lowest, y_highest=highest)
    np.testing.assert_array_equal(narrow, np.clip(wide, lowest, highest))
    assert np.ptp(wide) > 50


@pytest.mark.parametrize("limits", [(5, 4), (-129, 0), (0, 128)])
def test_limits_that_are_none(library, limits):
    x = np.ones((1, 20), np.float32)
    with pytest.raises(Exception, match="limits of codes within those of 8 bits"):
        run(library, x, layer(20, 30, 0), x_lowest=limits[0], x_highest=limits[1])


def test_gelu_is_that_of_the_error_function(library):
    x = np.linspace(-9, 9, 4001, dtype=np.float32)[:, None]
    constants = layer(1, 1, 0) | {
        "weight": np.ones((1, 1), np.int8),
        "x_scale": np.asarray(18 / 255, np.float32),
        "scales": np.ones(1, np.float32),
        "bias": np.array([0.0071], np.float32),
    }
    y = whole_numbers(x, constants).astype(np.float64)
    wanted = y * 0.5 * (1 + np.vectorize(erf)(y * 0.5**0.5))
    found = run(library, x, constants, 2)
    np.testing.assert_allclose(found, wanted, atol=3e-6)


def test_codes_as_input(library):
    constants = layer(40, 50, 7)
    codes = random_codes(np.random.default_rng(2), 70, 40)
    x = ((codes.astype(np.int64) - 7) * constants["x_scale"]).astype(np.float32)
    np.testing.assert_array_equal(run(library, codes, constants), run(library, x, constants))


def test_threads_give_the_same(library):
    x = np.random.default_rng(3).normal(size=(1000, 33)).astype(np.float32)
    constants = layer(33, 70, 0)
    one, two = (run(library, x, constants, 2, 0, threads) for threads in (1, 2))
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("rows", [0, 1])
def test_few_rows(library, rows):
    x = np.ones((rows, 20), np.float32)
    assert run(library, x, layer(20, 30, 0)).shape == (rows, 30)


def test_what_does_not_fit(library):
    constants = layer(20, 30, 0)
    with pytest.raises(Exception, match="does not fit the weight"):
        run(library, np.ones((4, 21), np.float32), constants)
    with pytest.raises(Exception, match="a scale and a bias for each output"):
        run(library, np.ones((4, 20), np.float32), constants | {"bias": np.ones(29, np.float32)})
    with pytest.raises(Exception, match="activation 0, 1 or 2"):
        run(library, np.ones((4, 20), np.float32), constants, 3)
