"""All components of an engine on one stream of one GPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import EngineError
from ...spec import ModelSpec
from ..protocol import Arrays
from .component_engine import Addresses, ComponentEngine, ExecutionContext
from .cuda import Cuda, DeviceArray, Event, PinnedArray, Stream
from .engine_file import EngineFile
from .gpu import gpu_from_runtime
from .library import Library, find_library
from .profiles import Profile

Plans = Mapping[str, "bytes | memoryview"]


class EngineRunner:
    """Runs the plans of some or all components; a context manager, to be entered once.

    Entering it takes the GPU, leaving it gives everything back. The components share one stream
    and one workspace, so that no two of them run at the same time.

    Attributes:
        cuda: the device, inside the context.
        stream: on which everything runs, inside the context.
        components: the loaded engine of each component, inside the context.
    """

    cuda: Cuda
    stream: Stream

    def __init__(
        self,
        spec: ModelSpec,
        plans: Plans,
        profiles: Mapping[str, Sequence[Profile]],
        *,
        library: Library | None = None,
        runtime: Any = None,
    ) -> None:
        """Take plans; nothing is loaded before the context is entered.

        Args:
            spec: of the model.
            plans: by component, one or more of the four.
            profiles: of each of these components, in the engine's order.
            library: which built them; default: the first that is installed.
            runtime: module in the place of ``cuda.bindings.runtime``.
        """
        self.spec, self._plans, self._profiles = spec, dict(plans), dict(profiles)
        self._library, self._runtime = library, runtime
        self.components: dict[str, ComponentEngine] = {}
        self._resources = ExitStack()

    @classmethod
    def from_file(
        cls, engine: EngineFile, *, library: Library | None = None, runtime: Any = None
    ) -> EngineRunner:
        """Take the plans of an engine file that fits this machine.

        Args:
            engine: the file.
            library: default: the installed one of the kind that built the file.
            runtime: module in the place of ``cuda.bindings.runtime``.

        Raises:
            MissingDependencyError: the library is not installed.
            EngineError: the file is of another library or version, or of another GPU.
        """
        header = engine.header
        library = library or find_library(header.builder)
        header.check_library(library, engine.path)
        cuda = Cuda(runtime)
        gpu = gpu_from_runtime(cuda.runtime)
        if gpu is not None:
            header.check_gpu(gpu.name, gpu.compute_capability, engine.path)
        return cls(
            header.spec, engine.plans, header.profiles, library=library, runtime=cuda.runtime
        )

    def __enter__(self) -> EngineRunner:
        """Load the plans onto the GPU.

        Raises:
            MissingDependencyError: the library or ``cuda-python`` is not installed.
            EngineError: there is no GPU or too little memory, or a plan cannot be loaded.
        """
        with ExitStack() as stack:
            library = self._library or find_library()
            self.cuda = Cuda(self._runtime)
            stack.callback(self.components.clear)
            self.stream = stack.enter_context(Stream(self.cuda))
            while self._plans:
                name = next(iter(self._plans))
                spec, profiles = self.spec.component(name), self._profiles.get(name, ())
                # The host's copy of a plan goes as soon as the library has its own.
                engine = ComponentEngine(library, spec, self._plans.pop(name), profiles)
                stack.callback(engine.close)
                self.components[name] = engine
            self._open_contexts(stack)
            self.stream.synchronize()
            stack.callback(self.settle)
            self._resources = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        """Give everything back."""
        self._resources.close()

    def _open_contexts(self, stack: ExitStack) -> None:
        size = max((engine.workspace for engine in self.components.values()), default=0)
        workspace = stack.enter_context(
            DeviceArray(self.cuda, (size,), np.uint8, purpose="the engine's workspace")
        )
        for engine in self.components.values():
            stack.callback(engine.close)
            engine.open_contexts(workspace, self.stream)

    def settle(self) -> None:
        """Wait until nothing runs any more."""
        # After a failure the stream reports it again, and everything is let go all the same.
        with suppress(EngineError):
            self.stream.synchronize()

    def run(self, component: str, inputs: Mapping[str, npt.NDArray[Any]]) -> Arrays:
        """Run one component on host arrays and wait for it; simple and not fast.

        Args:
            component: its name.
            inputs: arrays of the names, dtypes and shapes of ``spec.component``.

        Returns:
            All outputs of the plan by name.

        Raises:
            EngineError: an input does not fit, or the engine failed.
        """
        with ExitStack() as stack:
            call = _HostCall(self, stack, component, inputs)
            call.context.enqueue(call.addresses, self.stream)
            return call.download()

    def milliseconds(
        self,
        component: str,
        inputs: Mapping[str, npt.NDArray[Any]],
        *,
        repeats: int = 20,
        warm_up: int = 3,
    ) -> float:
        """Return the median time of ``repeats`` runs on the GPU after ``warm_up`` others.

        Copies are left out.

        Raises:
            EngineError: an input does not fit, or the engine failed.
        """
        times = []
        with ExitStack() as stack:
            call = _HostCall(self, stack, component, inputs)
            begin, end = (stack.enter_context(Event(self.cuda)) for _ in range(2))
            for number in range(warm_up + repeats):
                begin.record(self.stream)
                call.context.enqueue(call.addresses, self.stream)
                end.record(self.stream)
                end.synchronize()
                if number >= warm_up:
                    times.append(end.milliseconds_since(begin))
        return float(np.median(times))


class _HostCall:
    """Memory of one run on host arrays, all of it new; its inputs are on their way."""

    def __init__(
        self,
        runner: EngineRunner,
        stack: ExitStack,
        component: str,
        inputs: Mapping[str, npt.NDArray[Any]],
    ) -> None:
        if component not in runner.components:
            raise EngineError(f"the engine is closed: enter it before running {component}")
        self._runner, self._stack = runner, stack
        runner.cuda.make_current()
        engine = runner.components[component]
        dtypes = {tensor.name: tensor.dtype for tensor in engine.spec.inputs}
        arrays = {name: np.asarray(value, dtypes.get(name)) for name, value in inputs.items()}
        shapes = {name: array.shape for name, array in arrays.items()}
        self.context: ExecutionContext = engine.context_for(shapes)
        self.context.set_shapes(shapes)
        self._pairs = {name: self._pair(array.shape, array.dtype) for name, array in arrays.items()}
        self.outputs = tuple(engine.outputs)
        for name, shape in self.context.output_shapes().items():
            self._pairs[name] = self._pair(shape, engine.outputs[name])
        # Memory is given back only when nothing uses it any more.
        stack.callback(runner.settle)
        for name, array in arrays.items():
            pinned, device = self._pairs[name]
            pinned.host[...] = array
            self._copy(device.pointer, pinned.pointer, device.nbytes)

    @property
    def addresses(self) -> Addresses:
        """Where inputs and outputs are."""
        return {name: device.pointer for name, (_, device) in self._pairs.items()}

    def download(self) -> Arrays:
        """Copy the outputs to the host and wait for them."""
        for name in self.outputs:
            pinned, device = self._pairs[name]
            self._copy(pinned.pointer, device.pointer, device.nbytes)
        self._runner.stream.synchronize()
        return {name: self._pairs[name][0].host.copy() for name in self.outputs}

    def _copy(self, target: int, source: int, nbytes: int) -> None:
        if nbytes:
            self._runner.cuda.copy(target, source, nbytes, self._runner.stream)

    def _pair(
        self, shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> tuple[PinnedArray, DeviceArray]:
        enter, cuda = self._stack.enter_context, self._runner.cuda
        return enter(PinnedArray(cuda, shape, dtype)), enter(DeviceArray(cuda, shape, dtype))
