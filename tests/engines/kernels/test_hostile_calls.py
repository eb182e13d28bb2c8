"""What a crafted graph may hand to the operators is refused with a sentence, and harms nobody.

Some of these wrote beyond their memory once without anybody noticing, so ``test_sanitized.py`` runs
this file again where that is noticed.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from tools.fuzz_kernels.calls import Call
from tools.fuzz_kernels.child import model_of, options_of

CODES = np.ones((27, 4), np.int8)
FLOAT, CODE = np.asarray(0.03, np.float32), np.asarray(0, np.int8)
LAYER = {
    "x": np.ones((5, 27), np.float32),
    "weight": CODES,
    "x_scale": FLOAT,
    "x_zero": CODE,
    "scales": np.ones(4, np.float32),
    "bias": np.zeros(4, np.float32),
}
CONSTANTS = {*LAYER, "y_scale", "y_zero"} - {"x"}
WINDOW = dict.fromkeys(("kernel_h", "kernel_w"), 3) | dict.fromkeys(("stride_h", "stride_w"), 1)
WINDOW |= dict.fromkeys(("pad_top", "pad_left", "pad_bottom", "pad_right"), 0)
STEPS = {"query_scale": FLOAT, "key_scale": FLOAT, "value_scale": FLOAT, "zero": CODE}

LINEAR = Call("QuantizedLinear", LAYER, CONSTANTS)
LINEAR_CODES = Call(
    "QuantizedLinearCodes", LAYER | {"y_scale": FLOAT, "y_zero": CODE}, CONSTANTS, output=np.int8
)
CONV = Call(
    "QuantizedConv", LAYER | {"x": np.ones((1, 3, 9, 9), np.float32)}, CONSTANTS, set(), WINDOW
)
ATTENTION = Call("QuantizedAttention", {n: np.ones((2, 40, 8), np.float32) for n in "qkv"} | STEPS)
ROTARY = Call(
    "RotaryCodes",
    {"x": np.ones((2, 4, 6), np.float32)}
    | {name: np.ones((4, 3), np.float32) for name in ("cos", "sin")}
    | {"y_scale": FLOAT, "y_zero": CODE},
    output=np.int8,
)
VALID = {call.operator: call for call in (LINEAR, LINEAR_CODES, CONV, ATTENTION, ROTARY)}


def run(library: Path, call: Call) -> np.ndarray:
    feeds = {n: v for n, v in call.inputs.items() if n not in call.constants}
    session = onnxruntime.InferenceSession(
        model_of(call), options_of(library, 1), providers=["CPUExecutionProvider"]
    )
    result: np.ndarray = session.run(None, feeds)[0]
    return result


def with_inputs(call: Call, **inputs: np.ndarray) -> Call:
    return replace(call, inputs=call.inputs | inputs)


def check_refused(library: Path, call: Call, message: str) -> None:
    with pytest.raises(Exception, match=message):
        run(library, call)


@pytest.mark.parametrize("call", VALID.values(), ids=VALID)
def test_what_the_others_are_made_from_is_computed(library, call):
    assert run(library, call).size


@pytest.mark.parametrize("call", [LINEAR, LINEAR_CODES, CONV], ids=lambda call: call.operator)
@pytest.mark.parametrize("name", ["scales", "bias"])
@pytest.mark.parametrize("shape", [(2, 2), (4, 1), (1, 4), (), (0,), (3,), (5,), (1,) * 9 + (4,)])
def test_scales_and_biases_are_vectors(library, call, name, shape):
    """A rank of 2 once wrote two dimensions into the place of one."""
    message = "a scale and a bias for each output|at most 8 dimensions"
    check_refused(library, with_inputs(call, **{name: np.ones(shape, np.float32)}), message)


@pytest.mark.parametrize("call", VALID.values(), ids=VALID)
@pytest.mark.parametrize("shape", [(0,), (2,), (1, 0)])
def test_scales_and_zero_points_of_tensors_are_one_number(library, call, shape):
    names = [n for n, value in call.inputs.items() if value.ndim == 0]
    assert len(names) >= 2
    for name in names:
        value = np.ones(shape, call.inputs[name].dtype)
        check_refused(library, with_inputs(call, **{name: value}), "take one (float|int8) as a")


@pytest.mark.parametrize("call", VALID.values(), ids=VALID)
@pytest.mark.parametrize("scale", [np.nan, np.inf, -np.inf, 0, -0.5])
def test_scales_are_finite_and_positive(library, call, scale):
    names = [n for n in call.inputs if "scale" in n]
    assert names
    for name in names:
        value = np.full_like(call.inputs[name], scale)
        message = "scales that are finite and above 0|scales above 0 and biases, all finite"
        check_refused(library, with_inputs(call, **{name: value}), message)


def test_products_of_scales_are_finite(library):
    large = np.asarray(1e30, np.float32)
    layer = with_inputs(LINEAR, x_scale=large, scales=np.full(4, large))
    check_refused(library, layer, "scales above 0 and biases, all finite")
    check_refused(library, with_inputs(LINEAR, bias=np.full(4, np.nan, np.float32)), "all finite")
    attention = with_inputs(ATTENTION, query_scale=large, key_scale=large)
    check_refused(library, attention, "scales of queries and keys are too large")


@pytest.mark.parametrize("name", ["pad_top", "pad_left", "pad_bottom", "pad_right"])
@pytest.mark.parametrize("size", [1 << 31, 32769, 1 << 62, (1 << 63) - 1, -1])
def test_padding_has_bounds(library, name, size):
    """2^31 lines above an image once asked for two terabytes."""
    call = replace(CONV, attributes=WINDOW | {name: size})
    check_refused(library, call, "a kernel, stride or padding is wrong")


def test_padding_cannot_ask_for_much_more_than_the_input(library):
    padding = dict.fromkeys(("pad_top", "pad_left", "pad_bottom", "pad_right"), 32768)
    check_refused(library, replace(CONV, attributes=WINDOW | padding), "far larger than its inputs")


@pytest.mark.parametrize("name", ["kernel_h", "kernel_w", "stride_h", "stride_w"])
@pytest.mark.parametrize("size", [0, -3, 1 << 32, (1 << 63) - 1])
def test_windows_have_bounds(library, name, size):
    """A kernel of 3 + 2^32 lines of 3 columns is 9 codes where 32 bits are multiplied."""
    call = replace(CONV, attributes=WINDOW | {name: size})
    check_refused(library, call, "a kernel, stride or padding is wrong")


def test_images_without_lines_or_channels(library):
    for shape in ((1, 0, 9, 9), (1, 3, 0, 9), (1, 3, 9, 0), (1 << 20, 3, 9, 0)):
        call = with_inputs(CONV, x=np.zeros(shape, np.float32))
        check_refused(library, call, "the input does not fit the weight")
    assert run(library, with_inputs(CONV, x=np.zeros((0, 3, 9, 9), np.float32))).size == 0


@pytest.mark.parametrize("rank", [2, 3])
def test_heads_inside_need_four_dimensions(library, rank):
    """An output with heads inside was once made of fewer dimensions, and written beyond its end."""
    factors = {n: np.ones((2, 40, 8)[-rank:], np.float32) for n in "qkv"}
    for name in ("inner_query", "inner_output"):
        call = replace(with_inputs(ATTENTION, **factors), attributes={name: 1})
        check_refused(library, call, "and 4 if heads are inside")


@pytest.mark.parametrize("value", [2, -1, 1 << 32])
def test_heads_are_inside_or_not(library, value):
    call = replace(ATTENTION, attributes={"inner_output": value})
    check_refused(library, call, "heads are inside, 1, or not, 0")


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((1, 1 << 20, 0), (1, 40, 0), (1, 40, 8)), "no columns"),
        (((1, 4, 0), (1, (1 << 31) - 1, 0), (1, (1 << 31) - 1, 0)), "no columns"),
        (((1, 4, 8), (1, 1 << 40, 0), (1, 40, 8)), "at most 31 bits"),
        (((1, 4, 32769), (1, 2, 32769), (1, 2, 8)), "more than 32768"),
        (((1, 9000, 1), (1, 1, 1), (1, 1, 32768)), "far larger than its inputs"),
    ],
)
def test_attention_of_odd_sizes(library, shapes, message):
    factors = {n: np.zeros(s, np.int8) for n, s in zip("qkv", shapes, strict=True)}
    check_refused(library, with_inputs(ATTENTION, **factors), message)


def test_rows_without_columns_take_no_time(library):
    """So many of them that counting them would never end."""
    x = np.zeros((1 << 30, 1 << 30, 0), np.float32)
    empty = np.zeros((1 << 30, 0), np.float32)
    check_refused(library, with_inputs(ROTARY, x=x, cos=empty, sin=empty), "rows of two halves")
    check_refused(library, with_inputs(LINEAR, x=x), "does not fit the weight")


@pytest.mark.parametrize("shape", [(27,), (27, 4, 1), (0, 4), (27, 0), (32769, 1), ()])
def test_weights_are_matrices(library, shape):
    for call in (LINEAR, CONV):
        wrong = with_inputs(call, weight=np.zeros(shape, np.int8))
        check_refused(library, wrong, r"take a weight \[k, n\] with k up to 32768")


@pytest.mark.parametrize("kind", [np.float64, np.uint8, np.bool_, np.int32])
def test_other_types(library, kind):
    for call in (LINEAR, CONV):
        wrong = with_inputs(call, x=call.inputs["x"].astype(kind))
        check_refused(library, wrong, "take floats or int8")
    queries = with_inputs(ATTENTION, q=ATTENTION.inputs["q"].astype(kind))
    check_refused(library, queries, "take floats or int8")


@pytest.mark.parametrize("call", [LINEAR, LINEAR_CODES, CONV], ids=lambda call: call.operator)
def test_layers_take_constants(library, call):
    for name in sorted(call.constants & call.inputs.keys()):
        wrong = replace(call, constants=call.constants - {name})
        check_refused(library, wrong, "take constants for all but their first input")
