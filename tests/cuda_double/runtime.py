"""The module ``cuda.bindings.runtime`` with the names of one frozen list, and no others."""

# ruff: noqa: N802  (methods have the names of the calls that they stand for)

from __future__ import annotations

import enum
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from .memory import Allocation, Memory, MisuseError

FOLDER = Path(__file__).parent / "api"
VERSIONS = tuple(sorted(path.stem for path in FOLDER.glob("*.json")))
"""Names of the lists: package and version."""


@dataclass(eq=False)
class Handle:
    """A stream, an event or a graph as the bindings give it: an object with a number."""

    number: int
    kind: str
    alive: bool = True
    work: list[Work] = field(default_factory=list)
    capture: list[Work] | None = None
    time: float | None = None

    def __int__(self) -> int:
        return self.number


@dataclass(eq=False)
class Work:
    """Something enqueued, and the memory that it uses."""

    do: Callable[[], None]
    uses: Sequence[Allocation]


class _Module:
    """Has the names of the list alone; what it does is in the double's methods of these names."""

    def __init__(self, double: CudaDouble, listing: dict[str, Any]) -> None:
        self._double = double
        self._functions: dict[str, list[str]] = listing["functions"]
        vars(self).update(listing["constants"])
        for name, members in listing["enums"].items():
            setattr(self, name, enum.IntEnum(name, members))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name not in self._functions:
            raise self._double.misuse(f"{name} is not in {self._double.version}")
        parameters = self._functions[name]

        def call(*arguments: Any) -> Any:
            if len(arguments) != len(parameters):
                raise self._double.misuse(f"{name} takes {parameters}, but got {arguments}")
            return self._double.invoke(name, arguments)

        return call


class CudaDouble:
    """A GPU with its runtime.

    Attributes:
        runtime: in the place of the module.
        memory: of the device, and pinned memory of the host.
        calls: names of all calls, in order.
        copies: that were done: such as "device to pinned", and the bytes.
        misuses: all errors raised, also those that the code under test swallowed.
        limit: bytes of device memory that there are.
        faults: names of functions that fail, and the name of the error that each gives.
    """

    def __init__(
        self, version: str = VERSIONS[-1], *, integrated: bool = False, limit: int = 1 << 40
    ) -> None:
        listing = json.loads((FOLDER / f"{version}.json").read_text())
        self.version, self.integrated, self.limit = version, integrated, limit
        self.misuses: list[MisuseError] = []
        self.calls: list[str] = []
        self.copies: list[tuple[str, int]] = []
        self.faults: dict[str, str] = {}
        self.name, self.capability = "Double", (8, 7)
        self.memory = Memory()
        self.handles: list[Handle] = []
        self.runtime: Any = _Module(self, listing)
        self._clock = 0.0

    def misuse(self, text: str) -> MisuseError:
        """Return the error for what the runtime would not survive."""
        self.misuses.append(MisuseError(text))
        return self.misuses[-1]

    def check(self) -> None:
        """Raise the first misuse, or say what was not given back."""
        for error in self.misuses:
            raise error
        left = [f"{b.data.size} bytes of {b.kind} memory" for b in self.memory.alive()]
        left += [handle.kind for handle in self.handles if handle.alive]
        assert not left, f"not given back: {', '.join(left)}"

    def invoke(self, name: str, arguments: Sequence[Any]) -> Any:
        """Do one call, and return a tuple that begins with an error code."""
        self.calls.append(name)
        codes = self.runtime.cudaError_t
        if name in self.faults:
            return codes[self.faults[name]], None
        try:
            result = getattr(self, f"_{name}")(*arguments)
        except MisuseError as error:
            if error not in self.misuses:
                self.misuses.append(error)
            raise
        if isinstance(result, codes):
            return result, None
        return (codes.cudaSuccess,) if result is None else (codes.cudaSuccess, result)

    def enqueue(
        self, stream: Any, do: Callable[[], None], addresses: Sequence[tuple[Any, int]]
    ) -> None:
        """Put work on a stream that uses so many bytes at each of the ``addresses``."""
        found = self._handle(stream, "stream")
        uses = [self.memory.find(address, size)[0] for address, size in addresses]
        target = found.work if found.capture is None else found.capture
        target.append(Work(do, uses))

    # ------------------------------------------------------------------ device
    def _cudaGetDevice(self) -> int:
        return 0

    def _cudaSetDevice(self, device: int) -> None:
        assert device == 0

    def _cudaDeviceGetAttribute(self, attribute: Any, device: int) -> int:
        assert attribute == self.runtime.cudaDeviceAttr.cudaDevAttrIntegrated
        return int(self.integrated)

    def _cudaGetDeviceProperties(self, device: int) -> Any:
        major, minor = self.capability
        return SimpleNamespace(name=self.name.encode() + b"\0", major=major, minor=minor)

    def _cudaGetErrorString(self, error: Any) -> bytes:
        return str(error.name).encode()

    # ------------------------------------------------------------------ memory
    def _cudaMalloc(self, size: int) -> Any:
        self._refuse_while_recording("cudaMalloc")
        if size <= 0:
            raise self.misuse(f"cudaMalloc of {size} bytes")
        if self.memory.used + size > self.limit:
            return self.runtime.cudaError_t.cudaErrorMemoryAllocation
        return self.memory.device(size).address

    def _cudaHostAlloc(self, size: int, flags: int) -> int:
        self._refuse_while_recording("cudaHostAlloc")
        mapped = bool(flags & self.runtime.cudaHostAllocMapped)
        return self.memory.host(size, mapped=mapped).address

    def _cudaHostGetDevicePointer(self, pointer: int, flags: int) -> int:
        block, _ = self.memory.find(pointer, 1)
        if block.device_address is None:
            raise self.misuse("the pinned memory is not mapped")
        return block.device_address

    def _cudaFree(self, address: int) -> None:
        self._give_back(address, "device")

    def _cudaFreeHost(self, address: int) -> None:
        self._give_back(address, "pinned", "mapped")

    def _give_back(self, address: int, *kinds: str) -> None:
        self._refuse_while_recording("a release of memory")
        block = self.memory.free(address, *kinds)
        for handle in self.handles:
            if handle.kind == "stream" and any(block in work.uses for work in handle.work):
                raise self.misuse(f"{block.kind} memory is given back while work uses it")

    def _cudaMemcpyAsync(self, target: Any, source: Any, size: int, kind: Any, stream: Any) -> None:
        self.runtime.cudaMemcpyKind(kind)
        if size <= 0:
            raise self.misuse(f"a copy of {size} bytes")
        into, out_of = self.memory.view(target, size), self.memory.view(source, size)
        ends = [self.memory.find(address, size)[0].kind for address in (source, target)]

        def copy() -> None:
            self.memory.find(target, size)
            self.memory.find(source, size)
            into[:] = out_of
            self.copies.append((" to ".join(ends), size))

        self.enqueue(stream, copy, [(target, size), (source, size)])

    # ----------------------------------------------------------------- streams
    def _make(self, kind: str) -> Handle:
        self.handles.append(Handle(0x5000 + len(self.handles), kind))
        return self.handles[-1]

    def _handle(self, given: Any, kind: str) -> Handle:
        number = int(given)
        found = next((h for h in self.handles if h.number == number and h.kind == kind), None)
        if found is None or not found.alive:
            raise self.misuse(f"{number:#x} is no {kind}, or one that was destroyed")
        return found

    def _destroy(self, given: Any, kind: str) -> None:
        found = self._handle(given, kind)
        if found.work and kind == "stream":
            raise self.misuse("a stream is destroyed before its work is done")
        found.alive = False

    def _refuse_while_recording(self, what: str) -> None:
        if any(handle.capture is not None for handle in self.handles):
            raise self.misuse(f"{what} while a stream is recorded")

    def _cudaStreamCreateWithFlags(self, flags: int) -> Handle:
        if flags != self.runtime.cudaStreamNonBlocking:
            raise self.misuse("the stream waits for the default stream")
        return self._make("stream")

    def _cudaStreamDestroy(self, stream: Any) -> None:
        self._destroy(stream, "stream")

    def _cudaStreamSynchronize(self, stream: Any) -> None:
        found = self._handle(stream, "stream")
        if found.capture is not None:
            raise self.misuse("the host waits for a stream that is recorded")
        self._drain(found, len(found.work))

    def _drain(self, stream: Handle, count: int) -> None:
        for _ in range(count):
            self._clock += 1.0
            stream.work.pop(0).do()

    def _cudaEventCreateWithFlags(self, flags: int) -> Handle:
        return self._make("event")

    def _cudaEventDestroy(self, event: Any) -> None:
        self._destroy(event, "event")

    def _cudaEventRecord(self, event: Any, stream: Any) -> None:
        found = self._handle(event, "event")
        found.time = None

        def reach() -> None:
            found.time = self._clock

        self.enqueue(stream, reach, [])

    def _cudaEventSynchronize(self, event: Any) -> None:
        found = self._handle(event, "event")
        for stream in [h for h in self.handles if h.kind == "stream"]:
            while stream.work and found.time is None:
                self._drain(stream, 1)
        if found.time is None:
            raise self.misuse("the host waits for an event that is in no stream")

    def _cudaEventElapsedTime(self, begin: Any, end: Any) -> float:
        times = [self._handle(event, "event").time for event in (begin, end)]
        if None in times:
            raise self.misuse("the time of an event that was not reached")
        return float(times[1] - times[0])

    # ------------------------------------------------------------------ graphs
    def _cudaStreamBeginCapture(self, stream: Any, mode: Any) -> None:
        self.runtime.cudaStreamCaptureMode(mode)
        found = self._handle(stream, "stream")
        if found.capture is not None:
            raise self.misuse("the stream is recorded already")
        found.capture = []

    def _cudaStreamEndCapture(self, stream: Any) -> Handle:
        found, graph = self._handle(stream, "stream"), self._make("graph")
        if found.capture is None:
            raise self.misuse("the stream is not recorded")
        graph.work, found.capture = found.capture, None
        return graph

    def _cudaGraphInstantiate(self, graph: Any, flags: int) -> Handle:
        made = self._make("executable graph")
        made.work = list(self._handle(graph, "graph").work)
        return made

    def _cudaGraphLaunch(self, executable: Any, stream: Any) -> None:
        found = self._handle(stream, "stream")
        for work in self._handle(executable, "executable graph").work:
            if not all(block.alive for block in work.uses):
                raise self.misuse("a graph is launched whose memory was given back")
            found.work.append(work)

    def _cudaGraphDestroy(self, graph: Any) -> None:
        self._destroy(graph, "graph")

    def _cudaGraphExecDestroy(self, executable: Any) -> None:
        self._destroy(executable, "executable graph")
