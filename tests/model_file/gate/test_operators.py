"""The gate's table is what the exporter writes: no operator, attribute or type is missing."""

from pathlib import Path
from typing import Any

import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("torch", reason="torch is needed to export the test models")

from qsam2_deploy.export import onnx_from_checkpoint  # noqa: E402
from qsam2_deploy.export.graph import IR_VERSIONS as WRITTEN_VERSIONS  # noqa: E402
from qsam2_deploy.export.graph import OPSET  # noqa: E402
from qsam2_deploy.model_file.bundle import read_bundle  # noqa: E402
from qsam2_deploy.model_file.gate.operators import (  # noqa: E402
    IR_VERSIONS,
    OPERATORS,
    OPSETS,
    STORED_BITS,
)
from tests.support.quantized_model import quantize_model  # noqa: E402
from tests.support.weights import load_written, small_config, write_checkpoint  # noqa: E402

KINDS: dict[str, dict[str, Any]] = {
    "float": {},
    "float 2.0": {"version": "2.0"},
    "w8a8": {"bits": (8, 8)},
    "w4a6": {"bits": (4, 6)},
    "w2a2 with int8 attention": {"bits": (2, 2), "attention": True},
    "w8a8 with int8 attention": {"bits": (8, 8), "attention": True},
    "w8a8 with int8 attention, opset 18": {"bits": (8, 8), "attention": True, "opset": 18},
    "numbers of half precision": {"half": True},
    "pooled memory": {"bits": (4, 4), "pool_memory": 2},
}
"""What an export can be asked for."""


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("exported")
    return {name: _export(folder, i, **kind) for i, (name, kind) in enumerate(KINDS.items())}


def _export(
    folder: Path,
    number: int,
    *,
    bits: tuple[int, int] | None = None,
    attention: bool = False,
    half: bool = False,
    version: str = "2.1",
    **options: int,
) -> Path:
    config = small_config(64, version=version, d_model=32, memory_dim=8, embed_dim=8)
    path = write_checkpoint(folder / f"{number}.pt", config)
    loaded = load_written(path)
    if half:
        loaded.model.half().float()
    if bits is not None:
        loaded = quantize_model(loaded, bits[0], activation_bits=bits[1], attention=attention)
    onnx_from_checkpoint(loaded, path.with_suffix(".onnx"), show_progress=False, **options)
    return path.with_suffix(".onnx")


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_exported_passes(exported, kind):
    assert read_bundle(exported[kind]).components


def test_the_table_holds_nothing_that_is_not_exported(exported):
    models = [onnx.load(path) for path in exported.values()]
    nodes = [node for model in models for node in model.graph.node]
    assert {node.op_type for node in nodes} == set(OPERATORS)
    written = {(node.op_type, a.name) for node in nodes for a in node.attribute}
    allowed = {(name, a) for name, operator in OPERATORS.items() for a in operator.attributes}
    assert written == allowed
    types = {tensor.data_type for model in models for tensor in model.graph.initializer}
    assert types == set(STORED_BITS)


def test_the_versions_are_those_of_the_exporter():
    assert (OPSETS[0], set(OPSETS)) == (OPSET, set(WRITTEN_VERSIONS))
    assert set(IR_VERSIONS) == set(WRITTEN_VERSIONS.values())
