"""Building: what the library would refuse to build is refused, the rest is a plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .arguments import described
from .objects import state
from .plan import Plan, is_valid_range, static_shape
from .registry import method, reads
from .script import Phase, Tensor
from .values import flags

if TYPE_CHECKING:
    from .library import TensorRTDouble

_PRECISION_FLAGS = ("FP16", "BF16", "INT8", "FP8", "INT4", "FP4")


@method("Builder.create_network")
def _create_network(library: TensorRTDouble, this: Any, arguments: dict[str, Any]) -> Any:
    members = library.classes["NetworkDefinitionCreationFlag"].__members__
    bits = described(arguments.get("flags", 0))
    unknown = bits & ~sum(1 << number for number in {member.value for member in members.values()})
    if unknown:
        raise library.bad_call(
            f"Builder.create_network got flags {bits:#x}, of which {unknown:#x} is none of "
            f"1 << int(NetworkDefinitionCreationFlag), with the members {', '.join(members)}"
        )
    if "EXPLICIT_BATCH" not in members:
        bits |= 1 << members["STRONGLY_TYPED"].value  # from 11 on, all networks are
    return library.make("INetworkDefinition", flags=bits, name="", tensors=[], layers=[])


@method("Builder.create_builder_config")
def _create_config(library: TensorRTDouble, this: Any, arguments: dict[str, Any]) -> Any:
    tf32 = 1 << int(library.member("BuilderFlag", "TF32"))
    return library.make("IBuilderConfig", flags=tf32, profiles=[])


@method("Builder.create_optimization_profile")
def _create_profile(library: TensorRTDouble, this: Any, arguments: dict[str, Any]) -> Any:
    return library.make("IOptimizationProfile", shapes={})


@method("IOptimizationProfile.set_shape")
def _set_shape(library: TensorRTDouble, this: Any, arguments: dict[str, Any]) -> None:
    shapes = tuple(tuple(map(int, arguments[bound])) for bound in ("min", "opt", "max"))
    state(this)["shapes"][arguments["input"]] = shapes


@method("IOptimizationProfile.get_shape")
def _get_shape(library: TensorRTDouble, this: Any, arguments: dict[str, Any]) -> list[Any]:
    shapes = state(this)["shapes"].get(arguments["input"], ())
    return [library.dims(shape) for shape in shapes]


@method("IOptimizationProfile.__bool__")
def _is_valid(library: TensorRTDouble, this: Any, arguments: dict[str, Any]) -> bool:
    return all(map(is_valid_range, state(this)["shapes"].values()))


@method("IBuilderConfig.add_optimization_profile")
def _add_profile(library: TensorRTDouble, this: Any, arguments: dict[str, Any]) -> int:
    profile = arguments["profile"]
    if not all(map(is_valid_range, state(profile)["shapes"].values())):
        return -1
    state(this)["profiles"].append(profile)
    return len(state(this)["profiles"]) - 1


@reads("IBuilderConfig.num_optimization_profiles")
def _number_of_profiles(library: TensorRTDouble, this: Any) -> int:
    return len(state(this)["profiles"])


@method("IBuilderConfig.create_timing_cache")
def _create_cache(library: TensorRTDouble, this: Any, arguments: dict[str, Any]) -> Any:
    return library.make("ITimingCache", data=bytes(arguments["serialized_timing_cache"]))


@method("IBuilderConfig.set_timing_cache")
def _set_cache(library: TensorRTDouble, this: Any, arguments: dict[str, Any]) -> bool:
    state(this)["timing_cache"] = arguments["cache"]
    return True


@method("IBuilderConfig.get_timing_cache")
def _get_cache(library: TensorRTDouble, this: Any, arguments: dict[str, Any]) -> Any:
    return state(this).get("timing_cache")


@method("ITimingCache.serialize")
def _serialize_cache(library: TensorRTDouble, this: Any, arguments: dict[str, Any]) -> Any:
    return library.host_memory(state(this).get("data") or b"timing cache")


@method("IBuilderConfig.set_compute_capability")
def _set_capability(library: TensorRTDouble, this: Any, arguments: dict[str, Any]) -> bool:
    index = described(arguments["index"])
    if index >= state(this).get("num_compute_capabilities", 0):
        return False
    state(this)["compute_capability", (index,)] = arguments["compute_capability"]
    return True


@method("Builder.build_serialized_network")
def _build(library: TensorRTDouble, this: Any, arguments: dict[str, Any]) -> Any:
    logger, config = state(this)["logger"], arguments["config"]
    for severity, text in library.script.log:
        library.log(logger, severity, text)
    plan = _plan(library, arguments["network"], config)
    problem = _problem(library, plan, arguments["network"], config)
    monitor = state(config).get("progress_monitor")
    if problem is None and monitor is not None:
        finished = all(_report(monitor, phase, None) for phase in library.script.phases)
        problem = None if finished else "Build canceled by user"
    if problem is not None:
        library.log(logger, "ERROR", problem)
        return None
    data = library.script.plan
    return library.host_memory(plan.to_bytes() if data is None else data)


def _plan(library: TensorRTDouble, network: Any, config: Any) -> Plan:
    tensors = tuple(state(tensor)["described"] for tensor in state(network)["tensors"])
    profiles = tuple(dict(state(profile)["shapes"]) for profile in state(config)["profiles"])
    layers = len(state(network)["layers"])
    return Plan(library.api.title, state(network)["name"], tensors, profiles, layers)


def _problem(library: TensorRTDouble, plan: Plan, network: Any, config: Any) -> str | None:
    """Return why the library would build nothing, or none."""
    if library.script.build_fails:
        return "the script says that the build fails"
    if not plan.tensors:
        return "Network must have at least one output"
    typed = 1 << int(library.member("NetworkDefinitionCreationFlag", "STRONGLY_TYPED"))
    members = library.classes["BuilderFlag"].__members__
    for name in _PRECISION_FLAGS:
        if flags(network) & typed and name in members and flags(config) >> members[name].value & 1:
            return f"the flag {name} is not allowed in a strongly typed network"
    dynamic = [tensor for tensor in plan.inputs if -1 in static_shape(tensor)]
    if dynamic and not plan.profiles:
        return "Network has dynamic inputs, but no optimization profile has been defined"
    for tensor in dynamic:
        for shapes in (profile.get(tensor.name) for profile in plan.profiles):
            if shapes is None or not all(_agrees(shape, tensor) for shape in shapes):
                return f"no profile for the dynamic input {tensor.name} of {tensor.shape}: {shapes}"
    return None


def _agrees(shape: tuple[int, ...], tensor: Tensor) -> bool:
    """Return whether ``shape`` is one of the tensor, whose other sizes are dynamic."""
    fixed = static_shape(tensor)
    return len(shape) == len(fixed) and all(
        expected in (-1, size) for size, expected in zip(shape, fixed, strict=True)
    )


def _report(monitor: Any, phase: Phase, parent: str | None) -> bool:
    """Tell ``monitor`` of a phase, as the library does; return whether it let the build go on."""
    monitor.phase_start(phase.name, parent, phase.steps)
    goes_on = True
    for step in range(phase.steps):
        if step == phase.steps - 1:
            goes_on = all(_report(monitor, inner, phase.name) for inner in phase.inner)
        goes_on = goes_on and monitor.step_complete(phase.name, step)
        if not goes_on:
            break
    monitor.phase_finish(phase.name)
    return goes_on
