"""The kernels, compiled once for all tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from qsam2_deploy.errors import EngineError
from qsam2_deploy.runtime.kernels import CACHE_VARIABLE, build_kernels
from qsam2_deploy.runtime.kernels.build import find_compiler


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library, in a folder that is not the user's."""
    pytest.importorskip("onnxruntime", reason="the kernels are for ONNX Runtime")
    try:
        find_compiler()
    except EngineError as error:
        pytest.skip(str(error))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(tmp_path_factory.mktemp("kernels")))
        return build_kernels()


@pytest.fixture
def library(built: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The library, which backends find, with nothing of the user's own settings."""
    monkeypatch.setenv(CACHE_VARIABLE, str(built.parent))
    for name in ("QSAM2_KERNELS", "QSAM2_KERNEL_PATH"):
        monkeypatch.delenv(name, raising=False)
    return built
