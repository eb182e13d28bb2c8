"""Random calls of every operator: valid ones, of which up to three things are then made hostile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

Arrays = dict[str, np.ndarray]
T = TypeVar("T")

# Sizes around those of tiles, blocks and chunks, and small ones.
SIZES = (1, 1, 2, 3, 4, 5, 7, 8, 16, 31, 32, 33, 63, 64, 65, 100, 255, 256, 257)
HUGE = (1 << 16, (1 << 31) - 1, 1 << 31, 1 << 40, (1 << 62) - 1)
NUMBERS = (
    *(-1, 0, 1, 2, 3, 4, 127, 128, -128, -129, 255, 256, 32767, 32768, 32769, 65536),
    *((1 << 31) - 1, 1 << 31, -(1 << 31), 1 << 32, 1 << 62, (1 << 63) - 1, -(1 << 63)),
)
SCALES = (np.nan, np.inf, -np.inf, 0.0, -0.0, -0.1, 1e-45, 1e-38, 1e-3, 1.0, 1e20, 3.4e38)
TYPES = (np.float32, np.int8, np.uint8, np.int32, np.int64, np.float64, np.float16, np.bool_)
ELEMENTS_MAX = 1 << 18

WINDOW = ("kernel_h", "kernel_w", "stride_h", "stride_w")
PADS = ("pad_top", "pad_left", "pad_bottom", "pad_right")
LIMITS = ("x_lowest", "x_highest", "y_lowest", "y_highest")
INNER = ("inner_query", "inner_key", "inner_value", "inner_output")


@dataclass
class Call:
    """One node, as a graph could hold it.

    Attributes:
        operator: of the domain ``qsam2``.
        inputs: arrays by name, in the order of the inputs.
        constants: names of those that are initializers.
        left_out: names of those that the node has an empty name for.
        attributes: integers by name.
        output: type of the result.
        threads: how many run it.
    """

    operator: str
    inputs: Arrays
    constants: set[str] = field(default_factory=set)
    left_out: set[str] = field(default_factory=set)
    attributes: dict[str, int] = field(default_factory=dict)
    output: type = np.float32
    threads: int = 1


def random_call(seed: int, number: int) -> Call:
    """Return call ``number`` of ``seed``; it is the same each time."""
    rng = np.random.default_rng([seed, number])
    call = _OPERATORS[int(rng.integers(len(_OPERATORS)))](rng)
    call.threads = 1 if rng.integers(4) else 2
    for _ in range(int(rng.integers(4))):
        _pick(rng, _FAULTS)(rng, call)
    return call


def _pick(rng: np.random.Generator, values: Sequence[T]) -> T:
    return values[int(rng.integers(len(values)))]


def _codes(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(-128, 128, shape).astype(np.int8)


def _floats(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.normal(size=shape).astype(np.float32)


def _either(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return _floats(rng, *shape) if rng.integers(2) else _codes(rng, *shape)


def _scale(rng: np.random.Generator) -> np.ndarray:
    return np.asarray(rng.uniform(1e-3, 0.1), np.float32)


def _zero(rng: np.random.Generator) -> np.ndarray:
    return np.asarray(rng.integers(-128, 128), np.int8)


def _layer(rng: np.random.Generator, x: np.ndarray, depth: int, outputs: int) -> Arrays:
    return {
        "x": x,
        "weight": _codes(rng, depth, outputs),
        "x_scale": _scale(rng),
        "x_zero": _zero(rng),
        "scales": rng.uniform(1e-4, 1e-2, outputs).astype(np.float32),
        "bias": _floats(rng, outputs),
    }


def _limits(rng: np.random.Generator) -> dict[str, int]:
    low, high = sorted(int(n) for n in rng.integers(-128, 128, 2))
    pair = _pick(rng, (LIMITS[:2], LIMITS[2:]))
    return dict(zip(pair, (low, high), strict=True)) if rng.integers(2) else {}


def _linear(rng: np.random.Generator) -> Call:
    depth, outputs = _pick(rng, SIZES), _pick(rng, SIZES)
    lead = [_pick(rng, SIZES[:8]) for _ in range(int(rng.integers(4)))]
    inputs = _layer(rng, _either(rng, *lead, depth), depth, outputs)
    attributes = {"activation": int(rng.integers(3)), **_limits(rng)}
    call = Call("QuantizedLinear", inputs, {*inputs} - {"x"}, attributes=attributes)
    if rng.integers(2):
        call.operator, call.output = "QuantizedLinearCodes", np.int8
        inputs |= {"y_scale": _scale(rng), "y_zero": _zero(rng)}
        call.constants |= {"y_scale", "y_zero"}
    return call


def _conv(rng: np.random.Generator) -> Call:
    kernel = [int(n) for n in rng.integers(1, 5, 2)]
    window = dict(zip(WINDOW, (*kernel, *(int(n) for n in rng.integers(1, 4, 2))), strict=True))
    pads = dict(zip(PADS, (int(n) for n in rng.integers(0, 4, 4)), strict=True))
    batch, channels = int(rng.integers(0, 3)), int(rng.integers(1, 5))
    height, width = (k + _pick(rng, SIZES[:13]) - 1 for k in kernel)
    x = _either(rng, batch, channels, height, width)
    inputs = _layer(rng, x, channels * kernel[0] * kernel[1], _pick(rng, SIZES[:14]))
    return Call("QuantizedConv", inputs, {*inputs} - {"x"}, attributes=window | pads | _limits(rng))


def _attention(rng: np.random.Generator) -> Call:
    lead = [int(rng.integers(1, 4)) for _ in range(int(rng.integers(3)))]
    if lead and rng.integers(8) == 0:
        lead[0] = _pick(rng, (0, 64, 70))
    queries, keys, depth, width = (_pick(rng, SIZES) for _ in range(4))
    attributes = {name: int(rng.integers(2)) for name in INNER if len(lead) == 2}

    def factor(name: str, rows: int, columns: int) -> np.ndarray:
        # Leading dimensions of 1 serve all others.
        own = [1 if name == "inner_query" and rng.integers(8) == 0 else n for n in lead]
        inside = attributes.get(name)
        return _either(rng, *([own[0], rows, own[1]] if inside else [*own, rows]), columns)

    sizes = zip("qkv", INNER, ((queries, depth), (keys, depth), (keys, width)), strict=False)
    inputs = {key: factor(name, *shape) for key, name, shape in sizes}
    inputs |= {name: _scale(rng) for name in ("query_scale", "key_scale", "value_scale")}
    if rng.integers(2):
        inputs["value_zero"] = _zero(rng)
    return Call("QuantizedAttention", inputs, attributes=attributes)


def _rotary(rng: np.random.Generator) -> Call:
    places, half = _pick(rng, SIZES), _pick(rng, SIZES[:12])
    lead = [int(rng.integers(0, 4)) for _ in range(int(rng.integers(3)))]
    inputs = {"x": _floats(rng, *lead, places, 2 * half)}
    inputs |= {"cos": _floats(rng, places, half), "sin": _floats(rng, places, half)}
    inputs |= {"y_scale": _scale(rng), "y_zero": _zero(rng)}
    return Call("RotaryCodes", inputs, output=np.int8)


_OPERATORS: tuple[Callable[[np.random.Generator], Call], ...] = (
    _linear,
    _linear,
    _conv,
    _attention,
    _rotary,
)


def _resized(rng: np.random.Generator, value: np.ndarray, shape: list[int]) -> np.ndarray:
    """Return an array of another shape, with values of this one; too large ones are cut short."""
    while np.prod([float(n) for n in shape]) > ELEMENTS_MAX:
        shape[int(np.argmax(shape))] = _pick(rng, SIZES[:8])
    try:
        return np.resize(value, shape).astype(value.dtype)
    except (ValueError, MemoryError):  # empty, but of dimensions whose product is none
        return np.zeros([min(n, 1) for n in shape], value.dtype)


def _any_shape(rng: np.random.Generator, call: Call) -> None:
    name = _pick(rng, list(call.inputs))
    rank = int(rng.integers(6)) if rng.integers(8) else int(rng.integers(6, 12))
    call.inputs[name] = _resized(
        rng, call.inputs[name], [_pick(rng, (0, *SIZES)) for _ in range(rank)]
    )


def _other_dimension(rng: np.random.Generator, call: Call) -> None:
    name = _pick(rng, list(call.inputs))
    shape = list(call.inputs[name].shape)
    if not shape:
        return
    axis = int(rng.integers(len(shape)))
    shape[axis] = _pick(rng, (0, 1, shape[axis] + 1, max(shape[axis] - 1, 0), 2 * shape[axis]))
    call.inputs[name] = _resized(rng, call.inputs[name], shape)


def _other_rank(rng: np.random.Generator, call: Call) -> None:
    """Give a tensor one more dimension of 1, or one less, with the same numbers."""
    name = _pick(rng, list(call.inputs))
    value = call.inputs[name]
    if value.ndim > 1 and value.size and rng.integers(2):
        call.inputs[name] = value.reshape(-1, *value.shape[2:])
    else:
        call.inputs[name] = np.expand_dims(value, int(rng.integers(value.ndim + 1)))


def _empty_and_huge(rng: np.random.Generator, call: Call) -> None:
    name = _pick(rng, list(call.inputs))
    value = call.inputs[name]
    shape = [_pick(rng, (*HUGE, n)) for n in value.shape] or [_pick(rng, HUGE)]
    shape[int(rng.integers(len(shape)))] = 0
    try:
        call.inputs[name] = np.zeros(shape, value.dtype)
    except ValueError:  # NumPy refuses dimensions whose product is none, even with a 0 among them
        call.inputs[name] = np.zeros([0, *(min(n, SIZES[-1]) for n in shape[1:5])], value.dtype)


def _other_type(rng: np.random.Generator, call: Call) -> None:
    name = _pick(rng, list(call.inputs))
    with np.errstate(all="ignore"):
        call.inputs[name] = call.inputs[name].astype(_pick(rng, TYPES))


def _hostile_numbers(rng: np.random.Generator, call: Call) -> None:
    floats = [n for n, value in call.inputs.items() if value.dtype == np.float32 and value.size]
    if floats:
        name = _pick(rng, floats)
        value = call.inputs[name].copy()
        value.reshape(-1)[int(rng.integers(value.size))] = _pick(rng, SCALES)
        call.inputs[name] = value


def _hostile_scale(rng: np.random.Generator, call: Call) -> None:
    names = [n for n in call.inputs if "scale" in n]
    if names:
        name = _pick(rng, names)
        call.inputs[name] = np.full_like(call.inputs[name], _pick(rng, SCALES))


def _attribute(rng: np.random.Generator, call: Call) -> None:
    known = {
        "QuantizedConv": (*WINDOW, *PADS, *LIMITS),
        "QuantizedAttention": INNER,
        "RotaryCodes": INNER,
    }
    name = _pick(rng, known.get(call.operator, ("activation", *LIMITS)))
    if rng.integers(8) == 0:
        call.attributes.pop(name, None)
    else:
        call.attributes[name] = _pick(rng, NUMBERS)


def _missing(rng: np.random.Generator, call: Call) -> None:
    name = _pick(rng, list(call.inputs))
    if rng.integers(2):
        call.left_out.add(name)
    elif len(call.inputs) > 1:
        del call.inputs[name]


def _turned_constant(rng: np.random.Generator, call: Call) -> None:
    call.constants ^= {_pick(rng, list(call.inputs))}


_FAULTS: tuple[Callable[[np.random.Generator, Call], None], ...] = (
    _any_shape,
    _other_dimension,
    _other_rank,
    _empty_and_huge,
    _other_type,
    _hostile_numbers,
    _hostile_scale,
    _attribute,
    _attribute,
    _missing,
    _turned_constant,
)
