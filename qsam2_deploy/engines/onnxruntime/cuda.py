"""ONNX Runtime on an NVIDIA GPU, for GPUs without TensorRT.

ONNX Runtime's CUDA provider has no integer products, so the graph is that of the FP16 engines: half
precision with its islands of single precision, weights on the grids that were trained, activations
not rounded. Attention runs in blocks of queries, because its scores are stored.

Image features and what the memory attention makes of them stay on the GPU; memories are kept on the
host. ONNX Runtime would run on the CPU without a word where CUDA cannot be used; here that is an
error that says why.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..._common.contradictions import one_line
from ..._common.requirements import check_imported
from ...errors import EngineError, MissingDependencyError
from ...lowering import GPU_QUERY_BLOCK, lower_for_ort_cuda
from ...model_file.lowered_cache import LoweredCache, engine_cache
from ..protocol import Arrays
from ..sessions import SessionBackend

PROVIDER = "CUDAExecutionProvider"

DEVICE_OUTPUTS = frozenset({"features", "high_res_0", "high_res_1", "conditioned"})
"""Outputs that only other components read."""

_PURPOSE = "running a model on an NVIDIA GPU with ONNX Runtime"
_INSTALL = "pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'qsam2-deploy[ort-gpu]'"


class OrtTensor:
    """An output that stays on the device; components take it, and numpy converts it."""

    def __init__(self, value: Any) -> None:
        """Take an ``OrtValue``."""
        self.value = value

    @property
    def shape(self) -> tuple[int, ...]:
        """Its dimensions."""
        return tuple(self.value.shape())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """Copy it to the host."""
        found = self.value.numpy()
        return np.asarray(found if dtype is None else found.astype(dtype))


class OrtCudaBackend(SessionBackend):
    """Runs a bundle with one session of ONNX Runtime's CUDA provider per component."""

    NAME = "ort-cuda"
    _provider, _device = PROVIDER, "cuda"

    @classmethod
    def _require_engine(cls) -> None:
        check_provider(cls._provider)

    def _require_exact(self) -> None:
        """Nothing is to be checked: it multiplies no integers, see ``lower_for_ort_cuda``."""

    @staticmethod
    def _obstacle_to_fast() -> str | None:
        return "ONNX Runtime on a GPU has one precision, which is half"

    @property
    def concurrent(self) -> bool:
        """False: two components at a time have not been tried on a GPU, which they would share."""
        return False

    def _lower(self, component: Any) -> None:
        lower_for_ort_cuda(component)

    def _lowered_cache(self, folder: str | os.PathLike[str], digest: str) -> LoweredCache:
        return engine_cache(folder, digest, "onnxruntime", f"cuda, query_block={GPU_QUERY_BLOCK}")

    def _open(self, lowered: bytes, name: str) -> Any:
        return cuda_session(lowered, name, self._provider)

    def _run(self, session: Any, component: str, inputs: Mapping[str, Any]) -> Arrays:
        names = [tensor.name for tensor in self.spec.component(component).outputs]
        try:
            binding = session.io_binding()
            for name, value in inputs.items():
                if isinstance(value, OrtTensor):
                    binding.bind_ortvalue_input(name, value.value)
                else:
                    binding.bind_cpu_input(name, np.ascontiguousarray(value))
            for name in names:
                binding.bind_output(name, self._device if name in DEVICE_OUTPUTS else "cpu")
            session.run_with_iobinding(binding)
            values = binding.get_outputs()
        except Exception as error:  # ONNX Runtime raises types of its own, without a base
            raise _failure(component, error) from error
        found: dict[str, Any] = {}
        for name, value in zip(names, values, strict=True):
            found[name] = OrtTensor(value) if name in DEVICE_OUTPUTS else value.numpy()
        return found


def check_provider(provider: str = PROVIDER) -> None:
    """Refuse an ONNX Runtime that was made without CUDA.

    Raises:
        MissingDependencyError: ``onnxruntime-gpu`` is not installed, or ``onnxruntime`` is what
            Python finds in its place; says what to install.
        EngineError: it is installed and cannot be loaded.
    """
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise MissingDependencyError("onnxruntime-gpu", "ort-gpu", _PURPOSE) from error
    except (ImportError, OSError) as error:
        raise EngineError(f"ONNX Runtime is installed but cannot be loaded: {error}") from error
    if provider in onnxruntime.get_available_providers():
        check_imported(onnxruntime, "onnxruntime-gpu", "ort-gpu", _PURPOSE)
        return
    if _is_installed("onnxruntime-gpu"):
        raise EngineError(
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other's files, "
            f"so that CUDA is missing; run: {_INSTALL}"
            if _is_installed("onnxruntime")
            else f"this onnxruntime-gpu has no CUDA provider; run: {_INSTALL}"
        )
    raise MissingDependencyError(
        "onnxruntime-gpu",
        "ort-gpu",
        _PURPOSE,
        hint=f"ONNX Runtime {onnxruntime.__version__} for CPUs is there in its place; "
        f"run: {_INSTALL}",
    )


def cuda_session(model: bytes, name: str, provider: str = PROVIDER) -> Any:
    """Return the ``InferenceSession`` of a serialised lowered component on the GPU.

    Messages call it ``name``; ``provider`` is one of ONNX Runtime.

    Raises:
        EngineError: ONNX Runtime refuses the model, or cannot use the GPU; says why.
    """
    import onnxruntime

    # Finds the CUDA libraries of pip; versions before 1.21 look for those of the system alone.
    preload = getattr(onnxruntime, "preload_dlls", None)
    if preload is not None and provider == PROVIDER:
        preload()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(
            model, options, providers=[provider], enable_fallback=0
        )
    except Exception as error:  # ONNX Runtime raises types of its own, without a base
        raise _failure(name, error) from error
    if provider not in session.get_providers():
        raise EngineError(
            f"ONNX Runtime {onnxruntime.__version__} cannot use the GPU: {_reason(onnxruntime)}; "
            "update the driver, or install the CUDA libraries with: "
            "pip install 'onnxruntime-gpu[cuda,cudnn]'"
        )
    return session


def _reason(onnxruntime: Any) -> str:
    """Return why the CUDA provider did not start; ONNX Runtime itself only logs it."""
    folder = Path(onnxruntime.__file__).parent / "capi"
    try:
        ctypes.CDLL(str(folder / "libonnxruntime_providers_cuda.so"))
    except OSError as error:
        missing, found, _ = str(error).partition(": cannot open shared object file")
        if found:
            return f"the library {Path(missing).name} is missing"
    return "no NVIDIA GPU with a driver for its version of CUDA was found"


def _failure(name: str, error: Exception) -> EngineError:
    text = one_line(error)
    if "out of memory" in text.lower() or "failed to allocate memory" in text.lower():
        return EngineError(
            f"the GPU is out of memory: {name} does not fit; close what else uses the GPU, or "
            "track fewer objects"
        )
    return EngineError(f"ONNX Runtime's CUDA provider failed in {name}: {text}")


def _is_installed(distribution: str) -> bool:
    try:
        importlib.metadata.distribution(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
