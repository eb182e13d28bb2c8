"""The GPU of this machine with an installed engine library, for tests marked ``gpu``."""

from pathlib import Path
from typing import Any

import pytest

from qsam2_deploy.engine_build import component as component_build
from qsam2_deploy.engine_build.build import engine_from_onnx
from qsam2_deploy.engines.tensorrt.gpu import current_gpu
from qsam2_deploy.engines.tensorrt.library import Library, find_library
from qsam2_deploy.engines.tensorrt.options import Limits
from qsam2_deploy.errors import EngineError, MissingDependencyError


def _stays_as_it_is(component: Any, precision: str, *, fused_attention: bool) -> int:
    return 1


class RealGpu:
    """Has those members of :class:`~tests.support.functional_gpu.FunctionalGpu` that are used."""

    runtime: Any = None

    def __init__(self) -> None:
        if current_gpu() is None:
            pytest.skip("there is no NVIDIA GPU, or cuda-python is not installed")
        try:
            self.library: Library = find_library()
        except (EngineError, MissingDependencyError) as error:
            pytest.skip(str(error))

    def build(self, model: Path, output: Path, *, limits: Limits | None = None) -> Path:
        """Build an engine of a float model that stays in single precision."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(component_build, "lower_for_tensorrt", _stays_as_it_is)
            patch.setenv("NVIDIA_TF32_OVERRIDE", "0")
            engine_from_onnx(
                model, output, precision="fp16", library=self.library, limits=limits,
                show_progress=False, self_test=False,
            )  # fmt: skip
        return output

    def check(self) -> None:
        """Nothing can be seen of a real GPU."""
