"""ONNX Runtime on a GPU: what runs there is run here on the CPU, and nothing fails silently."""

import importlib.metadata
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest

from qsam2_deploy.engine_build.reference import scene
from qsam2_deploy.engines.onnxruntime import cuda as ort_cuda
from qsam2_deploy.engines.onnxruntime.cpu import OrtBackend
from qsam2_deploy.engines.onnxruntime.cuda import DEVICE_OUTPUTS, OrtCudaBackend, OrtTensor
from qsam2_deploy.engines.open import open_backend
from qsam2_deploy.engines.tensorrt.gpu import current_gpu
from qsam2_deploy.errors import EngineError, InputError, MissingDependencyError
from qsam2_deploy.lowering import lower_for_ort_cuda
from qsam2_deploy.model_file.bundle import read_bundle
from qsam2_deploy.predictors.image_predictor import SAM2ImagePredictor
from qsam2_deploy.predictors.segmenter import VideoSegmenter
from qsam2_deploy.spec import COMPONENTS, IMAGE_ENCODER, MEMORY_ATTENTION
from qsam2_deploy.tracking.results import Prompt
from tests.support.components import random_inputs

onnxruntime = pytest.importorskip("onnxruntime")

WITHOUT_CUDA = "CUDAExecutionProvider" not in onnxruntime.get_available_providers()
INSTALL = r"pip install 'qsam2-deploy\[ort-gpu\]'"


class OnCpu(OrtCudaBackend):
    """The same, bindings and all, with the provider and the memory of the CPU."""

    _provider, _device = "CPUExecutionProvider", "cpu"


def track(model: Any) -> list[np.ndarray]:
    """Return the logits of four frames, two objects."""
    logits = []
    with VideoSegmenter(model) as segmenter:
        size = segmenter.spec.image_size
        prompts = [Prompt(1, points=[(size / 2, size / 2)], labels=[1]),
                   Prompt(2, box=(2, 2, size / 2, size / 2))]  # fmt: skip
        for number in range(4):
            result = segmenter.track(scene(size, 2 * number), prompts if number == 0 else ())
            logits += [found.logits for found in result.objects]
    return logits


def test_it_tracks_as_on_the_cpu(model_path):
    wanted, found = track(OrtBackend(model_path, threads=1)), track(OnCpu(model_path))
    assert len(found) == len(wanted) == 8
    spread = float(np.std(wanted))
    for ours, theirs in zip(found, wanted, strict=True):
        assert np.abs(ours - theirs).max() < 0.02 * spread
    assert any((ours != theirs).any() for ours, theirs in zip(found, wanted, strict=True))


@pytest.mark.parametrize("component", COMPONENTS)
def test_what_components_read_stays_on_the_device(model_path, component):
    with OnCpu(model_path) as backend:
        outputs = backend.run(component, random_inputs(backend.spec, component))
        expected = backend.spec.component(component).outputs
    assert list(outputs) == [tensor.name for tensor in expected]
    for tensor in expected:
        value = outputs[tensor.name]
        assert isinstance(value, OrtTensor if tensor.name in DEVICE_OUTPUTS else np.ndarray)
        shape = tuple(2 if d == "B" else d for d in tensor.shape)
        assert (value.shape, np.asarray(value).dtype) == (shape, tensor.dtype)


def test_tensors_of_the_device_are_bound_as_they_are(model_path, monkeypatch):
    copied: list[str] = []
    bind = onnxruntime.IOBinding.bind_cpu_input

    def listen(self: Any, name: str, value: Any) -> None:
        copied.append(name)
        bind(self, name, value)

    monkeypatch.setattr(onnxruntime.IOBinding, "bind_cpu_input", listen)
    with OnCpu(model_path) as backend:
        image = random_inputs(backend.spec, IMAGE_ENCODER)
        features = backend.run(IMAGE_ENCODER, image)["features"]
        inputs = random_inputs(backend.spec, MEMORY_ATTENTION) | {"features": features}
        backend.run(MEMORY_ATTENTION, inputs)
    assert "image" in copied
    assert "memory" in copied
    assert "features" not in copied


def test_the_image_predictor_takes_it(model_path):
    masks = []
    for backend in (OrtBackend(model_path, threads=1), OnCpu(model_path)):
        with SAM2ImagePredictor(backend) as predictor:
            predictor.set_image(scene(64, 0))
            masks.append(predictor.predict(np.array([[32, 32]]), np.array([1]), return_logits=True))
    np.testing.assert_allclose(masks[1][0], masks[0][0], atol=0.05 * float(np.std(masks[0][0])))


@pytest.mark.parametrize("component", COMPONENTS)
def test_the_graph_is_in_half_precision(quantized_path, component):
    model = read_bundle(quantized_path).components[component]
    lower_for_ort_cuda(model)
    onnx.checker.check_model(model, full_check=True)
    kinds = {node.op_type for node in model.graph.node}
    assert not kinds & {"QuantizeLinear", "DequantizeLinear", "Round"}
    types = {tensor.data_type for tensor in model.graph.initializer}
    assert onnx.TensorProto.FLOAT16 in types
    assert not types & {onnx.TensorProto.INT4, onnx.TensorProto.INT8}


def test_a_cache_is_its_own(model_path, tmp_path):
    for _ in range(2):
        with OnCpu(model_path, cache=tmp_path):
            pass
    assert len(list(tmp_path.iterdir())) == 4
    with OrtBackend(model_path, threads=1, cache=tmp_path):
        pass
    assert len(list(tmp_path.iterdir())) == 8


# ----------------------------------------------------------- what is missing
@pytest.mark.skipif(not WITHOUT_CUDA, reason="onnxruntime-gpu is installed")
def test_the_installed_package_for_cpus_says_what_to_install(model_path):
    with pytest.raises(
        MissingDependencyError, match=f"for CPUs is there in its place.*{INSTALL}"
    ) as caught:
        open_backend(model_path, "ort-cuda")
    assert "pip uninstall -y onnxruntime" in str(caught.value)


@pytest.mark.skipif(not WITHOUT_CUDA, reason="onnxruntime-gpu is installed")
def test_a_real_session_that_falls_back_is_refused(model_path):
    """What ONNX Runtime does with a provider that it does not have: a warning, and the CPU."""
    model = read_bundle(model_path).components[MEMORY_ATTENTION]
    lower_for_ort_cuda(model)
    with (
        pytest.warns(UserWarning, match="not in available provider names"),
        pytest.raises(
            EngineError, match=r"cannot use the GPU: the library libonnxruntime_providers_cuda\.so"
        ),
    ):
        ort_cuda.cuda_session(model.SerializeToString(), MEMORY_ATTENTION)


class FakeRuntime:
    """Stands for onnxruntime-gpu: it lists CUDA, which its sessions may lack."""

    __version__ = "1.30.0"
    __file__ = "/nowhere/onnxruntime/__init__.py"

    def __init__(self, *given: str, error: str = "") -> None:
        self.given, self.error, self.preloaded = list(given), error, 0
        self.asked: list[Any] = []

    def preload_dlls(self) -> None:
        self.preloaded += 1

    def get_available_providers(self) -> list[str]:
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]

    def SessionOptions(self) -> SimpleNamespace:  # noqa: N802
        return SimpleNamespace()

    def InferenceSession(  # noqa: N802
        self, model: bytes, options: Any, *, providers: list[str], enable_fallback: int
    ) -> SimpleNamespace:
        assert enable_fallback == 0
        self.asked.append(providers)
        if self.error:
            raise RuntimeError(self.error)
        return SimpleNamespace(get_providers=lambda: self.given)


@pytest.fixture
def fake(monkeypatch) -> Any:
    def put(*given: str, error: str = "") -> FakeRuntime:
        made = FakeRuntime(*given, error=error)
        monkeypatch.setitem(sys.modules, "onnxruntime", made)
        return made

    return put


def test_a_provider_that_works_is_used(fake):
    runtime = fake("CUDAExecutionProvider", "CPUExecutionProvider")
    ort_cuda.check_provider()
    assert ort_cuda.cuda_session(b"", "x").get_providers()[0] == "CUDAExecutionProvider"
    assert runtime.asked == [["CUDAExecutionProvider"]]
    assert runtime.preloaded == 1


@pytest.mark.parametrize(
    ("library", "reason"),
    [
        ("libcublasLt.so.12: cannot open shared object file: No such file or directory",
         "the library libcublasLt.so.12 is missing"),
        ("undefined symbol: Provider_GetHost", "no NVIDIA GPU with a driver"),
        ("", "no NVIDIA GPU with a driver"),
    ],
)  # fmt: skip
def test_a_provider_that_does_not_start_is_an_error(fake, monkeypatch, library, reason):
    def load(path: str) -> None:
        assert path == "/nowhere/onnxruntime/capi/libonnxruntime_providers_cuda.so"
        if library:
            raise OSError(library)

    monkeypatch.setattr(ort_cuda.ctypes, "CDLL", load)
    fake("CPUExecutionProvider")
    with pytest.raises(EngineError, match=reason) as caught:
        ort_cuda.cuda_session(b"", "image_encoder")
    assert "ONNX Runtime 1.30.0 cannot use the GPU" in str(caught.value)
    assert "pip install 'onnxruntime-gpu[cuda,cudnn]'" in str(caught.value)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("CUDA failure 2: out of memory; GPU=0\n; expr=cudaMalloc", "the GPU is out of memory"),
        ("Failed to allocate memory for requested buffer of size 9", "the GPU is out of memory"),
        ("CUDA failure 100:\n no CUDA-capable device", "failed in x: CUDA failure 100: no CUDA"),
    ],
)
def test_errors_of_the_session_are_one_sentence(fake, error, message):
    fake(error=error)
    with pytest.raises(EngineError, match=message) as caught:
        ort_cuda.cuda_session(b"", "x")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("installed", "kind", "message"),
    [
        ({"onnxruntime", "onnxruntime-gpu"}, EngineError, "both installed and overwrite each"),
        ({"onnxruntime-gpu"}, EngineError, "this onnxruntime-gpu has no CUDA provider"),
        ({"onnxruntime"}, MissingDependencyError, "for CPUs is there in its place"),
    ],
)
def test_packages_in_each_others_way(fake, monkeypatch, installed, kind, message):
    def distribution(name: str) -> None:
        if name not in installed:
            raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", distribution)
    runtime = fake()
    monkeypatch.setattr(runtime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(kind, match=f"{message}.*{INSTALL}"):
        ort_cuda.check_provider()


def test_no_package_at_all(model_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingDependencyError, match=INSTALL.replace("pip install ", "")):
        OrtCudaBackend(model_path)


def test_the_backend_has_a_name(model_path, monkeypatch):
    monkeypatch.setattr(ort_cuda, "check_provider", lambda provider: None)
    assert isinstance(open_backend(model_path, "ort-cuda"), OrtCudaBackend)
    with pytest.raises(InputError, match="ort-cuda"):
        open_backend(model_path, "cuda")


# ------------------------------------------------------------------ on a GPU
@pytest.mark.gpu
@pytest.mark.skipif(current_gpu() is None, reason="needs an NVIDIA GPU")
def test_a_real_gpu_tracks_as_the_cpu(model_path):
    wanted, found = track(OrtBackend(model_path, threads=1)), track(OrtCudaBackend(model_path))
    spread = float(np.std(wanted))
    for ours, theirs in zip(found, wanted, strict=True):
        assert np.abs(ours - theirs).max() < 0.05 * spread
