"""The double raises where a GPU would crash, or would compute with the wrong numbers."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from qsam2_deploy.engines.tensorrt.cuda import Cuda, DeviceArray, Event, Graph, PinnedArray, Stream
from qsam2_deploy.errors import EngineError
from tests.cuda_double import VERSIONS, CudaDouble, MisuseError


@pytest.fixture(params=VERSIONS)
def double(request) -> CudaDouble:
    return CudaDouble(request.param)


class Bench:
    """A device with a stream, an array on the device and one on the host."""

    def __init__(self, double: CudaDouble) -> None:
        self.cuda = Cuda(double.runtime)
        self.stream = Stream(self.cuda)
        self.device = DeviceArray(self.cuda, (16,), np.float32)
        self.host = PinnedArray(self.cuda, (16,), np.float32)

    def copy(self, target: int, source: int, nbytes: int = 64) -> None:
        self.cuda.copy(target, source, nbytes, self.stream)

    def close(self) -> None:
        self.stream.synchronize()
        for resource in (self.device, self.host, self.stream):
            resource.close()


def test_round_trip(double):
    bench = Bench(double)
    bench.host.host[:] = np.arange(16)
    bench.copy(bench.device.pointer, bench.host.pointer)
    bench.stream.synchronize()
    bench.host.host[:] = 0
    bench.copy(bench.host.pointer, bench.device.pointer)
    assert (bench.host.host == 0).all(), "nothing is done before somebody waits"
    bench.stream.synchronize()
    assert (bench.host.host == np.arange(16)).all()
    assert double.copies == [("pinned to device", 64), ("device to pinned", 64)]
    bench.close()
    double.check()


def test_new_memory_is_no_number(double):
    bench = Bench(double)
    assert np.isnan(bench.host.host).all()
    bench.host.host[:] = 0
    bench.copy(bench.host.pointer, bench.device.pointer)
    bench.stream.synchronize()
    assert np.isnan(bench.host.host).all()


def test_a_source_that_changes_too_early_arrives_changed(double):
    bench = Bench(double)
    bench.host.host[:] = 1
    bench.copy(bench.device.pointer, bench.host.pointer)
    bench.host.host[:] = 2
    bench.copy(bench.host.pointer, bench.device.pointer)
    bench.stream.synchronize()
    assert (bench.host.host == 2).all()


def _freed(bench: Bench) -> None:
    bench.device.close()
    bench.copy(bench.host.pointer, bench.device.pointer)


def _pageable(bench: Bench) -> None:
    bench.copy(bench.device.pointer, np.zeros(16, np.float32).ctypes.data)


def _freed_too_early(bench: Bench) -> None:
    bench.copy(bench.device.pointer, bench.host.pointer)
    bench.device.close()


def _recorded(bench: Bench) -> None:
    graph = Graph(bench.cuda, bench.stream)
    with graph.recording():
        bench.copy(bench.device.pointer, bench.host.pointer)
    bench.device.close()
    graph.launch()


def _allocated_while_recording(bench: Bench) -> None:
    with Graph(bench.cuda, bench.stream).recording():
        DeviceArray(bench.cuda, (1,), np.float32)


def _given_back_twice(bench: Bench) -> None:
    for _ in range(2):
        bench.cuda.release("cudaFree", bench.device.pointer)


def _destroyed_stream(bench: Bench) -> None:
    bench.stream.close()
    bench.copy(bench.device.pointer, bench.host.pointer)


MISUSES: dict[str, Callable[[Bench], Any]] = {
    "after it was given back": _freed,
    "no address of device memory": _pageable,
    "68 bytes at 0 of pinned memory of 64": lambda b: b.copy(b.device.pointer, b.host.pointer, 68),
    "while work uses it": _freed_too_early,
    "given back twice": _given_back_twice,
    "was not allocated as device": lambda b: b.cuda.release("cudaFree", b.host.pointer),
    "whose memory was given back": _recorded,
    "cudaMalloc while a stream": _allocated_while_recording,
    "is no stream": _destroyed_stream,
    "is not in cuda": lambda b: b.cuda.call("cudaMemcpyAsynch"),
    "cudaMalloc takes": lambda b: b.cuda.call("cudaMalloc", 1, 2),
    "is not mapped": lambda b: b.cuda.call("cudaHostGetDevicePointer", b.host.pointer, 0),
}


@pytest.mark.parametrize("message", MISUSES)
def test_misuse_raises_and_is_remembered(message, double):
    bench = Bench(double)
    with pytest.raises(MisuseError, match=re.escape(message)):
        MISUSES[message](bench)
    with pytest.raises(MisuseError, match=re.escape(message)):
        double.check()


def test_what_is_left_is_named(double):
    bench = Bench(double)
    bench.device.close()
    with pytest.raises(AssertionError, match="not given back: 64 bytes of pinned memory, stream"):
        double.check()


def test_a_graph_does_its_work_at_every_launch(double):
    bench = Bench(double)
    graph = Graph(bench.cuda, bench.stream)
    with graph.recording():
        bench.copy(bench.device.pointer, bench.host.pointer)
    for number in (1, 2):
        bench.host.host[:] = number
        graph.launch()
        bench.stream.synchronize()
        found = double.memory.view(bench.device.pointer, 64).view(np.float32)
        assert (found == number).all()
    graph.close()
    bench.close()
    double.check()


def test_a_recording_that_fails_leaves_nothing(double):
    bench = Bench(double)
    graph = Graph(bench.cuda, bench.stream)
    with pytest.raises(EngineError, match="on purpose"), graph.recording():
        raise EngineError("on purpose")
    bench.close()
    double.check()


def test_events_know_when_they_were_reached(double):
    bench = Bench(double)
    begin, end = Event(bench.cuda), Event(bench.cuda)
    begin.record(bench.stream)
    bench.copy(bench.device.pointer, bench.host.pointer)
    end.record(bench.stream)
    with pytest.raises(MisuseError, match="was not reached"):
        end.milliseconds_since(begin)
    end.synchronize()
    assert end.milliseconds_since(begin) > 0
    begin.close()
    end.close()
    bench.close()


@pytest.mark.parametrize("mapped", [False, True])
def test_mapped_memory_is_that_of_the_device(double, mapped):
    bench = Bench(double)
    array = PinnedArray(bench.cuda, (16,), np.float32, mapped=mapped)
    assert (array.device_pointer is not None) is mapped
    if array.device_pointer is not None:
        array.host[:] = 7
        found = double.memory.view(array.device_pointer, 64, on_device=True)
        assert (found.view(np.float32) == 7).all()
    array.close()
    bench.close()
    double.check()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("cudaErrorMemoryAllocation", "out of memory: a tensor of 0.0 MiB does not fit"),
        ("cudaErrorNoDevice", "needs an NVIDIA GPU and its driver"),
        ("cudaErrorInsufficientDriver", "needs an NVIDIA GPU and its driver"),
        ("cudaErrorIllegalAddress", "the GPU failed in cudaMalloc: cudaErrorIllegalAddress"),
    ],
)
def test_error_codes_are_sentences(double, error, message):
    double.faults["cudaMalloc"] = error
    with pytest.raises(EngineError, match=message) as raised:
        DeviceArray(Cuda(double.runtime), (4,), np.float32)
    assert "\n" not in str(raised.value)
    double.check()


def test_without_the_drivers_library_there_is_no_gpu():
    class Runtime:
        def cudaGetDevice(self) -> Any:  # noqa: N802
            raise RuntimeError("Failed to dlopen libcuda.so.1")

    with pytest.raises(EngineError, match=r"needs an NVIDIA GPU.*Failed to dlopen"):
        Cuda(Runtime())
