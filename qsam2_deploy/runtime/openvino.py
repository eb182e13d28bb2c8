"""OpenVINO on the CPU."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy.typing as npt

from .._machine import cpu_model
from ..errors import EngineError, MissingDependencyError
from .backend import Arrays
from .exactness import check_exact, inexact_products, probe_inputs
from .lowered_cache import LoweredCache, engine_cache
from .lowering import OPENVINO_QUERY_BLOCK, lower_for_openvino
from .openvino_requests import Requests, engine_settings, first_line, shared_core
from .sessions import SessionBackend


class OpenVinoBackend(SessionBackend):
    """Runs a bundle with OpenVINO; see :mod:`.openvino_requests`."""

    NAME = "openvino"

    def __init__(
        self,
        model: str | os.PathLike[str],
        threads: int | None = None,
        *,
        cache: str | os.PathLike[str] | None = None,
        precision: str = "exact",
    ) -> None:
        """Read and check ``model``.

        Args:
            model: see :class:`.sessions.SessionBackend`, as the rest.
            threads: likewise.
            cache: likewise.
            precision: likewise.

        Raises:
            InputError: an option is not allowed.
            ModelFileError: the file cannot be used.
            MissingDependencyError: ``openvino`` or ``onnx`` is not installed.
            EngineError: integer products are not exact on this processor, whichever way they are
                written.
        """
        super().__init__(model, threads, cache=cache, precision=precision)
        require_exact_products()

    @property
    def products(self) -> str:
        """What is multiplied in integers here, see :func:`openvino_products`."""
        return openvino_products()

    @staticmethod
    def _require_engine() -> None:
        try:
            import openvino  # noqa: F401
        except ImportError as error:
            raise MissingDependencyError("openvino", "openvino", "running a model") from error

    @staticmethod
    def _obstacle_to_fast() -> str | None:
        capabilities = shared_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        return None if "BF16" in capabilities else "this processor has no bfloat16"

    def _lower(self, component: Any) -> None:
        lower_here(component)

    def _lowered_cache(self, folder: str | os.PathLike[str], digest: str) -> LoweredCache:
        about = f"query_block={OPENVINO_QUERY_BLOCK}, products={openvino_products()}"
        return engine_cache(folder, digest, "openvino", about)

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
            self._folder,
            self._digest,
            "openvino",
            f"{cpu_model()}, {about}, products={openvino_products()}",
            ".compiled",
        )

    def _run(self, session: Any, component: str, inputs: Mapping[str, npt.NDArray[Any]]) -> Arrays:
        try:
            results = session.infer(inputs)
            names = [tensor.name for tensor in self.spec.component(component).outputs]
            return {name: results[name] for name in names}
        except Exception as error:  # what OpenVINO raises depends on what goes wrong
            raise EngineError(f"OpenVINO failed in {component}: {first_line(error)}") from error


def lower_here(component: Any) -> None:
    """Prepare one component for OpenVINO as it computes exactly on this processor, in place.

    Args:
        component: an ``onnx.ModelProto`` with one component.
    """
    lower_for_openvino(component, sums_of_16_bits=_saturates())


def openvino_products() -> str:
    """Return what OpenVINO multiplies in integers on this processor, so that sums are exact.

    ``all`` of what it has integer kernels for, or ``those whose sums fit 16 bits``, which leaves
    out products of 8 bits by 8 bits; see :mod:`.lowering.exact_in_16_bits`.
    """
    return "those whose sums fit 16 bits" if _saturates() else "all"


@functools.cache
def require_exact_products() -> None:
    """Check that a lowered model computes the integers that were trained; once in a process.

    Raises:
        EngineError: it does not, or OpenVINO cannot run the probe.
    """
    if _saturates():
        import openvino

        check_exact(f"OpenVINO {openvino.__version__}", _probe(lower_here))


@functools.cache
def _saturates() -> bool:
    return bool(inexact_products(_probe(lower_for_openvino)))


def _probe(lower: Callable[[Any], None]) -> Callable[[Any], Arrays]:
    """Return what runs the component of :mod:`.exactness`."""

    def run(component: Any) -> Arrays:
        names = [output.name for output in component.graph.output]
        lower(component)
        request = Requests(component.SerializeToString(), "the probe", engine_settings(1))
        results = request.infer(probe_inputs())
        return {name: results[name] for name in names}

    return run
