"""The count of integer multiply-adds, on layers whose numbers are known by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks._integer_share import integer_layers, integer_share, multiply_adds
from qsam2_deploy.runtime.bundle import read_bundle
from tests.quantized_layers import graph_of, make_layer

COUNTS = {
    "linear": 64 * 128 * 48,
    "conv": 2 * 24 * 8 * 8 * (8 * 9),
    "depthwise": 16 * 16 * 16 * 49,
    "transposed": 8 * 8 * 32 * 12 * 4,
}


@pytest.mark.parametrize("plan", [{}, {"weight_grid": "midrise", "input_grid": "affine"}])
@pytest.mark.parametrize("kind", COUNTS)
def test_multiply_adds_of_a_layer(kind: str, plan: dict[str, str]) -> None:
    model = graph_of(kind, make_layer(kind, 4, **plan)[0])
    assert list(multiply_adds(model).values()) == [COUNTS[kind]]
    runs_in_integers = bool(integer_layers(model))
    assert runs_in_integers == (kind in ("linear", "conv"))
    assert integer_share({"c": model})["all"] == runs_in_integers


def test_nearly_all_of_a_model_runs_in_integers(quantized_path: Path) -> None:
    share = integer_share(read_bundle(quantized_path).components)
    assert share["image_encoder"] == 1
    assert 0.9 < share["all"] < 1
