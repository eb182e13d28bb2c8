"""ONNX Runtime on the CPU."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import EngineError, MissingDependencyError
from ..spec import ModelSpec
from .backend import Arrays
from .lowering import lower_for_ort
from .sessions import ComponentSessions


class OrtBackend:
    """Runs a bundle with one ONNX Runtime session per component."""

    def __init__(self, model: str | os.PathLike[str], threads: int | None = None) -> None:
        """Read and check ``model``; sessions are made on entering the context.

        Args:
            model: path of a ``model.onnx``.
            threads: threads within an operator; default: ONNX Runtime's own choice.

        Raises:
            ModelFileError: the file cannot be used.
            MissingDependencyError: ``onnxruntime`` or ``onnx`` is not installed.
        """
        try:
            import onnxruntime  # noqa: F401
        except ImportError as error:
            raise MissingDependencyError("onnxruntime", "ort", "running a model") from error
        self._sessions = ComponentSessions(
            model, lambda component: session_from_onnx(component, threads)
        )

    @property
    def spec(self) -> ModelSpec:
        """Metadata of the model."""
        return self._sessions.spec

    def __enter__(self) -> OrtBackend:
        """Make the sessions.

        Raises:
            EngineError: ONNX Runtime refuses the model.
        """
        self._sessions.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Release the sessions."""
        self._sessions.__exit__(kind, error, trace)

    def run(self, component: str, inputs: Mapping[str, npt.NDArray[Any]]) -> Arrays:
        """Run one component; see :class:`~qsam2_deploy.runtime.backend.Backend`."""
        session = self._sessions[component]
        names = [output.name for output in session.get_outputs()]
        feeds = {key: np.ascontiguousarray(value) for key, value in inputs.items()}
        try:
            return dict(zip(names, session.run(names, feeds), strict=True))
        except Exception as error:  # ONNX Runtime raises types of its own, without a base
            raise EngineError(f"ONNX Runtime failed in {component}: {error}") from error


def session_from_onnx(
    component: Any, threads: int | None = None, *, profile: str | None = None
) -> Any:
    """Lower one component for ONNX Runtime and return its ``InferenceSession``.

    Args:
        component: an ``onnx.ModelProto`` with one component; it is changed.
        threads: threads within an operator.
        profile: write ONNX Runtime's profile to files of this prefix.

    Raises:
        EngineError: ONNX Runtime refuses the model, for instance because its opset is too new.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, profile
    # The lowering has already made the integer products; moving QuantizeLinear away from them
    # only adds pairs of Q and DQ, and at opset 21 and later gives graphs that fail to load.
    options.add_session_config_entry(
        "optimization.disable_specified_optimizers", "QDQPropagationTransformer"
    )
    lower_for_ort(component)
    try:
        return onnxruntime.InferenceSession(
            component.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # ONNX Runtime raises types of its own, without a base
        raise EngineError(
            f"ONNX Runtime {onnxruntime.__version__} cannot load {component.graph.name}: {error}; "
            "upgrade it with: pip install -U onnxruntime"
        ) from error
