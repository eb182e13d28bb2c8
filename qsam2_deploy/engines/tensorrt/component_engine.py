"""One component's engine: loaded, with an execution context for each profile.

All calls to the library's runtime are here, as those to its builder are in :mod:`.adapter`: the
same names in TensorRT 10.3 to 11.x and in TensorRT-RTX.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..._common.contradictions import one_line
from ...errors import EngineError
from ...spec import ComponentSpec, TensorSpec
from .adapter import library_logger
from .cuda import DeviceArray, Stream
from .library import Library
from .profiles import Profile

Shapes = Mapping[str, tuple[int, ...]]
Addresses = Mapping[str, int]

_LIMITS = {
    "B": ("objects in one batch", "--max-objects"),
    "F": ("memory frames", "--max-conditioning"),
    "N": ("object pointers", "--max-conditioning"),
    "P": ("points of a prompt", "--max-points"),
}


class ExecutionContext:
    """A context of an engine with one of its profiles, whose shapes stay until they are changed.

    Attributes:
        profile: name of the profile, such as ``steady``.
        shapes: of the inputs, as last set; empty before.
    """

    def __init__(self, engine: ComponentEngine, index: int, profile: str, context: Any) -> None:
        self.profile, self.index = profile, index
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._engine, self._context = engine, context
        self._addresses: dict[str, int] = {}

    def set_shapes(self, shapes: Shapes) -> bool:
        """Set the shapes of all inputs.

        Returns:
            Whether one of them is another than before.

        Raises:
            EngineError: the library refuses one.
        """
        if self.shapes == shapes:
            return False
        self.shapes = {}
        with self._engine.listening() as errors:
            for name, shape in shapes.items():
                if not self._context.set_input_shape(name, tuple(shape)):
                    raise self._engine.failure(f"refuses {name} of {list(shape)}", errors)
        self.shapes = {name: tuple(shape) for name, shape in shapes.items()}
        return True

    def output_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of all outputs for the shapes that were set."""
        names = self._engine.outputs
        return {name: tuple(self._context.get_tensor_shape(name)) for name in names}

    def enqueue(self, addresses: Addresses, stream: Stream) -> None:
        """Enqueue one run on ``stream``, and return at once.

        Args:
            addresses: on the device, of all inputs and outputs.
            stream: on which the inputs are ready.

        Raises:
            EngineError: the library refuses, or fails.
        """
        with self._engine.listening() as errors:
            for name, address in addresses.items():
                if self._addresses.get(name) == address:
                    continue
                if not self._context.set_tensor_address(name, address):
                    raise self._engine.failure(f"refuses the address of {name}", errors)
                self._addresses[name] = address
            if not self._context.execute_async_v3(int(stream)):
                raise self._engine.failure("failed while it ran", errors)


class ComponentEngine:
    """The engine of one component.

    Attributes:
        spec: name, inputs and outputs of the component.
        outputs: element type of each output of the plan by its name.
        workspace: bytes of device memory that it needs while it runs, with any profile.
        contexts: one for each profile, once they were opened.
    """

    def __init__(
        self,
        library: Library,
        spec: ComponentSpec,
        plan: bytes | memoryview,
        profiles: Sequence[Profile] = (),
    ) -> None:
        """Load a plan.

        Args:
            library: of the version that built it.
            spec: of the component.
            plan: as in the engine file.
            profiles: in the engine's order; empty if nothing is dynamic.

        Raises:
            EngineError: the library cannot load it, or it is of another model.
        """
        self.spec, self._library, self._profiles = spec, library, tuple(profiles)
        trt = library.module
        self.contexts: list[ExecutionContext] = []
        with self.listening() as errors:
            # It must outlive the engine.
            self._runtime = trt.Runtime(library_logger(trt))
            self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise self.failure("cannot be loaded", errors)
        self.outputs = self._check_tensors()
        sizes = [
            self._engine.get_device_memory_size_for_profile_v2(index)
            for index in range(max(1, len(self._profiles)))
        ]
        self.workspace = max(int(size) for size in sizes)

    def open_contexts(self, workspace: DeviceArray, stream: Stream) -> None:
        """Make a context for each profile.

        Args:
            workspace: device memory of at least the size ``self.workspace``; engines that do not
                run at the same time can share it.
            stream: on which it will run.

        Raises:
            EngineError: the library makes none, or refuses the profile.
        """
        strategy = self._library.module.ExecutionContextAllocationStrategy.USER_MANAGED
        names = [profile.name for profile in self._profiles] or [""]
        for index, name in enumerate(names):
            with self.listening() as errors:
                context = self._engine.create_execution_context(strategy)
                if context is None:
                    raise self.failure("gives no execution context", errors)
                if not context.set_optimization_profile_async(index, int(stream)):
                    raise self.failure(f"refuses its profile {name or index}", errors)
            context.set_device_memory(workspace.pointer, workspace.nbytes)
            self.contexts.append(ExecutionContext(self, index, name, context))

    @property
    def max_objects(self) -> int:
        """Most objects that run as one batch."""
        ranges = [
            profile.dimensions["B"] for profile in self._profiles if "B" in profile.dimensions
        ]
        return min((largest for _, _, largest in ranges), default=1)

    def context_for(self, shapes: Shapes) -> ExecutionContext:
        """Return the context whose profile fits, the most specific one if several do.

        Raises:
            EngineError: none fits, or a shape is not the component's; says what was expected.
        """
        sizes = dynamic_sizes(self.spec, shapes)
        if not self._profiles:
            return self.contexts[0]
        for profile, context in zip(self._profiles[::-1], self.contexts[::-1], strict=True):
            if _outside(profile, sizes) is None:
                return context
        letter = _outside(self._profiles[0], sizes)
        assert letter is not None
        smallest, _, largest = self._profiles[0].dimensions[letter]
        what, option = _LIMITS[letter]
        raise EngineError(
            f"{self.spec.name} of this engine takes {smallest} to {largest} {what}, but got "
            f"{sizes[letter]}; build it with a larger {option}"
        )

    def close(self) -> None:
        """Release contexts and engine; nothing may be running."""
        self.contexts.clear()
        self._engine = None
        self._runtime = None

    @contextmanager
    def listening(self) -> Iterator[list[str]]:
        """Collect the library's error messages of the calls in the block."""
        logger, errors = library_logger(self._library.module), []

        def listen(severity: str, text: str) -> None:
            if severity.endswith("error"):
                errors.append(text)

        logger.listener = listen
        try:
            yield errors
        finally:
            logger.listener = None

    def failure(self, what: str, errors: Sequence[str]) -> EngineError:
        """Return the error that says ``what`` went wrong, and what the library said of it."""
        text = one_line(" ".join(errors))
        name = self.spec.name
        if "out of memory" in text.lower() or "outofmemory" in text.lower():
            return EngineError(
                f"the GPU is out of memory: {name} does not fit; close what else uses the GPU, or "
                "build the engine with a smaller --max-objects"
            )
        reason = one_line(errors[-1]) if errors else "it says no reason"
        return EngineError(
            f"the engine of {name} {what} ({self._library.title}: {reason}); build it again with "
            "qsam2-build-engine on this machine"
        )

    def _check_tensors(self) -> dict[str, np.dtype[Any]]:
        """Compare the plan's tensors with the component's, and return the outputs."""
        trt, engine = self._library.module, self._engine
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        inputs = {n for n in names if engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT}
        outputs = {
            name: np.dtype(trt.nptype(engine.get_tensor_dtype(name)))
            for name in names
            if name not in inputs
        }
        wanted = {tensor.name for tensor in self.spec.outputs}
        if inputs != {tensor.name for tensor in self.spec.inputs} or not wanted <= outputs.keys():
            raise EngineError(
                f"the engine of {self.spec.name} has the tensors {', '.join(names)}, which are not "
                "those of this version; build it again with qsam2-build-engine"
            )
        on_host = [n for n in names if engine.get_tensor_location(n) != trt.TensorLocation.DEVICE]
        if on_host:
            # Addresses on the device would crash it; none of our graphs makes such a tensor.
            raise self.failure(f"wants {', '.join(on_host)} in host memory", ())
        return outputs


def dynamic_sizes(spec: ComponentSpec, shapes: Shapes) -> dict[str, int]:
    """Return the size of each dynamic dimension by its letter.

    Raises:
        EngineError: an input is missing or too many, or of a shape that is not the component's.
    """
    names = [tensor.name for tensor in spec.inputs]
    if sorted(shapes) != sorted(names):
        raise EngineError(f"{spec.name} takes {', '.join(names)}, but got {', '.join(shapes)}")
    sizes: dict[str, int] = {}
    for tensor in spec.inputs:
        shape = shapes[tensor.name]
        wanted = [sizes.get(d, d) if isinstance(d, str) else d for d in tensor.shape]
        if len(shape) != len(wanted) or any(
            isinstance(d, int) and d != size for d, size in zip(wanted, shape, strict=True)
        ):
            raise EngineError(
                f"{spec.name} takes {tensor.name} of {_written(tensor)}, but got {list(shape)}"
            )
        sizes |= {d: n for d, n in zip(wanted, shape, strict=True) if isinstance(d, str)}
    return sizes


def _written(tensor: TensorSpec) -> str:
    return f"[{', '.join(map(str, tensor.shape))}]"


def _outside(profile: Profile, sizes: Mapping[str, int]) -> str | None:
    """Return a dimension that the profile does not take; None if it takes all."""
    for letter, (smallest, _, largest) in profile.dimensions.items():
        if not smallest <= sizes[letter] <= largest:
            return letter
    return None
