"""Execution contexts whose steady runs are CUDA graphs."""

from __future__ import annotations

from ...errors import EngineError
from .component_engine import Addresses, ExecutionContext, Shapes
from .cuda import Cuda, Graph, Stream
from .profiles import WARM_UP

_MAX_GRAPHS = 8
"""Of one context. Features of the last few frames are kept, so the addresses take turns."""


class GraphedContext:
    """Runs a context plainly the first time, then records it, and from there launches the graph.

    A recording holds for the shapes and addresses that it was made with. With new shapes all
    recordings are dropped, and the library asks for one plain run before the next.
    """

    def __init__(self, context: ExecutionContext, cuda: Cuda, stream: Stream) -> None:
        """Begin with nothing recorded; the profile for warming up is never recorded."""
        self._context, self._cuda, self._stream = context, cuda, stream
        self._can_record = context.profile != WARM_UP
        self._seen: set[tuple[int, ...]] = set()
        self._graphs: dict[tuple[int, ...], Graph] = {}
        self._outputs: dict[str, tuple[int, ...]] = {}

    def set_shapes(self, shapes: Shapes) -> dict[str, tuple[int, ...]]:
        """Set the shapes of the inputs and return those of the outputs.

        Raises:
            EngineError: the library refuses one.
        """
        if self._context.shapes != shapes:
            self._drop()
            self._context.set_shapes(shapes)
            self._outputs = self._context.output_shapes()
        return self._outputs

    def enqueue(self, addresses: Addresses) -> None:
        """Enqueue one run.

        Raises:
            EngineError: the engine failed.
        """
        key = tuple(addresses.values())
        graph = self._graphs.get(key)
        if graph is None and self._can_record and key in self._seen:
            graph = self._recorded(key, addresses)
        if graph is None:
            self._context.enqueue(addresses, self._stream)
            self._seen.add(key)
        else:
            graph.launch()

    def _drop(self) -> None:
        """Release all recordings as soon as none of them is running."""
        if self._graphs:
            self._stream.synchronize()
        self.close()

    def close(self) -> None:
        """Release all recordings; nothing may be running."""
        for graph in self._graphs.values():
            graph.close()
        self._graphs.clear()
        self._seen.clear()

    def _recorded(self, key: tuple[int, ...], addresses: Addresses) -> Graph | None:
        if len(self._graphs) == _MAX_GRAPHS:
            self._drop()
        graph = Graph(self._cuda, self._stream)
        try:
            with graph.recording():
                self._context.enqueue(addresses, self._stream)
        except EngineError:
            # Some engines cannot be recorded; they run as well without.
            graph.close()
            self._can_record = False
            return None
        self._graphs[key] = graph
        return graph
