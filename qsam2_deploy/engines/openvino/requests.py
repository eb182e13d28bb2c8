"""Compiled models of OpenVINO: one for each number of objects, and one for sizes that repeat.

A model whose other sizes are open runs at once, but slower than one that was compiled for
the sizes it gets (memory attention at 1024 pixels, 7 memories), and compiling takes as long as
running. The first frames of a video all have different numbers of memories and pointers; after
that nothing changes any more. So a model is compiled for sizes that repeat.

The number of objects is never open: with a dynamic batch OpenVINO scales the maxima of quantized
attention twice, and the result is plainly wrong (2026.4; an average error of a tenth of the range).
"""

from __future__ import annotations

import functools
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import EngineError
from ...lowering import lower_for_openvino
from ...model_file.lowered_cache import LoweredCache
from ..exactness import RunProbe, check_exact, inexact_products, probe_inputs
from ..protocol import Arrays

FIXED_AFTER = 3
"""Runs of the same sizes, among the latest :data:`RECENT_RUNS`, that a model is compiled for."""

RECENT_RUNS = 8
"""Two groups of objects may take turns, and both count as repeating."""

KEPT_MODELS = 2
"""Models for certain sizes that are kept, and for numbers of objects; each has its own memory."""

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


INTEGERS, FLOATS = "integers", "floats on the trained grids"
"""What OpenVINO computes quantized products in; see :func:`products`."""


@functools.cache
def products() -> str:
    """Return what OpenVINO computes quantized products in, so that they are exact here.

    Without VNNI its integer kernels cut off sums of pairs at 16 bits. It has no switch for others,
    but one for none: it then rounds to the trained grids, and multiplies floats. Components with
    quantizers of fewer than 8 bits are compiled differently, see ``_exact_clips``, so one is tried.
    """
    run = _probe(integers=True)
    wrong = inexact_products(run) or inexact_products(run, narrow=True)
    return FLOATS if wrong else INTEGERS


@functools.cache
def require_exact_products() -> None:
    """Check that a model computes what was trained on this processor; once in a process.

    Raises:
        EngineError: it does not, or OpenVINO cannot run the probe.
    """
    if products() != INTEGERS:  # else that was the same probe
        import openvino

        check_exact(f"OpenVINO {openvino.__version__}", _probe(integers=False))


def _probe(*, integers: bool) -> RunProbe:
    """Return what runs the component of :mod:`.exactness`."""

    def run(component: Any) -> Arrays:
        names = [output.name for output in component.graph.output]
        lower_for_openvino(component)
        settings = engine_settings(1, integers=integers)
        results = Requests(component.SerializeToString(), "the probe", settings).infer(
            probe_inputs()
        )
        return {name: results[name] for name in names}

    return run


def engine_settings(
    threads: int | None = None,
    precision: str = "exact",
    *,
    profile: bool = False,
    integers: bool | None = None,
) -> dict[str, Any]:
    """Return the settings of OpenVINO's CPU engine.

    Args:
        threads: threads within an operator; default: its own choice.
        precision: of :data:`.options.PRECISIONS`; ``fast`` needs a processor with bfloat16.
        profile: keep times by operator, see ``InferRequest.get_profiling_info``.
        integers: multiply integers; default: if that is exact on this processor.
    """
    if integers is None:
        integers = products() == INTEGERS
    settings: dict[str, Any] = {
        # In bfloat16, its choice on some processors, values would leave the trained grids.
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "fast" else "f32",
        "PERFORMANCE_HINT": "LATENCY",
        # Else, with VNNI, float inputs of layers with integer weights get grids of its own.
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
        # Two components that run at the same time would be pinned to the same processors.
        "ENABLE_CPU_PINNING": False,
    }
    if not integers:
        settings["LP_TRANSFORMS_MODE"] = False
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
        batched: Collection[str] = (),
        cache: LoweredCache | None = None,
    ) -> None:
        """Compile the component for one object.

        Args:
            lowered: the serialised component, lowered for OpenVINO.
            name: what messages call it.
            settings: of :func:`engine_settings`.
            batched: names of the inputs whose first dimension is the number of objects.
            cache: keeps what OpenVINO compiles, for this component and these settings.

        Raises:
            EngineError: OpenVINO refuses the model.
        """
        self._lowered, self._name, self._settings = lowered, name, settings
        self._batched, self._cache = batched, cache
        self._open: OrderedDict[int, Any] = OrderedDict()
        self._fixed: OrderedDict[Sizes, Any] = OrderedDict()
        self._recent: deque[Sizes] = deque(maxlen=RECENT_RUNS)
        compiled = self._open_sizes(1).get_compiled_model()
        self._is_open = any(part.partial_shape.is_dynamic for part in compiled.inputs)
        if not self._is_open and not batched:
            self._lowered = b""  # there is nothing else to compile

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
        objects = next((len(inputs[key]) for key in self._batched if key in inputs), 1)
        if not self._is_open:
            return self._open_sizes(objects)
        sizes = tuple(sorted((key, value.shape) for key, value in inputs.items()))
        if sizes not in self._fixed:
            self._recent.append(sizes)
            if self._recent.count(sizes) < FIXED_AFTER:
                return self._open_sizes(objects)
            # What it computed in is not needed while nothing runs with other sizes.
            self._open_sizes(objects).get_compiled_model().release_memory()
        return _kept(self._fixed, sizes, lambda: self._compiled(dict(sizes)))

    def _open_sizes(self, objects: int) -> Any:
        """Return the request for so many objects, whose other sizes are open."""
        return _kept(self._open, objects, lambda: self._compiled_for(objects))

    def _compiled_for(self, objects: int) -> Any:
        name = self._name if objects == 1 else f"{self._name}.{objects}"
        compiled = _from_cache(name, self._settings, self._cache)
        if compiled is None:
            compiled = self._compiled(dict.fromkeys(self._batched, (objects,)))
            if self._cache is not None:
                self._cache.store(name, _exported(compiled))
        return compiled

    def _compiled(self, sizes: Mapping[str, tuple[int, ...]]) -> Any:
        return _compiled(self._lowered, self._name, self._settings, sizes)


def _kept(models: OrderedDict[Any, Any], key: Any, compiled: Callable[[], Any]) -> Any:
    """Return the request of a key, and forget the one that was not used for the longest time."""
    if key in models:
        models.move_to_end(key)
    else:
        while len(models) >= KEPT_MODELS:
            models.popitem(last=False)
        models[key] = compiled().create_infer_request()
    return models[key]


def first_line(error: Exception) -> str:
    """Return what an error says; the lines that follow name source files of OpenVINO."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(("Exception from", "Check '"))]
    return (told or lines or [type(error).__name__])[0]


def _compiled(
    lowered: bytes, name: str, settings: Mapping[str, Any], sizes: Mapping[str, tuple[int, ...]]
) -> Any:
    """Compile a component for inputs whose first dimensions are ``sizes``."""
    import openvino

    try:
        core = shared_core()
        model = core.read_model(lowered)
        if sizes:
            open_shapes = {key: list(model.input(key).partial_shape) for key in sizes}
            model.reshape(
                {
                    key: openvino.PartialShape([*shape, *open_shapes[key][len(shape) :]])
                    for key, shape in sizes.items()
                }
            )
        return core.compile_model(model, "CPU", {**settings, **_exact_clips(model)})
    except Exception as error:  # what OpenVINO raises depends on what goes wrong
        raise EngineError(
            f"OpenVINO {openvino.__version__} cannot load {name}: "
            f"{first_line(error)}; upgrade it with: pip install -U openvino"
        ) from error


def _exact_clips(model: Any) -> dict[str, str]:
    """Return the settings with which a model computes quantizers of fewer than 8 bits right.

    They are Clip and QuantizeLinear. OpenVINO fuses them with what stands around them into
    generated code ("snippets"), which is plainly wrong once all sizes are fixed: the results of a
    mask decoder at W4A4 were off by a quarter of their range (2026.4, any processor).
    """
    clips = any(node.get_type_name() in ("Clamp", "Minimum") for node in model.get_ops())
    return {"SNIPPETS_MODE": "DISABLE"} if clips else {}


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
