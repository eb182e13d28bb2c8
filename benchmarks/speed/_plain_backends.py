"""Other people's ways to run the four components: graphs from a folder, without our lowerings.

This imports no torch, so that the memory of a process is that of its engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from qsam2_deploy.engines.protocol import Arrays
from qsam2_deploy.errors import EngineError
from qsam2_deploy.spec import COMPONENTS, ModelSpec

SPEC_FILE = "spec.json"


class PlainBackend:
    """Runs graphs ``NAME.onnx`` or ``NAME.xml`` of a folder; they have fixed shapes."""

    def __init__(self, folder: Path, threads: int) -> None:
        """Read the metadata ``spec.json`` of ``folder``."""
        self.folder, self.threads = folder, threads
        self.spec = ModelSpec.from_json((folder / SPEC_FILE).read_text())
        self._sessions: dict[str, Any] = {}

    def __enter__(self) -> PlainBackend:
        """Load all graphs."""
        self._sessions = {name: self._open(name) for name in COMPONENTS}
        return self

    def __exit__(self, *error: object) -> None:
        """Let them go."""
        self._sessions.clear()

    def run(self, component: str, inputs: Mapping[str, npt.NDArray[Any]]) -> Arrays:
        """Run one component."""
        names = [tensor.name for tensor in self.spec.component(component).outputs]
        return dict(zip(names, self._run(self._sessions[component], inputs), strict=True))

    def _open(self, component: str) -> Any:
        raise NotImplementedError

    def _run(self, session: Any, inputs: Mapping[str, npt.NDArray[Any]]) -> list[Any]:
        raise NotImplementedError


class PlainOrt(PlainBackend):
    """ONNX Runtime with its defaults."""

    def _open(self, component: str) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self.threads, 1
        options.log_severity_level = 3
        path = str(self.folder / f"{component}.onnx")
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def _run(self, session: Any, inputs: Mapping[str, npt.NDArray[Any]]) -> list[Any]:
        # An exporter leaves out the inputs that a tracked frame does not need.
        feeds = {node.name: inputs[node.name] for node in session.get_inputs()}
        found: list[Any] = session.run(None, feeds)
        return found


class PlainOpenVino(PlainBackend):
    """OpenVINO with a precision hint."""

    def __init__(self, folder: Path, threads: int, precision: str = "f32") -> None:
        """See `PlainBackend`.

        Args:
            folder: of the graphs.
            threads: of the engine.
            precision: ``f32`` or ``bf16``, of what is not quantized.

        Raises:
            EngineError: this processor has no bfloat16.
        """
        super().__init__(folder, threads)
        self.precision = precision
        if precision == "bf16" and "BF16" not in _capabilities():
            raise EngineError("this processor has no bfloat16; OpenVINO would use float32")

    def _open(self, component: str) -> Any:
        from qsam2_deploy.engines.openvino.requests import shared_core

        found = [self.folder / f"{component}.{kind}" for kind in ("xml", "onnx")]
        path = next(path for path in found if path.exists())
        settings = {
            "INFERENCE_PRECISION_HINT": self.precision,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": self.threads,
        }
        core = shared_core()
        return core.compile_model(core.read_model(path), "CPU", settings).create_infer_request()

    def _run(self, session: Any, inputs: Mapping[str, npt.NDArray[Any]]) -> list[Any]:
        # OpenVINO may give a port further names, those of tensors that are the same.
        wanted = [next(iter(port.names & inputs.keys())) for port in session.model_inputs]
        results = session.infer({name: np.ascontiguousarray(inputs[name]) for name in wanted})
        return [results[index].copy() for index in range(len(session.model_outputs))]


def _capabilities() -> list[str]:
    from qsam2_deploy.engines.openvino.requests import shared_core

    found: list[str] = shared_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return found
