"""From a ``model.onnx`` to a ``model.engine``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..._files import atomic_open, check_output
from ..._progress import progress
from ...errors import InputError, UnsupportedModelError
from ...spec import COMPONENTS
from ..bundle import Bundle, read_bundle
from ..lowering import TENSORRT_PRECISIONS, lower_for_tensorrt
from ..lowering.memory_output import finish_memory
from .adapter import Network, OnMessage, Plan, build_plan
from .engine_file import EngineHeader, Target, write_engine
from .gpu import current_gpu
from .library import TENSORRT_RTX, Library, find_library, version_numbers
from .options import BuildOptions, Limits
from .profiles import component_profiles

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class PlanReport:
    """How one component was built.

    Attributes:
        component: its name.
        layers: layers of the network before fusion.
        products: how many of its products have the type that the precision names.
        parse_seconds: time of the parser.
        build_seconds: time of the builder.
        bytes: size of the plan.
    """

    component: str
    layers: int
    products: int
    parse_seconds: float
    build_seconds: float
    bytes: int


@dataclass(frozen=True)
class EngineReport:
    """What was built.

    Attributes:
        path: the engine file.
        precision: ``fp16``, ``int8`` or ``int4``.
        builder: ``tensorrt`` or ``tensorrt-rtx``.
        builder_version: its version.
        target: on what the engine runs.
        plans: one report for each component.
        bytes: size of the file.
    """

    path: Path
    precision: str
    builder: str
    builder_version: str
    target: Target
    plans: tuple[PlanReport, ...]
    bytes: int

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "path": self.path.name}


def engine_from_onnx(
    model: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    precision: str = "int8",
    builder: str | None = None,
    options: BuildOptions | None = None,
    limits: Limits | None = None,
    timing_cache: str | os.PathLike[str] | None = None,
    library: Library | None = None,
    on_message: OnMessage | None = None,
    show_progress: bool | None = None,
) -> EngineReport:
    """Build the engine file of a model.

    The engine is not run: whether it computes what the model does can be seen on its GPU alone.

    Args:
        model: a ``model.onnx`` of ``qsam2-export``.
        output: the file to write.
        precision: ``int8`` and ``int4`` multiply the trained integers, with half precision around
            them; ``fp16`` is in half precision throughout.
        builder: ``tensorrt`` or ``tensorrt-rtx``; default: the first that is installed.
        options: settings of the builder.
        limits: the largest numbers of objects, points and prompted frames.
        timing_cache: file with TensorRT's timings, which makes the next build faster; it is read
            if it exists, and written.
        library: use this one instead of an installed one.
        on_message: gets severity and text of all messages of the library.
        show_progress: show progress bars; default: on a terminal.

    Raises:
        InputError: an argument is wrong, or ``output`` cannot be written.
        ModelFileError: the model cannot be used.
        UnsupportedModelError: the model has not the integers that ``precision`` names.
        MissingDependencyError: no engine library is installed, or ``onnx`` is not.
        EngineError: the library refuses the model.
    """
    path, options = Path(output), options or BuildOptions()
    if precision not in TENSORRT_PRECISIONS:
        raise InputError(
            f"the precision is one of {', '.join(TENSORRT_PRECISIONS)}, but got {precision!r}"
        )
    check_output(path)
    library = library or find_library(builder)
    options.check_builder(library.name, timing_cache=timing_cache is not None)
    bundle = read_bundle(model)
    target = _target(library, options)
    networks, products = _networks(bundle, precision, limits or Limits(), _has_bfloat16(target))
    header = EngineHeader(
        spec=bundle.spec,
        model_sha256=bundle.digest,
        precision=precision,
        builder=library.name,
        builder_version=library.version,
        target=target,
        profiles={name: tuple(network.profiles) for name, network in networks.items()},
    )
    cache = None if timing_cache is None else Path(timing_cache)
    plans = _build_plans(library, networks, options, cache, on_message, show_progress)
    size = write_engine(path, header, {name: plan.data for name, plan in plans.items()})
    reports = tuple(_plan_report(name, plans[name], products[name]) for name in COMPONENTS)
    return EngineReport(path, precision, library.name, library.version, target, reports, size)


def _build_plans(
    library: Library,
    networks: dict[str, Network],
    options: BuildOptions,
    cache: Path | None,
    on_message: OnMessage | None,
    show_progress: bool | None,
) -> dict[str, Plan]:
    """Build all components, each of which is let go when it is done."""
    plans = {}
    timings = None if cache is None else _read_timings(cache)
    for name in progress(COMPONENTS, "building", unit="component", enabled=show_progress):
        plans[name] = build_plan(
            library,
            networks.pop(name),
            options,
            timing_cache=timings,
            on_message=on_message,
            show_progress=show_progress,
        )
        # Layers of one component may be those of the next.
        timings = None if timings is None else plans[name].timing_cache
    if cache is not None and timings:
        with atomic_open(cache) as stream:
            stream.write(timings)
    return plans


def network_from_component(
    bundle: Bundle, component: str, precision: str, limits: Limits, *, bfloat16: bool = True
) -> tuple[Network, int]:
    """Return a lowered component with its profiles, and how many products have the precision.

    The component is taken out of the bundle. Memories are rounded as upstream rounds them, unless
    the GPU has no ``bfloat16``.

    Raises:
        UnsupportedModelError: the component cannot be lowered.
    """
    lowered: onnx.ModelProto = bundle.components.pop(component)
    products = lower_for_tensorrt(lowered, precision)
    finish_memory(lowered, rounds=bfloat16)
    network = Network(
        spec=bundle.spec.component(component),
        model=lowered.SerializeToString(),
        layers=[node.name for node in lowered.graph.node],
        profiles=component_profiles(bundle.spec, component, limits),
    )
    return network, products


def _networks(
    bundle: Bundle, precision: str, limits: Limits, bfloat16: bool
) -> tuple[dict[str, Network], Mapping[str, int]]:
    made = {
        name: network_from_component(bundle, name, precision, limits, bfloat16=bfloat16)
        for name in COMPONENTS
    }
    products = {name: count for name, (_, count) in made.items()}
    if not sum(products.values()):
        raise UnsupportedModelError(_no_integers(bundle, precision))
    return {name: network for name, (network, _) in made.items()}, products


def _no_integers(bundle: Bundle, precision: str) -> str:
    told = bundle.spec.quantization
    kind = "a float model" if told is None else f"of {told.usual_widths}"
    if precision == "int8":
        return (
            f"{bundle.path} is {kind} and has no integers to multiply; quantize the checkpoint "
            "with qsam2-calibrate and export it again, or build with --fp16"
        )
    return (
        f"{bundle.path} is {kind} and has no weights that fit INT4: at most 4 bits, in a linear "
        "layer with two blocks of 64 inputs or more; calibrate with --bits w4a8 and export again, "
        f"or build with {'--fp16' if told is None else '--int8 or --fp16'}"
    )


def _target(library: Library, options: BuildOptions) -> Target:
    gpu = current_gpu()
    if library.name != TENSORRT_RTX:
        return Target(
            gpu="" if gpu is None else gpu.name,
            compute_capabilities=() if gpu is None else (gpu.compute_capability,),
            hardware_compatibility=options.hardware_compatibility,
            version_compatible=options.version_compatible,
        )
    wanted = options.compute_capabilities
    if not wanted:
        # What the library builds for when it is not told: everything but Turing.
        return Target(hardware_compatibility="ampere_plus")
    if wanted == ("current",):
        if gpu is None:
            raise InputError(
                "the compute capability 'current' needs a GPU, and none was found; name it, such "
                "as 8.9"
            )
        wanted = (gpu.compute_capability,)
    return Target(compute_capabilities=wanted)


def _has_bfloat16(target: Target) -> bool:
    """Return whether the GPUs that an engine is for are of compute capability 8.0 or later."""
    return all(version_numbers(c) >= (8, 0) for c in target.compute_capabilities)


def _read_timings(path: Path) -> bytes:
    if not path.exists():
        return b""
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(
            f"cannot read the timing cache {path}: {error.strerror or error}"
        ) from error


def _plan_report(name: str, plan: Plan, products: int) -> PlanReport:
    return PlanReport(
        name, plan.layers, products, plan.parse_seconds, plan.build_seconds, len(plan.data)
    )
