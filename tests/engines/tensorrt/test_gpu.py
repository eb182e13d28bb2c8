"""What the CUDA runtime says of the GPU."""

from types import SimpleNamespace
from typing import Any

import pytest

from qsam2_deploy.engines.tensorrt.gpu import Gpu, gpu_from_runtime


class FakeRuntime:
    cudaError_t = SimpleNamespace(cudaSuccess=0, cudaErrorNoDevice=100)  # noqa: N815

    def __init__(self, *, device: int = 0, properties: int = 0, name: Any = b"Orin\0\0") -> None:
        self._device, self._properties, self._name = device, properties, name

    def cudaGetDevice(self) -> tuple[int, int]:  # noqa: N802
        return self._device, 1

    def cudaGetDeviceProperties(self, device: int) -> tuple[int, Any]:  # noqa: N802
        assert device == 1
        return self._properties, SimpleNamespace(name=self._name, major=8, minor=7)


@pytest.mark.parametrize("name", [b"Orin\0\0", "Orin"])
def test_name_and_compute_capability(name):
    assert gpu_from_runtime(FakeRuntime(name=name)) == Gpu("Orin", "8.7")


def test_there_may_be_none():
    assert gpu_from_runtime(FakeRuntime(device=100)) is None
    assert gpu_from_runtime(FakeRuntime(properties=100)) is None


def test_without_a_driver_there_is_none():
    class NoDriver(FakeRuntime):
        def cudaGetDevice(self) -> tuple[int, int]:  # noqa: N802
            raise RuntimeError("Failed to dlopen libcudart.so")

    assert gpu_from_runtime(NoDriver()) is None
