"""The attention operator gives what whole numbers give, on every path, to the bit but for ties."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qsam2_deploy.engines.onnxruntime.kernels import processor_path
from tests.engines.kernels.operators import STEPS, attend, expected_attention, random_codes


def steps_for(depth: int) -> dict[str, float]:
    """Steps with which some weights are large and most are not 0."""
    return STEPS | {"key_scale": 2.5 / 100 / 100 / depth**0.5 / STEPS["query_scale"]}


def assert_same(found: np.ndarray, wanted: np.ndarray, tie: np.ndarray) -> None:
    assert found.shape == wanted.shape
    np.testing.assert_array_equal(found[~tie], wanted[~tie])
    np.testing.assert_allclose(found, wanted, atol=0.05 * np.abs(wanted).max())
    assert tie.mean() <= 0.2 or tie.size < 20


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.tuples(*(st.integers(1, n) for n in (3, 70, 300, 70, 70))),
    zero=st.integers(-128, 127) | st.none(),
    seed=st.integers(0, 99),
)
def test_sizes_and_zero_points(library, sizes, zero, seed):
    batch, queries, keys, depth, width = sizes
    rng = np.random.default_rng(seed)
    shapes = ((batch, queries, depth), (batch, keys, depth), (batch, keys, width))
    q, k, v = (random_codes(rng, *shape) for shape in shapes)
    steps = steps_for(depth)
    found = attend(library, (q, k, v), zero, steps=steps)
    assert_same(found, *expected_attention((q, k, v), zero or 0, steps))


@pytest.mark.parametrize("sizes", [(1, 65, 1000, 256, 64), (80, 16, 16, 96, 96), (2, 3, 1, 5, 1)])
def test_every_path(library, path, sizes):
    """Some have so many products that each packs its own, others share their packed keys."""
    batch, queries, keys, depth, width = sizes
    rng = np.random.default_rng(1)
    shapes = ((batch, queries, depth), (batch, keys, depth), (batch, keys, width))
    q, k, v = (random_codes(rng, *shape) for shape in shapes)
    steps = steps_for(depth)
    found = attend(library, (q, k, v), 9, steps=steps)
    assert_same(found, *expected_attention((q, k, v), 9, steps))


def test_the_largest_sums(library):
    """Pairs of products that 16 bits would not hold, and as many keys as 32 bits allow for."""
    shapes = ((1, 2, 256), (1, 32895, 256), (1, 32895, 32))
    q, k, v = (np.full(shape, -128, np.int8) for shape in shapes)
    assert_same(attend(library, (q, k, v), 127), *expected_attention((q, k, v), 127))
    assert np.all(attend(library, (q, k, v), 127) == np.float32(-255) * np.float32(0.05))


@pytest.mark.parametrize("batch", [1, 3, 70])
def test_threads_give_the_same(library, batch):
    rng = np.random.default_rng(2)
    factors = tuple(random_codes(rng, batch, n, 40) for n in (200, 90, 90))
    one, two = (attend(library, factors, threads=threads) for threads in (1, 2))
    np.testing.assert_array_equal(one, two)
    assert np.ptp(one) > 0


def test_floats_are_quantized_as_the_graph_does(library):
    """Halves go to the even code, and what is too large to the last one."""
    rng = np.random.default_rng(3)
    floats = [rng.normal(0, 1.5, (2, n, 37)).astype(np.float32) for n in (30, 50, 50)]
    floats[0][0, 0, :4] = np.array([0.5, 1.5, 2.5, -1e9], np.float32) * np.float32(0.02)
    codes, zeros = [], (0, 0, -20)
    for x, step, zero in zip(floats, STEPS.values(), zeros, strict=True):
        codes.append(np.clip(np.rint(x / np.float32(step)) + zero, -128, 127).astype(np.int8))
    assert list(codes[0][0, 0, :4]) == [0, 2, 2, -128]
    found = attend(library, tuple(floats), -20)
    np.testing.assert_array_equal(found, attend(library, tuple(codes), -20))


@pytest.mark.parametrize("rank", [2, 3, 4])
def test_leading_dimensions(library, rank):
    rng = np.random.default_rng(4)
    lead = (2, 3)[: rank - 2]
    factors = tuple(random_codes(rng, *lead, n, 16) for n in (9, 20, 20))
    assert_same(attend(library, factors), *expected_attention(factors))


def test_one_batch_of_queries_serves_all_objects(library):
    rng = np.random.default_rng(5)
    q, k, v = (random_codes(rng, b, n, 16) for b, n in ((1, 70), (3, 40), (3, 40)))
    assert_same(attend(library, (q, k, v)), *expected_attention((q, k, v)))


@pytest.mark.parametrize("inner", ["query", "key", "value", "output"])
def test_heads_inside(library, inner):
    rng = np.random.default_rng(6)
    names = ("query", "key", "value")
    factors = [random_codes(rng, 2, 5, n, 24) for n in (33, 47, 47)]
    wanted = attend(library, tuple(factors))
    given = [
        np.ascontiguousarray(x.swapaxes(1, 2)) if name == inner else x
        for name, x in zip(names, factors, strict=True)
    ]
    found = attend(library, tuple(given), **{f"inner_{inner}": 1})
    np.testing.assert_array_equal(found.swapaxes(1, 2) if inner == "output" else found, wanted)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((1, 4, 8), (1, 6, 9), (1, 6, 8)), "do not fit"),
        (((1, 4, 8), (1, 6, 8), (1, 7, 8)), "do not fit"),
        (((2, 4, 8), (3, 6, 8), (3, 6, 8)), "batches or heads"),
        (((1, 4, 8), (1, 70000, 8), (1, 70000, 8)), "so many that their sums pass 32 bits"),
        (((1, 4, 8), (1, 0, 8), (1, 0, 8)), "no keys"),
        (((4,), (1, 6, 8), (1, 6, 8)), "2 to 4 dimensions"),
        (((4, 8), (1, 6, 8), (1, 6, 8)), "ranks differ"),
    ],
)
def test_what_does_not_fit(library, shapes, message):
    factors = tuple(np.zeros(shape, np.int8) for shape in shapes)
    with pytest.raises(Exception, match=message):
        attend(library, factors)


def test_a_path_that_is_not_there(library, monkeypatch):
    monkeypatch.setenv("QSAM2_KERNEL_PATH", "abacus")
    assert processor_path(library, "abacus") is None
    with pytest.raises(Exception, match="QSAM2_KERNEL_PATH names no path"):
        attend(library, tuple(np.zeros((1, 4, 8), np.int8) for _ in range(3)))


def test_weights_are_those_of_the_engine(library):
    """Against exp in float64, less than one weight of 10,000 is another code, and by one."""
    rng = np.random.default_rng(7)
    keys = 500
    q, k = random_codes(rng, 1, 2000, 64), random_codes(rng, 1, keys, 64)
    v = np.eye(keys, dtype=np.int8)[None]
    steps = steps_for(64) | {"value_scale": 1.0}
    scores = (q.astype(np.int64) @ np.swapaxes(k.astype(np.int64), -1, -2)).astype(np.float32)
    scores *= np.float32(steps["query_scale"]) * np.float32(steps["key_scale"])
    shifted = (scores - scores.max(-1, keepdims=True)).astype(np.float64)
    wanted = np.rint(np.exp(shifted) / np.float64(np.float32(1 / 255)))
    found = attend(library, (q, k, v), steps=steps)
    # The largest weight is 255, so the shares of the values tell what the weights are.
    codes = np.rint(found / found.max(-1, keepdims=True) * 255)
    assert np.abs(codes - wanted).max() <= 1
    assert np.mean(codes != wanted) < 1e-4
    assert 5 < wanted.mean() < 200
