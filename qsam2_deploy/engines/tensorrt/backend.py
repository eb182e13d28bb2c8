"""TensorRT and TensorRT-RTX as a backend: everything that only components read stays on the GPU."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import EngineError
from ...lowering.memory_output import MEMORY_SUM
from ...spec import MEMORY_ENCODER, ModelSpec
from ..protocol import Arrays, DeviceImage
from .component_engine import ComponentEngine, dynamic_sizes
from .device_memory import DeviceMemory, DeviceTensor, Inbox, Outbox
from .engine_file import EngineFile, read_engine
from .execution import EngineRunner
from .frames import ForeignArray
from .graphs import GraphedContext
from .library import Library, find_library
from .memories import DeviceMemories

DEVICE_OUTPUTS = frozenset({"features", "high_res_0", "high_res_1", "conditioned", "memory"})
"""Outputs that only other components read."""

_MIB = 1 << 20


class TensorRtBackend:
    """Runs a ``model.engine``; a context manager, and a drop-in for the backends on the CPU.

    Memory features, image features and what the memory attention makes of them stay in device
    memory; what the tracker reads comes back in one copy for each component. Components whose
    shapes and addresses stay are launched as CUDA graphs. Threads take turns: one component runs
    at a time.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        memory_limit_mib: int = 512,
        library: Library | None = None,
        runtime: Any = None,
    ) -> None:
        """Read and check ``model``; the GPU is not touched before the context is entered.

        Args:
            model: path of a ``model.engine``.
            memory_limit_mib: most device memory for memory features; older ones go to the host.
            library: use this one instead of the installed one that built the engine.
            runtime: use this one instead of ``cuda.bindings.runtime``.

        Raises:
            ModelFileError: the file cannot be used.
            MissingDependencyError: the library that built it is not installed.
            EngineError: the installed library is of another version.
        """
        engine = read_engine(model)
        self._file: EngineFile | None = engine
        self._path, self._limit = engine.path, memory_limit_mib * _MIB
        self._header = engine.header
        self._library = library or find_library(self._header.builder)
        self._header.check_library(self._library, engine.path)
        self._runtime = runtime
        self._resources = ExitStack()
        self._runner: EngineRunner | None = None
        self.memories: DeviceMemories | None = None

    @property
    def spec(self) -> ModelSpec:
        """Metadata of the model."""
        return self._header.spec

    @property
    def builder(self) -> str:
        """What built the engine: ``tensorrt`` or ``tensorrt-rtx``."""
        return self._header.builder

    @property
    def name(self) -> str:
        """The engine's name, of :func:`.registry.backend_names`."""
        return self.builder

    @property
    def precision(self) -> str:
        """What the engine's products are in, or ``mixed``."""
        return self._header.precision

    def __enter__(self) -> TensorRtBackend:
        """Load the engine onto the GPU.

        Raises:
            ModelFileError: the file was changed, and cannot be used any more.
            MissingDependencyError: ``cuda-python`` is not installed.
            EngineError: there is no GPU, another one, or one with too little memory.
        """
        # The file's bytes are let go with the plans; entering again reads it again.
        file, self._file = self._file or read_engine(self._path), None
        with ExitStack() as stack:
            runner = stack.enter_context(
                EngineRunner.from_file(file, library=self._library, runtime=self._runtime)
            )
            del file
            self._memory = DeviceMemory(runner.cuda, runner.stream)
            stack.callback(self._memory.close)
            shape = (self.spec.memory_dim, self.spec.feature_size, self.spec.feature_size)
            usual = self.spec.rules.num_maskmem
            self.memories = DeviceMemories(self._memory, shape, usual, self._limit)
            stack.callback(self.memories.close)
            self._components = {
                name: _Component(engine, self._memory) for name, engine in runner.components.items()
            }
            for component in self._components.values():
                stack.callback(component.close)
            stack.callback(runner.settle)
            self._resources = stack.pop_all()
        self._runner = runner
        return self

    def __exit__(self, *error: object) -> None:
        """Give the GPU's memory back; tensors and memories that are still around are lost."""
        self._runner = self.memories = None
        self._resources.close()

    def run(self, component: str, inputs: Mapping[str, Any]) -> Arrays:
        """Run one component; see :class:`~qsam2_deploy.engines.protocol.Backend`.

        More objects than the engine takes at once run in several batches.

        Args:
            component: its name.
            inputs: arrays on the host, tensors that this backend returned, or other arrays on the
                GPU with ``__cuda_array_interface__``.

        Raises:
            EngineError: an input does not fit, or the engine failed.
        """
        if self._runner is None:
            raise EngineError(f"the backend is closed: enter it before running {component}")
        with self._memory.lock:
            self._runner.cuda.make_current()
            return self._components[component].run(inputs)

    def take_frame(self, frame: Any) -> npt.NDArray[np.uint8] | DeviceImage:
        """Take a frame that is on the GPU; see :class:`~qsam2_deploy.engines.protocol.Backend`.

        Args:
            frame: float32 ``[1, 3, S, S]``, which is the model's normalised input and stays on
                the GPU, or uint8 RGB ``[height, width, 3]``, which goes through the host, because
                resizing as the official predictor does is done there.

        Raises:
            VideoError: it is of another type, shape or layout.
            EngineError: the backend is closed, or the copy failed.
        """
        if self._runner is None:
            raise EngineError("the backend is closed: enter it before giving it frames")
        self._runner.cuda.make_current()
        size = self.spec.image_size
        array = ForeignArray.from_frame(frame, size)
        if array.dtype == np.float32:
            return DeviceImage(array, (size, size, 3))
        array.wait(self._runner.cuda)
        return self._memory.to_host(array.pointer, array.shape, array.dtype)


class _Component:
    """One component with its contexts and the memory of its inputs and outputs."""

    def __init__(self, engine: ComponentEngine, memory: DeviceMemory) -> None:
        self._engine, self._memory = engine, memory
        self._spec = engine.spec
        self._inboxes = {
            t.name: Inbox(memory, f"{t.name} of {self._spec.name}") for t in engine.spec.inputs
        }
        self._outbox = Outbox(memory, engine.spec.name)
        self._graphed = {
            context.index: GraphedContext(context, memory.cuda, memory.stream)
            for context in engine.contexts
        }
        if self._spec.name == MEMORY_ENCODER and MEMORY_SUM not in engine.outputs:
            raise EngineError(
                "the engine was built by an earlier version; build it again with qsam2-build-engine"
            )

    def close(self) -> None:
        """Release its graphs and memory; nothing may be running."""
        for graphed in self._graphed.values():
            graphed.close()
        for inbox in self._inboxes.values():
            inbox.close()
        self._outbox.close()

    def run(self, inputs: Mapping[str, Any]) -> Arrays:
        """Run it, in batches of as many objects as the engine takes."""
        given = {name: self._converted(name, value) for name, value in inputs.items()}
        sizes = dynamic_sizes(self._spec, {name: value.shape for name, value in given.items()})
        made = self._device_outputs(sizes)
        found: list[Arrays] = []
        for begin, end in self._batches(sizes):
            found.append(self._run_rows(given, made, begin, end))
        host = {name: np.concatenate([part[name] for part in found]) for name in found[0]}
        return {**made, **host}

    def _converted(self, name: str, value: Any) -> Any:
        if isinstance(value, (DeviceTensor, ForeignArray)):
            return value
        if hasattr(value, "__cuda_array_interface__"):
            return ForeignArray(value)
        dtypes = {tensor.name: tensor.dtype for tensor in self._spec.inputs}
        return np.asarray(value, dtypes.get(name))

    def _device_outputs(self, sizes: Mapping[str, int]) -> dict[str, Any]:
        """Return new tensors for the outputs that stay on the device."""
        return {
            tensor.name: self._memory.tensor(
                tuple(sizes[d] if isinstance(d, str) else d for d in tensor.shape),
                tensor.dtype,
                f"the output {tensor.name} of {self._spec.name}",
            )
            for tensor in self._spec.outputs
            if tensor.name in DEVICE_OUTPUTS
        }

    def _batches(self, sizes: Mapping[str, int]) -> Iterator[tuple[int, int]]:
        most, count = self._engine.max_objects, sizes.get("B", 1)
        for begin in range(0, count, most):
            yield begin, min(begin + most, count)

    def _run_rows(
        self, given: Mapping[str, Any], made: Mapping[str, DeviceTensor], begin: int, end: int
    ) -> Arrays:
        """Run the objects from ``begin`` to ``end`` and return the outputs that the host reads."""
        batched = {t.name for t in self._spec.inputs if t.shape[:1] == ("B",)}
        rows = {name: (begin, end) if name in batched else None for name in given}
        shapes = {
            name: (end - begin, *value.shape[1:]) if rows[name] else tuple(value.shape)
            for name, value in given.items()
        }
        graphed = self._graphed[self._engine.context_for(shapes).index]
        outputs = graphed.set_shapes(shapes)
        addresses = {name: self._address(name, given[name], rows[name]) for name in given}
        wide = {name: tensor.pointer + begin * tensor.row_bytes for name, tensor in made.items()}
        read = {n: (s, self._engine.outputs[n]) for n, s in outputs.items() if n not in made}
        graphed.enqueue({**addresses, **wide, **self._outbox.addresses(read)})
        return self._outbox.fetch()

    def _address(self, name: str, value: Any, rows: tuple[int, int] | None) -> int:
        """Return where an input is on the device, after bringing it there."""
        if isinstance(value, DeviceTensor):
            return value.pointer + (0 if rows is None else rows[0] * value.row_bytes)
        if isinstance(value, ForeignArray):
            value.wait(self._memory.cuda)
            begin, end = rows or (0, 1)
            first = value.pointer + (begin * value.row_bytes if rows else 0)
            nbytes = (end - begin) * value.row_bytes if rows else value.nbytes
            return self._inboxes[name].put_from_device(first, nbytes)
        return self._inboxes[name].put(value if rows is None else value[rows[0] : rows[1]])
