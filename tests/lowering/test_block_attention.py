"""Attention in blocks of queries, with keys as rows: the same numbers, in OpenVINO too."""

from collections import Counter

import numpy as np
import onnx
import pytest

from qsam2_deploy.engines.openvino.requests import FLOATS, products
from qsam2_deploy.lowering.block_attention import BLOCK_OF, block_attention
from qsam2_deploy.lowering.chunk_attention import MIN_QUERIES
from tests.lowering.attention_graph import (
    assert_same,
    attention_graph,
    expected,
    random_factors,
    run,
)
from tests.support.graphs import compiled, kernels_of


@pytest.mark.parametrize("heads", [0, 3])
@pytest.mark.parametrize(("queries", "blocks"), [(40, 1), (MIN_QUERIES + 6, 6)])
def test_same_numbers(queries, blocks, heads):
    factors = random_factors(queries, 90, heads)
    model = attention_graph(queries, 90, heads)
    assert block_attention(model, 200) == 1
    onnx.checker.check_model(model, full_check=True)
    assert_same(run(model, factors), expected(factors))
    products = [node.name for node in model.graph.node if node.op_type == "MatMul"]
    assert len(products) == 2 * blocks
    if blocks > 1:
        ends = Counter(name.rpartition(BLOCK_OF)[2] for name in products)
        assert ends == {"scores": blocks, "context": blocks}


@pytest.mark.parametrize("zero_point", [0, -100])
def test_openvino_multiplies_integers_and_transposes_nothing(zero_point):
    factors = random_factors(MIN_QUERIES, 96)
    model = attention_graph(MIN_QUERIES, 96, zero_point=zero_point)
    assert block_attention(model, MIN_QUERIES // 2) == 1
    made = compiled(model)
    assert_same(made(factors)["y"], expected(factors, zero_point=zero_point))
    kinds = kernels_of(made)
    found_products = [kernel for kind, kernel in kinds if kind == "MatMul"]
    assert len(found_products) == 4
    assert "Transpose" not in {kind for kind, _ in kinds}
    scores = [kernel for kernel in found_products if kernel.lower().endswith("_i8")]
    if products() == FLOATS:
        assert not scores
    else:
        assert len(scores) >= (4 if zero_point == 0 else 2)


def test_keys_that_are_split_into_heads_stay_in_order():
    """One transposition may move the heads and the channels at once."""
    factors = random_factors(20, 30, heads=3)
    model = attention_graph(20, 30, heads=3)
    keys = next(node for node in model.graph.node if node.name == "keys")
    keys.attribute[0].ints[:] = [0, 2, 3, 1]
    model.graph.input[1].type.tensor_type.shape.dim[1].dim_value = 30
    model.graph.input[1].type.tensor_type.shape.dim[2].dim_value = 3
    assert block_attention(model, 200) == 1
    turned = [list(n.attribute[0].ints) for n in model.graph.node if n.op_type == "Transpose"]
    assert turned == [[0, 2, 1, 3], [0, 1, 3, 2]]
    moved = factors | {"k": np.ascontiguousarray(factors["k"].transpose(0, 2, 1, 3))}
    assert_same(run(model, moved), expected(factors))


def test_keys_that_are_given_transposed_are_left_alone():
    factors = random_factors(8, 20)
    model = attention_graph(8, 20, transposed=False)
    before = model.SerializeToString()
    assert block_attention(model, 64) == 1
    assert model.SerializeToString() == before
    columns = factors | {"k": np.swapaxes(factors["k"], -1, -2)}
    assert_same(run(model, columns), expected(factors))


def test_nothing_to_do():
    model = attention_graph(8, 20)
    del model.graph.node[-1]
    assert block_attention(model, 64) == 0
