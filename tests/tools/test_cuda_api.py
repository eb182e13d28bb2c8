"""Listing the names of cuda-python, on a small package in its place."""

import pytest

from qsam2_deploy.errors import InputError
from tests.cuda_double import VERSIONS, CudaDouble
from tools.cuda_api import FROZEN, listing_of_folder

MODULE = '''
import enum
class cudaError_t(enum.IntEnum):
    cudaSuccess = 0
class cudaDeviceAttr(enum.IntEnum):
    cudaDevAttrIntegrated = 18
class cudaMemcpyKind(enum.IntEnum):
    cudaMemcpyDefault = 4
class cudaStreamCaptureMode(enum.IntEnum):
    cudaStreamCaptureModeThreadLocal = 1
cudaHostAllocMapped = 2
def cudaGetDevice():
    """cudaGetDevice()

    Returns which device is currently being used."""
def cudaMemcpyAsync(*_):
    """cudaMemcpyAsync(dst, src, size_t count, kind: cudaMemcpyKind, stream)"""
def helper():
    """helper(x)"""
'''


@pytest.mark.parametrize("module", ["cuda.bindings.runtime", "cuda.cudart"])
def test_functions_enumerations_and_constants(module, tmp_path):
    path = tmp_path.joinpath(*module.split(".")).with_suffix(".py")
    path.parent.mkdir(parents=True)
    path.write_text(MODULE)
    assert listing_of_folder(tmp_path) == {
        "module": module,
        "functions": {
            "cudaGetDevice": [],
            "cudaMemcpyAsync": ["dst", "src", "count", "kind", "stream"],
        },
        "enums": {
            "cudaDeviceAttr": {"cudaDevAttrIntegrated": 18},
            "cudaError_t": {"cudaSuccess": 0},
            "cudaMemcpyKind": {"cudaMemcpyDefault": 4},
            "cudaStreamCaptureMode": {"cudaStreamCaptureModeThreadLocal": 1},
        },
        "constants": {"cudaHostAllocMapped": 2},
    }


def test_no_cuda_python(tmp_path):
    with pytest.raises(InputError, match="cannot import the CUDA runtime"):
        listing_of_folder(tmp_path)


def test_the_frozen_lists_are_those_of_the_tool():
    assert sorted(VERSIONS) == sorted(name.replace("==", "-") for name in FROZEN)


@pytest.mark.parametrize("version", VERSIONS)
def test_numbers_that_never_change(version):
    runtime = CudaDouble(version).runtime
    assert runtime.cudaError_t.cudaErrorMemoryAllocation == 2
    assert runtime.cudaDeviceAttr.cudaDevAttrIntegrated == 18
    assert runtime.cudaMemcpyKind.cudaMemcpyDefault == 4
