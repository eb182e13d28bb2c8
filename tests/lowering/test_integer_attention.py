"""Attention products in ONNX Runtime's integer operators give what whole numbers give."""

from collections import Counter

import numpy as np
import onnx
import pytest

from qsam2_deploy.lowering.chunk_attention import MIN_QUERIES
from qsam2_deploy.lowering.integer_attention import integer_attention
from qsam2_deploy.lowering.integer_matmul import FUSED
from tests.lowering.attention_graph import (
    assert_same,
    attention_graph,
    expected,
    random_factors,
    run,
)
from tests.support.plain_engine import FACTORS


def kinds_of(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


@pytest.mark.parametrize("unsigned", FACTORS)
@pytest.mark.parametrize("heads", [0, 3])
@pytest.mark.parametrize(("queries", "blocks"), [(40, 1), (MIN_QUERIES + 6, 6)])
def test_same_numbers_in_integers(queries, blocks, heads, unsigned):
    factors = random_factors(queries, 90, heads)
    model = attention_graph(queries, 90, heads)
    assert_same(run(model, factors), expected(factors))
    assert integer_attention(model, 200, unsigned=unsigned) == 1
    assert_same(run(model, factors), expected(factors))
    kinds = kinds_of(model)
    assert kinds[FUSED] == 2 * blocks
    assert not {"MatMul", "DequantizeLinear", "ReduceSum"} & kinds.keys()
    shapes = onnx.shape_inference.infer_shapes(model).graph.value_info
    parts = [i.type.tensor_type.shape.dim[-2].dim_value for i in shapes if "/queries." in i.name]
    assert sum(parts) == (queries if blocks > 1 else 0)


@pytest.mark.parametrize("unsigned", FACTORS)
@pytest.mark.parametrize("zero_point", [-128, -100, 126, 127])
def test_values_with_a_zero_point(zero_point, unsigned):
    """The last code leaves none for a one."""
    factors = random_factors(40, 90)
    wanted = expected(factors, zero_point=zero_point)
    assert wanted.min() >= 0 if zero_point == -128 else wanted.min() < 0
    model = attention_graph(40, 90, zero_point=zero_point)
    assert_same(run(model, factors), wanted)
    assert integer_attention(model, 200, unsigned=unsigned) == 1
    assert_same(run(model, factors), wanted)


def test_keys_are_quantized_before_they_are_transposed():
    model = attention_graph(8, 20)
    integer_attention(model, 64)
    transpose = next(node for node in model.graph.node if node.op_type == "Transpose")
    producer = {out: node for node in model.graph.node for out in node.output}
    source = producer[transpose.input[0]]
    assert (source.op_type, source.input[0]) == ("QuantizeLinear", "k")


@pytest.mark.parametrize("unsigned", FACTORS)
def test_keys_that_are_given_transposed(unsigned):
    factors = random_factors(8, 20)
    model = attention_graph(8, 20, transposed=False)
    assert integer_attention(model, 64, unsigned=unsigned) == 1
    assert "Transpose" not in kinds_of(model)
    rows_last = factors | {"k": np.swapaxes(factors["k"], -1, -2)}
    assert_same(run(model, rows_last), expected(factors))


@pytest.mark.parametrize("unsigned", FACTORS)
def test_the_number_of_keys_may_change(unsigned):
    model = attention_graph(30, "keys")
    integer_attention(model, 64, unsigned=unsigned)
    for keys in (1, 7, 300):
        factors = random_factors(30, keys)
        wanted = expected(factors)
        assert_same(run(model, factors), wanted)


@pytest.mark.parametrize("unsigned", FACTORS)
def test_clipped_values_keep_their_clip(unsigned):
    factors = random_factors(30, 40)
    model = attention_graph(30, 40, limit=0.7)
    assert integer_attention(model, 64, unsigned=unsigned) == 1
    assert_same(run(model, factors), expected(factors, 0.7))
    assert kinds_of(model)["Clip"] == 1


@pytest.mark.parametrize("unsigned", FACTORS)
def test_codes_at_the_ends_of_their_grids(unsigned):
    """The largest sums of a pair of products are those that 16 bits would not hold."""
    factors = random_factors(16, 64)
    factors["v"][..., 0], factors["v"][..., 1] = 1e3, -1e3
    factors["q"][0], factors["k"][0] = 1e3, 1e3
    model = attention_graph(16, 64)
    integer_attention(model, 64, unsigned=unsigned)
    assert_same(run(model, factors), expected(factors))


@pytest.mark.parametrize("missing", ["total", "largest", "p_codes", "q_codes"])
def test_other_attention_is_left_alone(missing):
    """Without one of its nodes it is another product."""
    model = attention_graph(8, 20)
    node = next(n for n in model.graph.node if n.name == missing)
    node.op_type = {"total": "ReduceL1", "largest": "ReduceMin", "p_codes": "Ceil"}.get(
        missing, "Floor"
    )
    before = model.SerializeToString()
    assert integer_attention(model, 64) == 0
    assert model.SerializeToString() == before
