"""A GPU of doubles where the code under test looks for the installed one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from qsam2_deploy.engines.tensorrt import backend as backend_module
from qsam2_deploy.engines.tensorrt import cuda as cuda_module
from qsam2_deploy.engines.tensorrt.backend import TensorRtBackend
from tests.engines.tensorrt.sessions import open_engine
from tests.support.functional_gpu import FunctionalGpu


@pytest.fixture
def gpu() -> FunctionalGpu:
    return FunctionalGpu()


@pytest.fixture
def engine(gpu, model_path, tmp_path) -> Path:
    return gpu.build(model_path, tmp_path / "m.engine")


@pytest.fixture
def installed(gpu, monkeypatch) -> FunctionalGpu:
    """Install the doubles."""
    monkeypatch.setattr(backend_module, "find_library", lambda name: gpu.library)
    monkeypatch.setattr(cuda_module, "import_runtime", lambda: gpu.runtime)
    return gpu


@pytest.fixture
def opened(gpu, engine) -> Iterator[TensorRtBackend]:
    """The backend of the engine; afterwards nothing may be left on the GPU."""
    with open_engine(gpu, engine) as backend:
        yield backend
    gpu.check()
