import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from qsam2_deploy._common.seal import seal
from qsam2_deploy.errors import InputError, MissingDependencyError, ModelFileError
from qsam2_deploy.model_file.bundle import read_bundle, write_split
from qsam2_deploy.spec import (
    COMPONENTS,
    MASK_DECODER,
    MEMORY_ENCODER,
    SCHEMA_VERSION,
    SPEC_KEY,
    ModelSpec,
)
from tests.predictors.fake_backend import fake_spec
from tests.support.components import random_inputs

onnx = pytest.importorskip("onnx")

from tests.support.tiny_model import tiny_bytes  # noqa: E402  (it needs onnx)

shared_files = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=80
)


@pytest.fixture(scope="module")
def tiny() -> bytes:
    return tiny_bytes()


def refused(path: Path, longest: int = 400) -> str:
    """Return the message with which ``path`` is refused: one sentence, shorter than ``longest``."""
    with pytest.raises(ModelFileError) as caught:
        read_bundle(path)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < longest
    return message


# ------------------------------------------------------------------ what it reads
def test_components_have_bare_names_and_their_own_nodes(model_path):
    bundle = read_bundle(model_path)
    assert tuple(bundle.components) == COMPONENTS
    for name, component in bundle.components.items():
        expected = bundle.spec.component(name)
        assert [i.name for i in component.graph.input] == [t.name for t in expected.inputs]
        assert [o.name for o in component.graph.output] == [t.name for t in expected.outputs]
        assert component.graph.node
        assert all(node.name.startswith(f"{name}/") for node in component.graph.node)


def test_components_hold_every_node_and_weight_once(model_path):
    bundle, whole = read_bundle(model_path), onnx.load(model_path)
    parts = bundle.components.values()
    for field in ("node", "initializer"):
        names = sorted(item.name for item in getattr(whole.graph, field))
        assert names == sorted(item.name for p in parts for item in getattr(p.graph, field))
        assert names


def test_spec_and_digest_come_from_the_file(model_path):
    bundle = read_bundle(str(model_path))
    assert bundle.spec.image_size == 64
    assert bundle.spec.constants["no_mem_embed"].shape == (32,)
    assert bundle.path == model_path
    assert bundle.digest.encode() == model_path.read_bytes()[-64:]


# ------------------------------------------------------------------ what it refuses
def test_no_such_file(tmp_path):
    message = refused(tmp_path / "none.onnx")
    assert message == f"there is no model {tmp_path / 'none.onnx'}; check the path"


def test_a_folder(tmp_path):
    assert f"{tmp_path} is a folder" in refused(tmp_path)


def test_an_unreadable_file(tmp_path, monkeypatch):
    def denied(*_: Any) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("qsam2_deploy.model_file.bundle.read_bounded", denied)
    assert refused(tmp_path / "m.onnx").endswith("m.onnx: Permission denied")


@pytest.mark.parametrize("data", [b"", b"hello, this is text\n", b"\x89PNG\r\n\x1a\n" + bytes(99)])
def test_no_onnx_model(tmp_path, data):
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    assert "qsam2-export" in refused(path)


def test_an_onnx_model_of_others(tmp_path):
    path = tmp_path / "m.onnx"
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    node = onnx.helper.make_node("Identity", ["x"], ["x"])
    graph = onnx.helper.make_graph([node], "g", [value], [value])
    path.write_bytes(onnx.helper.make_model(graph).SerializeToString())
    message = refused(path)
    assert "was not made by qsam2-export" in message
    assert "qsam2-export model.pt model.onnx" in message


def test_a_newer_schema_is_told_although_it_may_be_sealed_otherwise(tmp_path):
    path = tmp_path / "m.onnx"
    text = json.dumps({"schema_version": SCHEMA_VERSION + 1, "surprise": 1})
    sealed = tiny_bytes({SPEC_KEY: text})
    path.write_bytes(sealed[:-1] + b"?")
    message = refused(path)
    assert f"schema version {SCHEMA_VERSION + 1}" in message
    assert "pip install -U qsam2-deploy" in message


DAMAGED = [
    ("", "damaged"),
    ("[]", "damaged"),
    ("{}", "damaged"),
    ('{"schema_version": 1e999}', "damaged"),
    ('{"schema_version": 1}', "damaged"),
]


@pytest.mark.parametrize(("text", "expected"), DAMAGED)
def test_damaged_metadata(tmp_path, text, expected):
    path = tmp_path / "m.onnx"
    path.write_bytes(tiny_bytes({SPEC_KEY: text}))
    assert expected in refused(path)


@pytest.mark.parametrize("entry", ["rules", "constants", "mean", "std", "quantization"])
@pytest.mark.parametrize("value", [5, "text", [1, 2], {"a": {"b": 1}}, [[]], None])
def test_metadata_of_wrong_types_never_crashes(tmp_path, entry, value):
    path = tmp_path / "m.onnx"
    data = {**json.loads(fake_spec().to_json()), entry: value}
    sealed = tiny_bytes({SPEC_KEY: json.dumps(data)})
    path.write_bytes(sealed[:-1] + bytes([sealed[-1] ^ 1]))
    refused(path)


@pytest.mark.parametrize(
    ("component", "tensor", "kind"),
    [(MEMORY_ENCODER, "object_score", "input"), (MASK_DECODER, "ious", "output")],
)
def test_a_missing_tensor(tmp_path, component, tensor, kind):
    path = tmp_path / "m.onnx"
    path.write_bytes(tiny_bytes(drop=(component, tensor)))
    assert refused(path) == (
        f"the model's component {component} has no {kind} {tensor!r}; export it again"
    )


def test_a_missing_component(tmp_path):
    model = onnx.ModelProto.FromString(tiny_bytes())
    for field in ("node", "input", "output"):
        items = getattr(model.graph, field)
        kept = [item for item in items if not item.name.startswith(f"{MEMORY_ENCODER}/")]
        del items[:]
        items.extend(kept)
    body = model.SerializeToString()
    path = tmp_path / "m.onnx"
    path.write_bytes(body + seal(body))
    assert f"component {MEMORY_ENCODER} has no input 'features'" in refused(path)


def test_onnx_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'qsam2-deploy\[ort\]'"):
        read_bundle(tmp_path / "m.onnx")


# ------------------------------------------------------------------ damage of all kinds
def test_the_tiny_model_is_read(tmp_path, tiny):
    """Otherwise the tests below would refuse it for another reason."""
    path = tmp_path / "m.onnx"
    path.write_bytes(tiny)
    assert tuple(read_bundle(path).components) == COMPONENTS


@pytest.mark.parametrize(
    "bit", [0, 7, *(pytest.param(bit, marks=pytest.mark.slow) for bit in range(1, 7))]
)
def test_every_byte_with_a_flipped_bit_isrefused(tiny, monkeypatch, bit):
    damaged = bytearray(tiny)
    monkeypatch.setattr("qsam2_deploy.model_file.bundle.read_bounded", lambda *_: bytes(damaged))
    for position in range(len(tiny)):
        damaged[position] ^= 1 << bit
        with pytest.raises(ModelFileError):
            read_bundle("m.onnx")
        damaged[position] ^= 1 << bit
    assert damaged == tiny


@shared_files
@given(data=st.data())
def test_any_flipped_bit_of_a_real_model_isrefused(model_path, tmp_path, data):
    whole = bytearray(model_path.read_bytes())
    ending = 12_000  # the metadata and the names of the graph's ends
    near_end = st.integers(max(0, len(whole) - ending) * 8, len(whole) * 8 - 1)
    position = data.draw(near_end | st.integers(0, len(whole) * 8 - 1))
    whole[position // 8] ^= 1 << position % 8
    path = tmp_path / "m.onnx"
    path.write_bytes(whole)
    refused(path)


@shared_files
@given(length=st.integers(0, 10**6))
@example(length=0)
@example(length=1)
def test_a_truncated_tiny_model_isrefused(tmp_path, tiny, length):
    path = tmp_path / "m.onnx"
    path.write_bytes(tiny[: length % len(tiny)])
    message = refused(path)
    assert "truncated" in message


@pytest.mark.parametrize("share", [0.0, 0.001, 0.25, 0.5, 0.9, 0.999, 1.0])
def test_a_truncated_real_model_isrefused(model_path, tmp_path, share):
    whole = model_path.read_bytes()
    path = tmp_path / "m.onnx"
    path.write_bytes(whole[: int((len(whole) - 1) * share)])
    assert "truncated" in refused(path)


# ------------------------------------------------------------------ four ordinary models
def test_split_models_are_valid_and_give_the_same_numbers(model_path, tmp_path):
    import onnxruntime

    from qsam2_deploy.engines.onnxruntime.cpu import OrtBackend

    paths = write_split(model_path, tmp_path / "new" / "folder")
    assert [path.name for path in paths] == [f"{name}.onnx" for name in COMPONENTS]
    with OrtBackend(model_path, threads=1) as backend:
        for name, path in zip(COMPONENTS, paths, strict=True):
            onnx.checker.check_model(str(path), full_check=True)
            session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
            feeds = random_inputs(backend.spec, name)
            outputs = [output.name for output in session.get_outputs()]
            got = dict(zip(outputs, session.run(None, feeds), strict=True))
            expected = backend.run(name, feeds)
            assert got.keys() == expected.keys()
            for key, value in expected.items():
                assert np.isfinite(value).all()
                assert np.ptp(value) > 0
                np.testing.assert_allclose(got[key], value, rtol=1e-4, atol=1e-4)


def test_split_models_carry_the_spec(model_path, tmp_path):
    for path in write_split(model_path, tmp_path):
        entries = {e.key: e.value for e in onnx.load(path).metadata_props}
        assert ModelSpec.from_json(entries[SPEC_KEY]).image_size == 64


def test_split_into_a_file_isrefused(model_path, tmp_path):
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(InputError, match="cannot make the folder"):
        write_split(model_path, tmp_path / "taken")
    assert (tmp_path / "taken").read_text() == "mine"


def test_split_of_a_damaged_model_writes_nothing(tmp_path, tiny):
    path = tmp_path / "m.onnx"
    path.write_bytes(tiny[:-1])
    with pytest.raises(ModelFileError):
        write_split(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
