"""From a ``model.onnx`` to a ``model.engine``."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .._common.contradictions import contradictions
from .._common.files import check_output
from .._common.progress import progress
from ..engines.tensorrt.adapter import OnMessage
from ..engines.tensorrt.engine_file import MIXED, EngineHeader, Target, Variant, write_engine
from ..engines.tensorrt.gpu import Gpu, current_gpu
from ..engines.tensorrt.library import TENSORRT_RTX, Library, find_library, version_numbers
from ..engines.tensorrt.options import BuildOptions, Limits
from ..engines.tensorrt.profiles import Profile
from ..errors import EngineError, InputError, UnsupportedModelError
from ..lowering import TENSORRT_PRECISIONS
from ..model_file.bundle import Bundle, read_bundle
from ..spec import COMPONENTS, ModelSpec
from .component import Candidate, ComponentBuilder
from .self_test import OpenRunner, SelfTest

AUTO = "auto"
"""In the place of a precision: for each component the fastest one."""


@dataclass(frozen=True)
class PlanReport:
    """How one component was built.

    Attributes:
        component: its name.
        precision: ``fp16``, ``int8`` or ``int4``.
        fused_attention: the library was free to fuse attention into one kernel.
        layers: layers of the network before fusion.
        products: how many of its products have the type that the precision names.
        parse_seconds: time of the parser.
        build_seconds: time of the builder.
        bytes: size of the plan.
        error: largest error of the self-test; None if it was not run.
        tolerance: the largest that is taken.
        milliseconds: time of a run in the steady state; None if it was not measured.
    """

    component: str
    precision: str
    fused_attention: bool
    layers: int
    products: int
    parse_seconds: float
    build_seconds: float
    bytes: int
    error: float | None = None
    tolerance: float | None = None
    milliseconds: float | None = None


@dataclass(frozen=True)
class EngineReport:
    """What was built.

    Attributes:
        path: the engine file.
        precision: ``fp16``, ``int8`` or ``int4``; ``mixed`` if components have different ones.
        builder: ``tensorrt`` or ``tensorrt-rtx``.
        builder_version: its version.
        target: on what the engine runs.
        plans: one report for each component.
        bytes: size of the file.
        self_test: what became of it, as a sentence.
        tried: with ``auto``, all that was built and timed.
    """

    path: Path
    precision: str
    builder: str
    builder_version: str
    target: Target
    plans: tuple[PlanReport, ...]
    bytes: int
    self_test: str
    tried: tuple[PlanReport, ...] = ()

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
    fused_attention: bool = True,
    timing_cache: str | os.PathLike[str] | None = None,
    self_test: bool = True,
    library: Library | None = None,
    open_runner: OpenRunner | None = None,
    on_message: OnMessage | None = None,
    show_progress: bool | None = None,
) -> EngineReport:
    """Build the engine file of a model, and test it if its GPU is in this machine.

    With the GPU, each component is compared with ONNX Runtime in single precision
    (``self_test.py``). One that is wrong is built again without fused attention; if that is wrong
    too, nothing is written. Without it, ``self_test`` of the report says that nothing was run.

    Args:
        model: a ``model.onnx`` of ``qsam2-export``.
        output: the file to write.
        precision: ``int8`` and ``int4`` multiply the trained integers, with half precision around
            them; ``fp16`` is in half precision throughout; ``auto`` builds and times all that the
            model has, and keeps the fastest for each component.
        builder: ``tensorrt`` or ``tensorrt-rtx``; default: the first that is installed.
        options: settings of the builder.
        limits: the largest numbers of objects, points and prompted frames.
        fused_attention: leave attention as the library fuses it; False breaks it up, which is
            slower, but correct where the fused kernels of a version are wrong.
        timing_cache: file with TensorRT's timings, which makes the next build faster; it is read
            if it exists, and written.
        self_test: test the engines if their GPU is in this machine; ``auto`` always does.
        library: use this one instead of an installed one.
        open_runner: runs engines in the self-test; default: on the GPU.
        on_message: gets severity and text of all messages of the library.
        show_progress: show progress bars; default: on a terminal.

    Raises:
        InputError: an argument is wrong, or ``output`` cannot be written.
        ModelFileError: the model cannot be used.
        UnsupportedModelError: the model has no integers of the kind that ``precision`` names.
        MissingDependencyError: no engine library is installed, or ``onnx`` is not.
        EngineError: the library refuses the model, an engine is wrong, or ``auto`` has no GPU.
    """
    path, options = Path(output), options or BuildOptions()
    _check_precision(precision, fused_attention)
    check_output(path)
    library = library or find_library(builder)
    options.check_builder(library.name, timing_cache=timing_cache is not None)
    bundle = read_bundle(model)
    target = _target(library, options)
    reason = "" if open_runner else _why_not_run(target, library, bundle, path)
    if not self_test and precision != AUTO:
        reason = "it was not asked for"
    if precision == AUTO and reason:
        raise EngineError(
            f"--auto times engines on the GPU that they are for, but {reason}; run it there, or "
            "say --int8, --int4 or --fp16"
        )
    components = ComponentBuilder(
        library,
        bundle,
        options,
        limits or Limits(),
        bfloat16=_has_bfloat16(target),
        timing_cache=None if timing_cache is None else Path(timing_cache),
        self_test=None if reason else SelfTest(bundle, open_runner or _on_gpu(library)),
        on_message=on_message,
        show_progress=show_progress,
    )
    variant = None if precision == AUTO else Variant(precision, fused_attention)
    with contradictions(bundle.path, "it cannot be built as an engine"):
        kept, tried = _build(components, bundle, variant, show_progress)
    components.write_timings()
    header = _header(bundle, library, target, kept)
    size = write_engine(path, header, {name: made.plan.data for name, made in kept.items()})
    return EngineReport(
        path,
        header.precision,
        library.name,
        library.version,
        target,
        tuple(_plan_report(made) for made in kept.values()),
        size,
        f"not run: {reason}" if reason else _said(kept, variant),
        tuple(_plan_report(made) for made in tried),
    )


def _check_precision(precision: str, fused_attention: bool) -> None:
    known = (*TENSORRT_PRECISIONS, AUTO)
    if precision not in known:
        raise InputError(f"the precision is one of {', '.join(known)}, but got {precision!r}")
    if precision == AUTO and not fused_attention:
        raise InputError("auto tries attention both ways by itself; leave fused_attention out")


def _build(
    components: ComponentBuilder,
    bundle: Bundle,
    variant: Variant | None,
    show_progress: bool | None,
) -> tuple[dict[str, Candidate], list[Candidate]]:
    """Build all components in one variant, or in the fastest; return also what was tried."""
    if variant is not None and not any(components.products(name, variant) for name in COMPONENTS):
        raise UnsupportedModelError(_no_integers(bundle, variant.precision))
    kept: dict[str, Candidate] = {}
    tried: list[Candidate] = []
    for name in progress(COMPONENTS, "building", unit="component", enabled=show_progress):
        if variant is not None:
            kept[name] = components.tested(name, variant)
        else:
            kept[name], found = components.fastest(name)
            tried += found
    return kept, tried


def _header(
    bundle: Bundle, library: Library, target: Target, kept: Mapping[str, Candidate]
) -> EngineHeader:
    precisions = {made.variant.precision for made in kept.values()}
    return EngineHeader(
        spec=bundle.spec,
        model_sha256=bundle.digest,
        precision=precisions.pop() if len(precisions) == 1 else MIXED,
        builder=library.name,
        builder_version=library.version,
        target=target,
        profiles={name: made.profiles for name, made in kept.items()},
        variants={name: made.variant for name, made in kept.items()},
        layers={name: made.layers for name, made in kept.items() if made.layers is not None},
    )


def _why_not_run(target: Target, library: Library, bundle: Bundle, path: Path) -> str:
    """Return why the engines cannot be run on this machine; empty if they can."""
    gpu = current_gpu()
    if gpu is None:
        return "no GPU was found (or cuda-python is not installed)"
    if importlib.util.find_spec("onnxruntime") is None:
        return "onnxruntime is not installed, with which engines are compared"
    return "" if _fits(gpu, target, library, bundle, path) else f"they are not for {gpu.name}"


def _fits(gpu: Gpu, target: Target, library: Library, bundle: Bundle, path: Path) -> bool:
    header = EngineHeader(bundle.spec, bundle.digest, "", library.name, library.version, target)
    try:
        header.check_gpu(gpu.name, gpu.compute_capability, path)
    except EngineError:
        return False
    return True


def _on_gpu(library: Library) -> OpenRunner:
    def open_runner(
        spec: ModelSpec, plans: Mapping[str, bytes], profiles: Mapping[str, Sequence[Profile]]
    ) -> Any:
        from ..engines.tensorrt.execution import EngineRunner

        return EngineRunner(spec, plans, profiles, library=library)

    return open_runner


def _said(kept: Mapping[str, Candidate], asked: Variant | None) -> str:
    """Return what the self-test found: all is right, perhaps not as it was asked for."""
    broken = [
        name
        for name, made in kept.items()
        if not made.variant.fused_attention and (asked is None or asked.fused_attention)
    ]
    if not broken:
        return "passed"
    return f"passed; with fused attention {', '.join(broken)} was wrong, and was built without it"


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


def _plan_report(made: Candidate) -> PlanReport:
    plan, outcome = made.plan, made.outcome
    return PlanReport(
        made.component,
        made.variant.precision,
        made.variant.fused_attention,
        plan.layers,
        made.products,
        plan.parse_seconds,
        plan.build_seconds,
        len(plan.data),
        None if outcome is None else outcome.error,
        None if outcome is None else outcome.tolerance,
        None if outcome is None else outcome.milliseconds,
    )
