"""A GPU without a GPU: the doubles of TensorRT and CUDA, and ONNX Runtime for the arithmetic.

What an engine would compute is computed by ONNX Runtime on the same component when the stream is
waited for, in the bytes that the CUDA double holds at the addresses that the context was given.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from qsam2_deploy.engine_build import build as build_module
from qsam2_deploy.engine_build.build import engine_from_onnx
from qsam2_deploy.engines.onnxruntime.cpu import session_from_onnx
from qsam2_deploy.engines.tensorrt.gpu import Gpu
from qsam2_deploy.engines.tensorrt.library import (
    TENSORRT,
    TENSORRT_RTX,
    Library,
    library_from_module,
)
from qsam2_deploy.engines.tensorrt.options import Limits
from qsam2_deploy.lowering.memory_output import finish_memory
from qsam2_deploy.model_file.bundle import read_bundle
from qsam2_deploy.spec import COMPONENTS
from tests.cuda_double import VERSIONS as CUDA_VERSIONS
from tests.cuda_double import CudaDouble, MisuseError
from tests.tensorrt_double.library import TensorRTDouble
from tests.tensorrt_double.objects import state

WORKSPACE = 4096
"""Bytes that every engine says it needs while it runs."""


class FunctionalGpu:
    """One version of TensorRT on one GPU.

    A model that is built takes the place of the one before.

    Attributes:
        trt: the double of the library.
        cuda: the double of the CUDA runtime.
        library: to be given to the code under test.
        runtime: likewise.
    """

    def __init__(
        self, version: str = "tensorrt-10.3", cuda: str = CUDA_VERSIONS[-1], **other: Any
    ) -> None:
        self.trt = TensorRTDouble(version)
        self.trt.script.on_execute = self._execute
        size = "ICudaEngine.get_device_memory_size_for_profile_v2"
        self.trt.script.returns[size] = WORKSPACE
        self.cuda = CudaDouble(cuda, **other)
        self.runtime = self.cuda.runtime
        name = TENSORRT_RTX if "rtx" in version else TENSORRT
        self.library: Library = library_from_module(name, self.trt.module)
        self._sessions: dict[frozenset[str], Any] = {}

    def check(self) -> None:
        """Raise what the code under test did wrong, and what it did not give back."""
        self.trt.check()
        self.cuda.check()

    def build(self, model: Path, output: Path, *, limits: Limits | None = None) -> Path:
        """Build an engine file that computes what ``model`` does on this GPU."""
        bundle = read_bundle(model)
        for component in COMPONENTS:
            session = session_from_onnx(prepared(bundle.components[component]), 1)
            names = [tensor.name for tensor in session.get_inputs()]
            self._sessions[frozenset(names)] = session
        return self._built(model, output, precision="fp16", limits=limits)

    def _built(self, model: Path, output: Path, **options: Any) -> Path:
        """Build an engine file for this GPU, whatever it computes."""
        major, minor = self.cuda.capability
        with pytest.MonkeyPatch.context() as patch:
            gpu = Gpu(self.cuda.name, f"{major}.{minor}")
            patch.setattr(build_module, "current_gpu", lambda: gpu)
            engine_from_onnx(
                model, output, library=self.library, show_progress=False, self_test=False,
                **options,
            )  # fmt: skip
        return output

    def _execute(self, context: Any) -> None:
        stream = next(
            call.arguments["stream_handle"]
            for call in reversed(self.trt.calls)
            if call.name == "IExecutionContext.execute_async_v3"
        )
        pointer, size = state(context)["device_memory"]
        assert size >= WORKSPACE
        engine = state(context)["engine"]
        inputs, outputs = {}, {}
        for tensor in state(engine)["plan"].tensors:
            shape = tuple(context.get_tensor_shape(tensor.name))
            dtype = np.dtype(
                self.trt.module.nptype(getattr(self.trt.module.DataType, tensor.dtype))
            )
            address = state(context)["addresses"][tensor.name]
            if address % 256:
                raise self.cuda.misuse(f"{tensor.name} is not aligned")
            (inputs if tensor.is_input else outputs)[tensor.name] = (address, shape, dtype)
        session = self._sessions[frozenset(inputs)]
        where = [(a, _size(s, d)) for a, s, d in (*inputs.values(), *outputs.values())]
        for address, nbytes in where:
            self.cuda.memory.find(address, max(nbytes, 1), on_device=True)

        def compute() -> None:
            self.cuda.memory.find(pointer, size, on_device=True)
            feeds = {name: self.array(*given) for name, given in inputs.items()}
            names = list(outputs)
            for name, value in zip(names, session.run(names, feeds), strict=True):
                target = self.array(*outputs[name])
                if target.shape != value.shape or target.dtype != value.dtype:
                    raise MisuseError(f"{name} is {value.dtype} {value.shape}")
                target[...] = value

        self.cuda.enqueue(stream, compute, [(pointer, size), *((a, max(n, 1)) for a, n in where)])

    def array(self, address: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """Return an array in device memory, as the device sees it."""
        nbytes = _size(shape, dtype)
        if nbytes == 0:
            return np.empty(shape, dtype)
        return self.cuda.memory.view(address, nbytes, on_device=True).view(dtype).reshape(shape)


def prepared(component: Any) -> Any:
    """Return a component with what the builder adds to the graph of an engine."""
    finish_memory(component)
    return component


def _size(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    return math.prod(shape) * dtype.itemsize
