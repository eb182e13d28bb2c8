"""OpenVINO on the CPU."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

from ..._common.machine import cpu_model
from ..._common.requirements import check_imported
from ...errors import EngineError, MissingDependencyError
from ...lowering import OPENVINO_QUERY_BLOCK, lower_for_openvino
from ...model_file.lowered_cache import LoweredCache, engine_cache
from ..protocol import Arrays
from ..sessions import SessionBackend
from .requests import (
    Requests,
    engine_settings,
    first_line,
    products,
    require_exact_products,
    shared_core,
)


class OpenVinoBackend(SessionBackend):
    """Runs a bundle with OpenVINO."""

    NAME = "openvino"

    @property
    def products(self) -> str:
        """What quantized products are computed in, see ``requests.products``."""
        return products()

    @staticmethod
    def _require_engine() -> None:
        try:
            import openvino
        except ImportError as error:
            raise MissingDependencyError("openvino", "openvino", "running a model") from error
        check_imported(openvino, "openvino", "openvino", "running a model")

    def _require_exact(self) -> None:
        require_exact_products()

    @staticmethod
    def _obstacle_to_fast() -> str | None:
        capabilities = shared_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        return None if "BF16" in capabilities else "this processor has no bfloat16"

    def _lower(self, component: Any) -> None:
        lower_for_openvino(component)

    def _lowered_cache(self, folder: str | os.PathLike[str], digest: str) -> LoweredCache:
        return engine_cache(folder, digest, "openvino", f"query_block={OPENVINO_QUERY_BLOCK}")

    def _open(self, lowered: bytes, name: str) -> Requests:
        settings = engine_settings(self._threads, self._precision)
        inputs = self.spec.component(name).inputs
        batched = [tensor.name for tensor in inputs if tensor.shape[:1] == ("B",)]
        return Requests(lowered, name, settings, batched, self._compiled_cache(settings))

    def _compiled_cache(self, settings: Mapping[str, Any]) -> LoweredCache | None:
        if self._folder is None:
            return None
        about = ", ".join(f"{key}={value}" for key, value in sorted(settings.items()))
        return engine_cache(
            self._folder, self._digest, "openvino", f"{cpu_model()}, {about}", ".compiled"
        )

    def _run(self, session: Any, component: str, inputs: Mapping[str, npt.NDArray[Any]]) -> Arrays:
        try:
            results = session.infer(inputs)
            names = [tensor.name for tensor in self.spec.component(component).outputs]
            return {name: results[name] for name in names}
        except Exception as error:  # what OpenVINO raises depends on what goes wrong
            raise EngineError(f"OpenVINO failed in {component}: {first_line(error)}") from error
