"""Every call to TensorRT's builder: the same names in 10.3 to 11.x and in TensorRT-RTX.

The library's module is an argument, so that tests can put another in its place. What one of the
versions does not have is used nowhere, or only where :class:`.options.BuildOptions` asks for it and
``check_builder`` allows it. Networks are strongly typed: the graph decides the precision.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..._common.contradictions import one_line
from ..._common.progress import StepBar
from ...errors import EngineError, InputError
from ...spec import ComponentSpec
from .library import Library
from .options import BuildOptions
from .profiles import Profile

OnMessage = Callable[[str, str], None]
"""Gets the severity, such as ``warning``, and the text of each of the library's messages."""

_MIB = 1 << 20


@dataclass(frozen=True)
class Network:
    """One lowered component, ready to be parsed.

    Attributes:
        spec: its name, inputs and outputs.
        model: the serialised ONNX model.
        layers: names of its nodes, in order.
        profiles: its optimization profiles; empty if nothing is dynamic.
        weights: the product of each quantized weight, by names; see :mod:`.layer_table`.
    """

    spec: ComponentSpec
    model: bytes
    layers: Sequence[str]
    profiles: Sequence[Profile] = ()
    weights: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """A built engine.

    Attributes:
        data: what the library deserialises.
        layers: layers of its network, before fusion.
        parse_seconds: time of the parser.
        build_seconds: time of the builder.
        timing_cache: its timings for the next build; empty if there are none.
    """

    data: bytes = field(repr=False)
    layers: int
    parse_seconds: float
    build_seconds: float
    timing_cache: bytes = field(default=b"", repr=False)


def build_plan(
    library: Library,
    network: Network,
    options: BuildOptions,
    *,
    timing_cache: bytes | None = None,
    on_message: OnMessage | None = None,
    show_progress: bool | None = None,
) -> Plan:
    """Parse and build one component.

    Args:
        library: which builds.
        network: the component.
        options: settings, which :meth:`.BuildOptions.check_builder` has seen.
        timing_cache: of an earlier build, or empty for a new one; None uses none.
        on_message: gets all messages, those of the layer table included.
        show_progress: show a progress bar; default: on a terminal.

    Raises:
        EngineError: the library cannot start, refuses a layer, fails, or has too little memory.
        InputError: an option has a value that this library does not know.
        KeyboardInterrupt: the build was interrupted.
    """
    logger, errors = library_logger(library.module), []

    def listen(severity: str, text: str) -> None:
        if severity.endswith("error"):
            errors.append(text)
        if on_message is not None:
            on_message(severity, text)

    logger.listener = listen
    try:
        builder = _builder(library, logger)
        started = time.perf_counter()
        # The parser owns the weights that the network refers to, so it has to outlive the build.
        definition, parser = _parsed(library, builder, logger, network)
        parsed = time.perf_counter()
        config = _config(library, builder, options)
        _add_profiles(library, builder, config, network)
        cache = None if timing_cache is None else _use_timing_cache(config, timing_cache)
        data = _built(library, builder, definition, config, network.spec.name, show_progress)
        del parser
        if data is None:
            raise _build_error(library, network.spec.name, errors)
        seconds = (parsed - started, time.perf_counter() - parsed)
        timings = b"" if cache is None else bytes(cache.serialize())
        return Plan(bytes(data), definition.num_layers, *seconds, timings)
    finally:
        logger.listener = None


def _built(
    library: Library, builder: Any, definition: Any, config: Any, name: str, show: bool | None
) -> Any:
    with StepBar(name, enabled=show) as bar:
        monitor = _monitor(library.module, bar)
        config.progress_monitor = monitor
        data = builder.build_serialized_network(definition, config)
    if monitor.interrupted:
        raise KeyboardInterrupt
    return data


@functools.cache
def library_logger(trt: Any) -> Any:
    """Return the only logger of a library; it must live as long as anything that it was given."""
    severities = trt.ILogger.Severity

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.listener: OnMessage | None = None
            self._names = {
                int(getattr(severities, name)): name.lower()
                for name in ("INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE")
            }

        def log(self, severity: Any, msg: str) -> None:
            if self.listener is not None:
                self.listener(self._names[int(severity)], msg)

    return Logger()


def _monitor(trt: Any, bar: StepBar) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.interrupted = False

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:  # noqa: ARG002
            self._guard(bar.start, phase_name, int(num_steps))

        def step_complete(self, phase_name: str, step: int) -> bool:
            self._guard(bar.reach, phase_name, int(step) + 1)
            return not self.interrupted

        def phase_finish(self, phase_name: str) -> None:
            self._guard(bar.finish, phase_name)

        def _guard(self, call: Callable[..., None], *arguments: Any) -> None:
            # An exception must not unwind through the library; False stops it in good order.
            try:
                call(*arguments)
            except KeyboardInterrupt:
                self.interrupted = True

    return Monitor()


def _builder(library: Library, logger: Any) -> Any:
    try:
        return library.module.Builder(logger)
    except (TypeError, RuntimeError) as error:
        raise EngineError(
            f"{library.title} cannot start: it needs an NVIDIA GPU and its driver, so build where "
            "the engine will run"
        ) from error


def _parsed(library: Library, builder: Any, logger: Any, network: Network) -> tuple[Any, Any]:
    """Return the network and its parser."""
    trt = library.module
    # In 10.x the default is weakly typed; the bit of the flag is another in each version.
    typed = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    definition = builder.create_network(typed)
    parser = trt.OnnxParser(definition, logger)
    if parser.parse(network.model):
        return definition, parser
    raise _parser_error(library, parser, network)


def _parser_error(library: Library, parser: Any, network: Network) -> EngineError:
    if parser.num_errors == 0:
        return EngineError(f"{library.title} cannot read {network.spec.name}, and says no reason")
    error = parser.get_error(0)
    reason = one_line(error.desc())
    index = int(error.node())
    layer = error.node_name() or (
        network.layers[index] if 0 <= index < len(network.layers) else network.spec.name
    )
    operator = f" ({error.node_operator()})" if error.node_operator() else ""
    return EngineError(f"{library.title} refuses the layer {layer}{operator}: {reason}")


def _config(library: Library, builder: Any, options: BuildOptions) -> Any:
    trt, config = library.module, builder.create_builder_config()
    # With it the library tells its table of fused layers; it makes plans some kB larger.
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if options.workspace_mib is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mib * _MIB)
    if options.optimization_level is not None:
        config.builder_optimization_level = options.optimization_level
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
        # A plan with the lean runtime inside holds code, and loading it would execute that.
        config.set_flag(trt.BuilderFlag.EXCLUDE_LEAN_RUNTIME)
    if options.hardware_compatibility != "none":
        level = options.hardware_compatibility.upper()
        config.hardware_compatibility_level = _member(
            library, trt.HardwareCompatibilityLevel, level, "hardware compatibility"
        )
    if options.compute_capabilities:
        _set_compute_capabilities(library, config, options.compute_capabilities)
    return config


def _set_compute_capabilities(library: Library, config: Any, names: Sequence[str]) -> None:
    config.num_compute_capabilities = len(names)
    for index, name in enumerate(names):
        member = "CURRENT" if name == "current" else f"SM{name.replace('.', '')}"
        capability = _member(
            library, library.module.ComputeCapability, member, "compute capability"
        )
        if not config.set_compute_capability(capability, index):
            raise InputError(
                f"{library.title} does not take the compute capability {name} beside the others"
            )


def _member(library: Library, enumeration: Any, name: str, what: str) -> Any:
    value = getattr(enumeration, name, None)
    if value is None:
        raise InputError(f"{library.title} has no {what} {name}; choose another")
    return value


def _add_profiles(library: Library, builder: Any, config: Any, network: Network) -> None:
    for profile in network.profiles:
        made = builder.create_optimization_profile()
        for tensor in network.spec.inputs:
            shapes = profile.shapes(tensor)
            if shapes is not None:
                made.set_shape(tensor.name, *shapes)
        if config.add_optimization_profile(made) < 0:
            raise EngineError(
                f"{library.title} refuses the profile {profile.name} of {network.spec.name}: "
                f"{dict(profile.dimensions)}"
            )


def _use_timing_cache(config: Any, stored: bytes) -> Any:
    cache = config.create_timing_cache(stored)
    # One of another GPU or version would be no mistake, only useless: begin anew then.
    if cache is None or not config.set_timing_cache(cache, False):
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)
    return cache


def _build_error(library: Library, name: str, errors: Sequence[str]) -> EngineError:
    text = one_line(" ".join(errors))
    if "out of memory" in text.lower() or "outofmemory" in text.lower():
        return EngineError(
            f"the device ran out of memory while {library.title} built {name}; close what else "
            "uses it, or build with a smaller --workspace or fewer --max-objects"
        )
    reason = one_line(errors[-1]) if errors else "it says no reason"
    return EngineError(f"{library.title} cannot build {name}: {reason}")
