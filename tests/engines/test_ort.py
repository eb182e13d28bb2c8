import sys
from typing import Any

import numpy as np
import pytest

from qsam2_deploy.engines.onnxruntime.cpu import OrtBackend, session_from_lowered, session_from_onnx
from qsam2_deploy.engines.open import open_backend
from qsam2_deploy.errors import EngineError, InputError, MissingDependencyError, ModelFileError
from qsam2_deploy.model_file.bundle import read_bundle
from qsam2_deploy.spec import COMPONENTS, IMAGE_ENCODER, MEMORY_ENCODER
from tests.support.components import random_inputs

pytest.importorskip("onnxruntime")


@pytest.mark.parametrize("component", COMPONENTS)
def test_outputs_are_as_specified(model_path, component):
    with OrtBackend(model_path, threads=1) as backend:
        outputs = backend.run(component, random_inputs(backend.spec, component))
        expected = backend.spec.component(component).outputs
    assert list(outputs) == [tensor.name for tensor in expected]
    for tensor in expected:
        value = outputs[tensor.name]
        shape = tuple(2 if d == "B" else d for d in tensor.shape)
        assert (value.shape, value.dtype) == (shape, tensor.dtype)
        assert np.isfinite(value).all()


def test_dynamic_sizes_may_change_from_call_to_call(model_path):
    with OrtBackend(model_path, threads=1) as backend:
        both = random_inputs(backend.spec, MEMORY_ENCODER)
        together = backend.run(MEMORY_ENCODER, both)["memory"]
        for row in range(2):
            one = {k: v if k == "features" else v[row : row + 1] for k, v in both.items()}
            alone = backend.run(MEMORY_ENCODER, one)["memory"]
            np.testing.assert_allclose(alone[0], together[row], rtol=1e-4, atol=1e-5)


def test_inputs_need_not_be_contiguous(model_path):
    with OrtBackend(model_path, threads=1) as backend:
        image = random_inputs(backend.spec, IMAGE_ENCODER)["image"]
        expected = backend.run(IMAGE_ENCODER, {"image": image})["features"]
        strided = np.asfortranarray(image)
        assert not strided.flags.c_contiguous
        got = backend.run(IMAGE_ENCODER, {"image": strided})["features"]
    np.testing.assert_array_equal(got, expected)


def test_threads_sleep_while_they_wait_and_no_memory_is_planned(model_path):
    """Two components may run side by side, and the sizes of the inputs change."""
    with OrtBackend(model_path, threads=2) as backend:
        for session in backend._sessions.values():
            options = session.get_session_options()
            assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
            assert not options.enable_mem_pattern


def test_the_spec_is_known_before_entering(model_path):
    assert OrtBackend(model_path).spec.image_size == 64


def test_closed_before_and_after(model_path):
    backend = OrtBackend(model_path, threads=1)
    with pytest.raises(EngineError, match="the backend is closed: enter it"):
        backend.run(IMAGE_ENCODER, {})
    with backend:
        pass
    with pytest.raises(EngineError, match="closed"):
        backend.run(IMAGE_ENCODER, {})


def test_it_can_be_entered_again(model_path):
    backend = OrtBackend(model_path, threads=1)
    feeds = random_inputs(backend.spec, MEMORY_ENCODER)
    results = []
    for _ in range(2):
        with backend:
            results.append(backend.run(MEMORY_ENCODER, feeds)["memory"])
    np.testing.assert_array_equal(*results)


def test_wrong_inputs_are_an_engine_error(model_path):
    with OrtBackend(model_path, threads=1) as backend:
        wrong = {"image": np.zeros((1, 3, 32, 32), np.float32)}
        with pytest.raises(EngineError, match="ONNX Runtime failed in image_encoder"):
            backend.run(IMAGE_ENCODER, wrong)
        with pytest.raises(EngineError, match="failed in image_encoder"):
            backend.run(IMAGE_ENCODER, {})


def test_a_model_that_the_engine_refuses(model_path):
    component = read_bundle(model_path).components[MEMORY_ENCODER]
    component.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(EngineError, match="cannot load memory_encoder"):
        session_from_onnx(component)


def test_a_failed_start_leaves_nothing_half_open(model_path, monkeypatch):
    backend = OrtBackend(model_path, threads=1)
    calls: list[str] = []

    def fails_later(model: bytes, name: str, threads: int | None, **options: Any) -> Any:
        calls.append(name)
        if len(calls) == 3:
            raise EngineError("no memory")
        return session_from_lowered(model, name, threads, **options)

    monkeypatch.setattr("qsam2_deploy.engines.onnxruntime.cpu.session_from_lowered", fails_later)
    with pytest.raises(EngineError, match="no memory"):
        backend.__enter__()
    with pytest.raises(EngineError, match="closed"):
        backend.run(IMAGE_ENCODER, {})
    with backend:
        for component in COMPONENTS:
            backend.run(component, random_inputs(backend.spec, component))


def test_onnxruntime_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingDependencyError, match=r"'onnxruntime'.*'qsam2-deploy\[ort\]'"):
        OrtBackend(tmp_path / "m.onnx")


def test_open_backend(model_path, tmp_path):
    assert isinstance(open_backend(model_path, "ort", threads=1), OrtBackend)
    with pytest.raises(ModelFileError, match="there is no model"):
        open_backend(tmp_path / "none.onnx")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backend": "magic"}, "backend must be one of auto, .*but got 'magic'"),
        ({"threads": 0}, "threads must be at least 1, but got 0"),
    ],
)
def test_open_backend_refuses(model_path, arguments, message):
    with pytest.raises(InputError, match=message):
        open_backend(model_path, **arguments)
