"""Loading and running: engines know their tensors, contexts the sizes and addresses given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .arguments import described, fits
from .objects import state
from .plan import Plan, Range, plan_from_bytes, static_shape
from .registry import METHODS, method, reads
from .script import Tensor

if TYPE_CHECKING:
    from .library import TensorRTDouble


@method("Runtime.deserialize_cuda_engine")
def _deserialize(library: TensorRTDouble, this: Any, arguments: dict[str, Any]) -> Any:
    source, script = next(iter(arguments.values())), library.script
    if not fits(source, "buffer", {}):
        raise library.bad_call("the double loads engines from buffers, not from streams")
    plan: Plan | None
    if script.plan is not None and bytes(source) == script.plan:
        plan = Plan(library.api.title, "", tuple(script.tensors or ()), ())
    else:
        plan = plan_from_bytes(bytes(source))
    logger = state(this)["logger"]
    if plan is None or script.load_fails:
        library.log(logger, "ERROR", "Serialization assertion failed: magic tag does not match")
        return None
    if plan.library != library.api.title:
        library.log(logger, "ERROR", f"Version tag does not match: the plan is of {plan.library}")
        return None
    return library.make("ICudaEngine", plan=plan, name=plan.name, logger=logger)


@method("Builder.build_engine_with_config")
def _build_engine(library: TensorRTDouble, this: Any, arguments: dict[str, Any]) -> Any:
    built = METHODS["Builder.build_serialized_network"](library, this, arguments)
    if built is None:
        return None
    return _deserialize(library, this, {"serialized_engine": built})


def _plan(this: Any) -> Plan:
    plan: Plan = state(this)["plan"]
    return plan


def _tensor(library: TensorRTDouble, this: Any, name: str) -> Tensor | None:
    """Return the tensor ``name`` of an engine; if there is none, say so as the library does."""
    tensor = _plan(this).tensor(name)
    if tensor is None:
        library.log(state(this)["logger"], "ERROR", f"there is no tensor named {name}")
    return tensor


@reads("ICudaEngine.num_io_tensors")
def _number_of_tensors(library: TensorRTDouble, this: Any) -> int:
    return len(_plan(this).tensors)


@reads("ICudaEngine.num_layers")
def _number_of_layers(library: TensorRTDouble, this: Any) -> int:
    return _plan(this).num_layers


@reads("ICudaEngine.num_optimization_profiles")
def _number_of_profiles(library: TensorRTDouble, this: Any) -> int:
    return max(1, len(_plan(this).profiles))  # a static engine has one, too


@method("ICudaEngine.get_tensor_name", "ICudaEngine.__getitem__")
def _tensor_name(library: TensorRTDouble, this: Any, arguments: dict[str, Any]) -> str:
    index = described(next(iter(arguments.values())))
    tensors = _plan(this).tensors
    if not 0 <= index < len(tensors):
        raise library.bad_call(f"tensor {index} of an engine, but num_io_tensors is {len(tensors)}")
    return tensors[index].name


@method("ICudaEngine.get_tensor_mode")
def _tensor_mode(library: TensorRTDouble, this: Any, arguments: dict[str, Any]) -> Any:
    tensor = _tensor(library, this, arguments["name"])
    if tensor is None:
        return library.member("TensorIOMode", "NONE")
    return library.member("TensorIOMode", "INPUT" if tensor.is_input else "OUTPUT")


@method("ICudaEngine.get_tensor_dtype")
def _tensor_dtype(library: TensorRTDouble, this: Any, arguments: dict[str, Any]) -> Any:
    tensor = _tensor(library, this, arguments["name"])
    return library.member("DataType", tensor.dtype if tensor else "FLOAT")


@method("ICudaEngine.get_tensor_shape")
def _engine_shape(library: TensorRTDouble, this: Any, arguments: dict[str, Any]) -> Any:
    tensor = _tensor(library, this, arguments["name"])
    return library.dims(static_shape(tensor) if tensor else ())


@method("ICudaEngine.get_tensor_profile_shape")
def _profile_shape(library: TensorRTDouble, this: Any, arguments: dict[str, Any]) -> list[Any]:
    tensor = _tensor(library, this, arguments["name"])
    if tensor is None or not tensor.is_input:
        return []
    index = described(arguments["profile_index"])
    return [library.dims(shape) for shape in _range(_plan(this), tensor, index)]


def _range(plan: Plan, tensor: Tensor, index: int) -> Range:
    """Return the shapes that profile ``index`` allows an input."""
    profile: Mapping[str, Range] = plan.profiles[index] if plan.profiles else {}
    return profile.get(tensor.name) or (static_shape(tensor),) * 3


@method("ICudaEngine.serialize")
def _serialize(library: TensorRTDouble, this: Any, arguments: dict[str, Any]) -> Any:
    return library.host_memory(_plan(this).to_bytes())


@method("ICudaEngine.create_execution_context")
def _create_context(library: TensorRTDouble, this: Any, arguments: dict[str, Any]) -> Any:
    return library.make(
        "IExecutionContext",
        engine=this,
        active_optimization_profile=0,
        needs_memory=_is_user_managed(library, arguments),
        shapes={},
        addresses={},
        allocators={},
    )


def _is_user_managed(library: TensorRTDouble, arguments: dict[str, Any]) -> bool:
    members = library.classes["ExecutionContextAllocationStrategy"].__members__
    return arguments.get("strategy") == members["USER_MANAGED"]


@method("IExecutionContext.set_device_memory")
def _set_memory(library: TensorRTDouble, this: Any, arguments: dict[str, Any]) -> None:
    state(this)["device_memory"] = tuple(map(described, arguments.values()))


def _refuse(library: TensorRTDouble, context: Any, text: str) -> bool:
    """Say what is wrong as the library does: a message and False."""
    library.log(state(state(context)["engine"])["logger"], "ERROR", text)
    return False


@method("IExecutionContext.set_optimization_profile_async")
def _set_profile(library: TensorRTDouble, this: Any, arguments: dict[str, Any]) -> bool:
    index = described(arguments["profile_index"])
    profiles = max(1, len(_plan(state(this)["engine"]).profiles))
    if not 0 <= index < profiles:
        return _refuse(library, this, f"profile {index} of {profiles}")
    state(this).update(active_optimization_profile=index, shapes={})
    return True


@method("IExecutionContext.set_input_shape")
def _set_input_shape(library: TensorRTDouble, this: Any, arguments: dict[str, Any]) -> bool:
    shape = tuple(described(size) for size in arguments["shape"])
    tensor = _tensor(library, state(this)["engine"], arguments["name"])
    if tensor is None or not tensor.is_input:
        return _refuse(library, this, f"{arguments['name']} is no input")
    plan, index = _plan(state(this)["engine"]), state(this)["active_optimization_profile"]
    least, _, most = _range(plan, tensor, index)
    fits = len(shape) == len(least) and all(
        low <= size <= high for low, size, high in zip(least, shape, most, strict=True)
    )
    if not fits:
        return _refuse(library, this, f"{tensor.name}: {shape} is not in {least} to {most}")
    state(this)["shapes"][tensor.name] = shape
    return True


def _input_shape(this: Any, tensor: Tensor) -> tuple[int, ...]:
    shape: tuple[int, ...] = state(this)["shapes"].get(tensor.name, static_shape(tensor))
    return shape


@method("IExecutionContext.get_tensor_shape")
def _context_shape(library: TensorRTDouble, this: Any, arguments: dict[str, Any]) -> Any:
    engine = state(this)["engine"]
    tensor = _tensor(library, engine, arguments["name"])
    if tensor is None:
        return library.dims(())
    if tensor.is_input:
        return library.dims(_input_shape(this, tensor))
    symbols: dict[int | str, int] = {}
    for given in _plan(engine).inputs:
        sizes = zip(given.shape, _input_shape(this, given), strict=True)
        symbols.update((symbol, size) for symbol, size in sizes if isinstance(symbol, str))
    return library.dims(
        [size if isinstance(size, int) else symbols.get(size, -1) for size in tensor.shape]
    )


def _unspecified(this: Any) -> list[str]:
    """Return the inputs whose sizes are not all known."""
    inputs = _plan(state(this)["engine"]).inputs
    return [tensor.name for tensor in inputs if -1 in _input_shape(this, tensor)]


@reads("IExecutionContext.all_binding_shapes_specified")
def _all_specified(library: TensorRTDouble, this: Any) -> bool:
    return not _unspecified(this)


@method("IExecutionContext.infer_shapes")
def _infer_shapes(library: TensorRTDouble, this: Any, arguments: dict[str, Any]) -> list[str]:
    return _unspecified(this)


@method("IExecutionContext.set_tensor_address")
def _set_address(library: TensorRTDouble, this: Any, arguments: dict[str, Any]) -> bool:
    name = arguments["name"]
    if _tensor(library, state(this)["engine"], name) is None:
        return False
    state(this)["addresses"][name] = described(arguments["memory"])
    return True


@method("IExecutionContext.get_tensor_address")
def _get_address(library: TensorRTDouble, this: Any, arguments: dict[str, Any]) -> int:
    return int(state(this)["addresses"].get(arguments["name"], 0))


@method("IExecutionContext.set_output_allocator")
def _set_allocator(library: TensorRTDouble, this: Any, arguments: dict[str, Any]) -> bool:
    name = arguments["name"]
    if _tensor(library, state(this)["engine"], name) is None:
        return False
    state(this)["allocators"][name] = arguments["output_allocator"]
    return True


@method("IExecutionContext.get_output_allocator")
def _get_allocator(library: TensorRTDouble, this: Any, arguments: dict[str, Any]) -> Any:
    return state(this)["allocators"].get(arguments["name"])


@method("IExecutionContext.execute_async_v3")
def _execute(library: TensorRTDouble, this: Any, arguments: dict[str, Any]) -> bool:
    missing = _unspecified(this)
    if missing:
        return _refuse(library, this, f"the shapes of {', '.join(missing)} are not specified")
    if state(this)["needs_memory"] and "device_memory" not in state(this):
        return _refuse(library, this, "no device memory is set for the context")
    addresses, allocators = state(this)["addresses"], state(this)["allocators"]
    tensors = _plan(state(this)["engine"]).tensors
    for tensor in tensors:
        if not addresses.get(tensor.name) and (tensor.is_input or tensor.name not in allocators):
            return _refuse(library, this, f"no address is set for {tensor.name}")
    for name, allocator in allocators.items():
        _allocate(library, this, name, allocator, described(arguments["stream_handle"]))
    if library.script.on_execute is not None:
        library.script.on_execute(this)
    return True


def _allocate(library: TensorRTDouble, this: Any, name: str, allocator: Any, stream: int) -> None:
    """Ask the allocator of an output for memory and tell it the shape, as the library does."""
    shape = _context_shape(library, this, {"name": name})
    tensor = _plan(state(this)["engine"]).tensor(name)
    dtype = library.member("DataType", tensor.dtype if tensor else "FLOAT")
    size = int(dtype.itemsize)
    for extent in shape:
        size *= extent
    address = state(this)["addresses"].get(name, 0)
    # the method is no name of the library, but one that a derived class may have
    if any("reallocate_output_async" in vars(kind) for kind in type(allocator).__mro__):
        given = allocator.reallocate_output_async(name, address, size, 256, stream)
    else:
        given = allocator.reallocate_output(name, address, size, 256)
    state(this)["addresses"][name] = given
    allocator.notify_shape(name, shape)
