"""The paths of the kernels, one after the other."""

import pytest

from qsam2_deploy.engines.onnxruntime.kernels import processor_path


@pytest.fixture(params=("avx512vnni", "avxvnni", "avx2", "neon", "generic"))
def path(request, library, monkeypatch) -> str:
    """A path that this processor has."""
    if processor_path(library, request.param) is None:
        pytest.skip(f"this processor cannot run {request.param}")
    monkeypatch.setenv("QSAM2_KERNEL_PATH", request.param)
    return str(request.param)
