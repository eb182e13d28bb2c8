"""A GPU that computes what the builder was given: the lowered graphs, halves and all.

Unlike :class:`tests.support.functional_gpu.FunctionalGpu`, which computes what the model does, this
one can be wrong where real ones are: in attention that is fused. How long a run takes is scripted.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from qsam2_deploy.engines.tensorrt.execution import EngineRunner
from qsam2_deploy.engines.tensorrt.options import Limits
from qsam2_deploy.engines.tensorrt.profiles import Profile
from qsam2_deploy.spec import ModelSpec
from tests.support.functional_gpu import FunctionalGpu

_STEPS = 2
"""What the double counts for an engine and the event behind it."""


class LoweredGpu(FunctionalGpu):
    """One version of TensorRT on one GPU, whose fused attention may be faulty.

    Attributes:
        faults: by component, how an output with fused attention is changed.
        times: milliseconds of a run by component and precision; others take 1.
        built: component, precision and whether attention was fused, of each engine that was run.
    """

    def __init__(self, version: str = "tensorrt-10.3") -> None:
        super().__init__(version)
        self.faults: dict[str, Any] = {}
        self.times: dict[tuple[str, str], float] = {}
        self.built: list[tuple[str, str, bool]] = []

    def open_runner(
        self, spec: ModelSpec, plans: Mapping[str, bytes], profiles: Mapping[str, Sequence[Profile]]
    ) -> EngineRunner:
        """Return the real runner on the doubles; it computes what was parsed last."""
        (component,) = plans
        parsed = self._parsed()[-1]
        self._compute(component, parsed)
        self.built.append((component, *_kind(parsed)))
        return EngineRunner(spec, plans, profiles, library=self.library, runtime=self.runtime)

    def build(
        self, model: Path, output: Path, *, limits: Limits | None = None, precision: str = "fp16"
    ) -> Path:
        """Build an engine file that computes what ``model`` is lowered to."""
        self._built(model, output, precision=precision, limits=limits)
        for parsed in self._parsed():
            self._compute(parsed.graph.name, parsed)
        return output

    def sessions(self) -> dict[str, onnxruntime.InferenceSession]:
        """Return what computes each component of the engine that was built last."""
        return {graph.graph.name: exact_session(graph) for graph in self._parsed()}

    def _parsed(self) -> list[onnx.ModelProto]:
        calls = self.trt.called("OnnxParser.parse")
        return [onnx.ModelProto.FromString(call["model"]) for call in calls]

    def _compute(self, component: str, parsed: onnx.ModelProto) -> None:
        inputs = frozenset(tensor.name for tensor in parsed.graph.input)
        self._sessions[inputs] = _Session(self, component, parsed)

    def wait(self, milliseconds: float) -> None:
        """Let time pass on the GPU."""
        self.cuda._clock += milliseconds - _STEPS


class _Session:
    def __init__(self, gpu: LoweredGpu, component: str, model: onnx.ModelProto) -> None:
        precision, fused = _kind(model)
        self._gpu, self._time = gpu, gpu.times.get((component, precision), 1.0)
        self._fault = gpu.faults.get(component) if fused else None
        self._session = exact_session(model)
        self._known: tuple[bytes, list[Any]] = b"", []

    def run(self, names: list[str], feeds: Mapping[str, Any]) -> list[Any]:
        self._gpu.wait(self._time)
        given = b"".join(value.tobytes() for value in feeds.values())
        if given != self._known[0]:  # runs that are timed repeat themselves
            self._known = given, self._session.run(names, feeds)
        outputs = self._known[1]
        return outputs if self._fault is None else [self._fault(value) for value in outputs]


def exact_session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """Compute a graph as it is written: codes are multiplied as the floats that they stand for.

    TensorRT's integer products are exact. Those that ONNX Runtime makes of the same graph saturate
    on processors without VNNI.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    options.add_session_config_entry(
        "optimization.disable_specified_optimizers", "QDQPropagationTransformer"
    )
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _kind(model: onnx.ModelProto) -> tuple[str, bool]:
    """Return the precision of a lowered graph, and whether its attention can be fused."""
    types = {tensor.data_type for tensor in model.graph.initializer}
    names = {onnx.TensorProto.INT4: "int4", onnx.TensorProto.INT8: "int8"}
    precision = next((name for kind, name in names.items() if kind in types), "fp16")
    return precision, not any(node.name.endswith("/divided") for node in model.graph.node)


def slightly_wrong(value: Any) -> Any:
    """Shift by 3 % of the deviation: too much for half precision."""
    return (value + np.float32(0.03) * max(value.std(), 1)).astype(value.dtype)


def not_finite(value: Any) -> Any:
    """Return an output with one number that is none."""
    wrong = value.copy()
    wrong.flat[-1] = np.nan
    return wrong
