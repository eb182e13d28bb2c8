"""Every call to the CUDA runtime: device and host memory, streams, events, graphs.

The calls are those of ``cuda-python``: ``cuda.bindings.runtime``, or ``cuda.cudart`` of 12.5 and
earlier. Each returns a tuple that begins with an error code; here a code that is not success is an
:class:`EngineError` of one sentence. What is released is released at once and once, by ``close``;
nothing waits for the garbage collector.
"""

from __future__ import annotations

import ctypes
import math
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from ...errors import EngineError, MissingDependencyError

ALIGNMENT = 256
"""Bytes; TensorRT wants tensors to begin at a multiple, and CUDA's allocations do."""

_MIB = 1 << 20
_Owner = TypeVar("_Owner", bound="_Resource")


class Cuda:
    """The current device of the CUDA runtime.

    Attributes:
        runtime: the module with the calls, or what stands for it in tests.
        device: number of the device.
        integrated: the GPU shares the memory of the host, as on a Jetson.
    """

    def __init__(self, runtime: Any = None) -> None:
        """Find the device.

        Raises:
            MissingDependencyError: ``cuda-python`` is not installed.
            EngineError: there is no GPU, or no driver for it.
        """
        self.runtime = import_runtime() if runtime is None else runtime
        self.device = int(self.call("cudaGetDevice"))
        attribute = self.runtime.cudaDeviceAttr.cudaDevAttrIntegrated
        self.integrated = bool(self.call("cudaDeviceGetAttribute", attribute, self.device))

    def call(self, name: str, *arguments: Any, purpose: str = "") -> Any:
        """Call a function of the runtime.

        Args:
            name: of the function.
            *arguments: of the function.
            purpose: what memory is wanted for, for the message where there is too little.

        Returns:
            Its result without the error code: None, a value, or a tuple.

        Raises:
            EngineError: it failed.
        """
        try:
            error, *results = getattr(self.runtime, name)(*arguments)
        # What older bindings raise where the driver's library is missing.
        except RuntimeError as failure:
            raise EngineError(_NO_GPU.format(reason=failure)) from failure
        codes = self.runtime.cudaError_t
        if error == codes.cudaSuccess:
            return None if not results else results[0] if len(results) == 1 else tuple(results)
        if error == codes.cudaErrorMemoryAllocation:
            raise EngineError(_OUT_OF_MEMORY.format(purpose=purpose or name))
        reason = self._describe(error)
        if error in (codes.cudaErrorNoDevice, codes.cudaErrorInsufficientDriver):
            raise EngineError(_NO_GPU.format(reason=reason))
        raise EngineError(f"the GPU failed in {name}: {reason}; restart the program")

    def make_current(self) -> None:
        """Select the device in this thread; the selection of one thread is not that of others."""
        self.call("cudaSetDevice", self.device)

    def release(self, name: str, handle: Any) -> None:
        """Call a function that releases ``handle``, whose error would only hide an earlier one."""
        getattr(self.runtime, name)(handle)

    def copy(self, target: int, source: int, nbytes: int, stream: Stream) -> None:
        """Enqueue a copy between any two of pinned host memory and device memory."""
        kind = self.runtime.cudaMemcpyKind.cudaMemcpyDefault
        self.call("cudaMemcpyAsync", target, source, nbytes, kind, stream.handle)

    def _describe(self, error: Any) -> str:
        _, text = self.runtime.cudaGetErrorString(error)
        return text.decode() if isinstance(text, bytes) else str(text)


_OUT_OF_MEMORY = (
    "the GPU is out of memory: {purpose} does not fit; close what else uses the GPU, track fewer "
    "objects, or build the engine with a smaller --max-objects"
)
_NO_GPU = (
    "an engine needs an NVIDIA GPU and its driver ({reason}); run it where it was built, or give "
    "the model.onnx instead"
)


def import_runtime() -> Any:
    """Return the module of the CUDA runtime, of whichever layout is installed.

    Raises:
        MissingDependencyError: ``cuda-python`` is not installed.
    """
    try:
        from cuda.bindings import runtime
    except ImportError:
        try:
            from cuda import cudart as runtime
        except ImportError as error:
            raise MissingDependencyError(
                "cuda-python",
                "tensorrt",
                "running an engine",
                hint="run: pip install 'cuda-python>=12.6'",
            ) from error
    return runtime


class _Resource:
    """Something of the device that is released by leaving its context, or by ``close``."""

    _open = True

    def __enter__(self: _Owner) -> _Owner:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Release it; to do so again does nothing."""
        if self._open:
            self._open = False
            self._release()

    def _release(self) -> None:
        raise NotImplementedError


class Stream(_Resource):
    """A queue of work that does not wait for the default stream.

    Attributes:
        handle: what the CUDA runtime calls it.
        waits: how often the host has waited for all work.
    """

    def __init__(self, cuda: Cuda) -> None:
        """Make it on the current device.

        Raises:
            EngineError: CUDA failed.
        """
        self._cuda, self.waits = cuda, 0
        flags = cuda.runtime.cudaStreamNonBlocking
        self.handle = cuda.call("cudaStreamCreateWithFlags", flags)

    def __int__(self) -> int:
        """Return the handle as TensorRT wants it."""
        return int(self.handle)

    def synchronize(self) -> None:
        """Wait until all work is done.

        Raises:
            EngineError: some of it failed.
        """
        self._cuda.call("cudaStreamSynchronize", self.handle)
        self.waits += 1

    def _release(self) -> None:
        self._cuda.release("cudaStreamDestroy", self.handle)


class Event(_Resource):
    """A point in a stream, with the time at which the work reached it."""

    def __init__(self, cuda: Cuda) -> None:
        """Make it; it has no time yet.

        Raises:
            EngineError: CUDA failed.
        """
        self._cuda = cuda
        self.handle = cuda.call("cudaEventCreateWithFlags", cuda.runtime.cudaEventDefault)

    def record(self, stream: Stream) -> None:
        """Set the point behind all work that is in ``stream`` now."""
        self._cuda.call("cudaEventRecord", self.handle, stream.handle)

    def synchronize(self) -> None:
        """Wait until the work before the point is done."""
        self._cuda.call("cudaEventSynchronize", self.handle)

    def milliseconds_since(self, earlier: Event) -> float:
        """Return the time between two points that were reached."""
        return float(self._cuda.call("cudaEventElapsedTime", earlier.handle, self.handle))

    def _release(self) -> None:
        self._cuda.release("cudaEventDestroy", self.handle)


class Sized:
    """Something of a shape and a dtype."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def row_bytes(self) -> int:
        """Bytes from one element of the first axis to the next."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Size of its elements in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


class DeviceArray(_Resource, Sized):
    """An array in device memory, contiguous, owned.

    Attributes:
        shape: of the array.
        dtype: of the array.
        pointer: address on the device; never 0, not even of an empty array.
    """

    def __init__(
        self, cuda: Cuda, shape: tuple[int, ...], dtype: npt.DTypeLike, *, purpose: str = "a tensor"
    ) -> None:
        """Allocate it; what it holds is undefined.

        Args:
            cuda: the device.
            shape: of the array.
            dtype: of the array.
            purpose: what messages call it.

        Raises:
            EngineError: there is too little memory.
        """
        self._cuda, self.shape, self.dtype = cuda, tuple(shape), np.dtype(dtype)
        told = f"{purpose} of {self.nbytes / _MIB:.1f} MiB"
        cuda.make_current()
        self.pointer = int(cuda.call("cudaMalloc", max(self.nbytes, ALIGNMENT), purpose=told))

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Describe it to other libraries; they must wait for the stream that wrote it."""
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.pointer, False),
            "strides": None,
            "version": 3,
        }

    def _release(self) -> None:
        self._cuda.release("cudaFree", self.pointer)


class PinnedArray(_Resource):
    """An array in host memory that the device can copy from and to while the host goes on.

    Attributes:
        host: the array, as numpy sees it.
        device_pointer: address of the same memory on the device if it is mapped, else None.
    """

    def __init__(
        self, cuda: Cuda, shape: tuple[int, ...], dtype: npt.DTypeLike, *, mapped: bool = False
    ) -> None:
        """Allocate it.

        Args:
            cuda: the device.
            shape: of the array.
            dtype: of the array.
            mapped: the device reads and writes it in place; faster than copies on an integrated
                GPU, and much slower on others.

        Raises:
            EngineError: there is too little memory.
        """
        runtime, self._cuda = cuda.runtime, cuda
        nbytes = max(math.prod(shape) * np.dtype(dtype).itemsize, 1)
        flags = runtime.cudaHostAllocMapped if mapped else runtime.cudaHostAllocDefault
        told = f"a pinned buffer of {nbytes / _MIB:.1f} MiB"
        self.pointer = int(cuda.call("cudaHostAlloc", nbytes, flags, purpose=told))
        buffer = (ctypes.c_uint8 * nbytes).from_address(self.pointer)
        count = math.prod(shape)
        self.host: npt.NDArray[Any] = np.frombuffer(memoryview(buffer), dtype, count).reshape(shape)
        self.device_pointer: int | None = None
        if mapped:
            try:
                found = cuda.call("cudaHostGetDevicePointer", self.pointer, 0)
            except BaseException:
                self.close()
                raise
            self.device_pointer = int(found)

    def _release(self) -> None:
        self._cuda.release("cudaFreeHost", self.pointer)


class Graph(_Resource):
    """Work of a stream that was recorded, to be launched as a whole.

    ::

        graph = Graph(cuda, stream)
        with graph.recording():
            ...                       # enqueue on the stream; nothing runs yet
        graph.launch()
    """

    def __init__(self, cuda: Cuda, stream: Stream) -> None:
        """Begin with nothing recorded."""
        self._cuda, self._stream = cuda, stream
        self._executable: Any = None

    def recording(self) -> _Recording:
        """Return a context in which what is enqueued on the stream is recorded instead of run.

        Leaving it raises EngineError if CUDA cannot record that work.
        """
        return _Recording(self)

    def begin(self) -> None:
        """Begin to record."""
        # What other threads do meanwhile, such as allocations, is of no concern to it.
        mode = self._cuda.runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._cuda.call("cudaStreamBeginCapture", self._stream.handle, mode)

    def end(self, *, keep: bool) -> None:
        """End to record, and make what was recorded ready to launch if it is to be kept."""
        if not keep:
            error, graph = self._cuda.runtime.cudaStreamEndCapture(self._stream.handle)
            if error == self._cuda.runtime.cudaError_t.cudaSuccess:
                self._cuda.release("cudaGraphDestroy", graph)
            return
        graph = self._cuda.call("cudaStreamEndCapture", self._stream.handle)
        try:
            self._executable = self._cuda.call("cudaGraphInstantiate", graph, 0)
        finally:
            self._cuda.release("cudaGraphDestroy", graph)

    def launch(self) -> None:
        """Enqueue what was recorded on the stream.

        Raises:
            EngineError: CUDA failed.
        """
        self._cuda.call("cudaGraphLaunch", self._executable, self._stream.handle)

    def _release(self) -> None:
        if self._executable is not None:
            self._cuda.release("cudaGraphExecDestroy", self._executable)


class _Recording:
    """The time in which a graph records."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    def __enter__(self) -> None:
        self._graph.begin()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._graph.end(keep=kind is None)
