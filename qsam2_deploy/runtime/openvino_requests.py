"""Compiled models of OpenVINO, for any sizes and for those that come again and again.

A model for any sizes runs at once, but an eighth slower than one that was compiled for the sizes
it gets (memory attention at 1024 pixels, 7 memories), and compiling takes longer than the run. The
first frames of a video all have different numbers of memories and pointers; after that nothing
changes any more. So a model is compiled for sizes that repeat.
"""

from __future__ import annotations

import functools
from collections import OrderedDict, deque
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import EngineError
from .lowered_cache import LoweredCache

FIXED_AFTER = 3
"""Runs of the same sizes, among the latest :data:`RECENT_RUNS`, that a model is compiled for."""

RECENT_RUNS = 8
"""Two groups of objects may take turns, and both count as repeating."""

FIXED_MODELS = 2
"""Models for certain sizes that are kept; each has memory of its own for what it computes."""

Sizes = tuple[tuple[str, tuple[int, ...]], ...]


@functools.cache
def shared_core() -> Any:
    """Return the ``openvino.Core`` of this process, which is never given back.

    The first model that a core compiles gives its thread a stack for signal handlers, which goes
    when the core does. Of several cores that go in the order in which they came, one puts back the
    stack of another that is gone already, and the next signal, such as Ctrl-C, ends the process
    (OpenVINO 2026.4, the class ``SigAltStackSetup`` of its CPU plugin).
    """
    import openvino

    return openvino.Core()


def engine_settings(
    threads: int | None = None, precision: str = "exact", *, profile: bool = False
) -> dict[str, Any]:
    """Return the settings of OpenVINO's CPU engine.

    Args:
        threads: threads within an operator; default: its own choice.
        precision: of :data:`.options.PRECISIONS`; ``fast`` needs a processor with bfloat16.
        profile: keep times by operator, see ``InferRequest.get_profiling_info``.
    """
    settings: dict[str, Any] = {
        # In bfloat16, its choice on some processors, values would leave the trained grids.
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "fast" else "f32",
        "PERFORMANCE_HINT": "LATENCY",
        # Two components that run at the same time would be pinned to the same processors.
        "ENABLE_CPU_PINNING": False,
    }
    if threads is not None:
        settings["INFERENCE_NUM_THREADS"] = threads
    if profile:
        settings["PERF_COUNT"] = True
    return settings


class Requests:
    """A component, ready to run."""

    def __init__(
        self,
        lowered: bytes,
        name: str,
        settings: Mapping[str, Any],
        cache: LoweredCache | None = None,
    ) -> None:
        """Compile the component for any sizes.

        Args:
            lowered: the serialised component, lowered for OpenVINO.
            name: what messages call it.
            settings: of :func:`engine_settings`.
            cache: keeps what OpenVINO compiles, for this component and these settings.

        Raises:
            EngineError: OpenVINO refuses the model.
        """
        self._name, self._settings = name, settings
        compiled = _from_cache(name, settings, cache)
        if compiled is None:
            compiled = _compiled(lowered, name, settings, {})
            if cache is not None:
                cache.store(name, _exported(compiled))
        self._lowered = lowered if any(i.partial_shape.is_dynamic for i in compiled.inputs) else b""
        self._any_sizes = compiled.create_infer_request()
        self._fixed: OrderedDict[Sizes, Any] = OrderedDict()
        self._recent: deque[Sizes] = deque(maxlen=RECENT_RUNS)

    @property
    def fixed_sizes(self) -> list[Sizes]:
        """The sizes of inputs, by name, that there is a model for, the latest one last."""
        return list(self._fixed)

    def infer(self, inputs: Mapping[str, npt.NDArray[Any]]) -> Any:
        """Run the component; return its outputs by name.

        Raises:
            EngineError: OpenVINO cannot compile it for these sizes.
            RuntimeError: OpenVINO refuses the inputs.
        """
        feeds = {key: np.ascontiguousarray(value) for key, value in inputs.items()}
        return self.request(feeds).infer(feeds, share_inputs=True)

    def request(self, inputs: Mapping[str, npt.NDArray[Any]]) -> Any:
        """Return the ``InferRequest`` for inputs of these sizes, of which one more run is made."""
        if not self._lowered:
            return self._any_sizes
        sizes = tuple(sorted((key, value.shape) for key, value in inputs.items()))
        if sizes in self._fixed:
            self._fixed.move_to_end(sizes)
            return self._fixed[sizes]
        self._recent.append(sizes)
        if self._recent.count(sizes) < FIXED_AFTER:
            return self._any_sizes
        return self._fix(sizes)

    def _fix(self, sizes: Sizes) -> Any:
        while len(self._fixed) >= FIXED_MODELS:
            self._fixed.popitem(last=False)
        # What it computed in is not needed while nothing runs with other sizes.
        self._any_sizes.get_compiled_model().release_memory()
        compiled = _compiled(self._lowered, self._name, self._settings, dict(sizes))
        self._fixed[sizes] = compiled.create_infer_request()
        return self._fixed[sizes]


def first_line(error: Exception) -> str:
    """Return what an error says; the lines that follow name source files of OpenVINO."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(("Exception from", "Check '"))]
    return (told or lines or [type(error).__name__])[0]


def _compiled(
    lowered: bytes,
    name: str,
    settings: Mapping[str, Any],
    sizes: Mapping[str, tuple[int, ...]],
) -> Any:
    import openvino

    try:
        core = shared_core()
        model = core.read_model(lowered)
        if sizes:
            model.reshape({key: list(shape) for key, shape in sizes.items()})
        return core.compile_model(model, "CPU", dict(settings))
    except Exception as error:  # what OpenVINO raises depends on what goes wrong
        raise EngineError(
            f"OpenVINO {openvino.__version__} cannot load {name}: "
            f"{first_line(error)}; upgrade it with: pip install -U openvino"
        ) from error


def _from_cache(name: str, settings: Mapping[str, Any], cache: LoweredCache | None) -> Any:
    """Return the compiled model from the cache; None if it must be compiled."""
    kept = None if cache is None else cache.load_opaque(name)
    if kept is None:
        return None
    try:
        return shared_core().import_model(kept, "CPU", dict(settings))
    except Exception:  # it was made on another kind of machine, for instance
        return None


def _exported(compiled: Any) -> bytes:
    exported = compiled.export_model()
    return exported if isinstance(exported, bytes) else bytes(exported.getbuffer())
