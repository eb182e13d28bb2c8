"""ONNX Runtime on the CPU."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..._common.contradictions import one_line
from ..._common.requirements import check_imported
from ...errors import EngineError, MissingDependencyError
from ...lowering import INTEGER_QUERY_BLOCK, QUERY_BLOCK, lower_for_ort
from ...model_file.lowered_cache import LoweredCache, engine_cache
from ..exactness import RunProbe, check_exact, inexact_products, probe_inputs
from ..protocol import Arrays
from ..sessions import SessionBackend
from .kernels import find_kernels


class OrtBackend(SessionBackend):
    """Runs a bundle with one ONNX Runtime session per component."""

    NAME = "ort"

    def __init__(
        self,
        model: str | os.PathLike[str],
        threads: int | None = None,
        *,
        cache: str | os.PathLike[str] | None = None,
        precision: str = "exact",
        kernels: bool | None = None,
    ) -> None:
        """Read and check ``model``.

        Args:
            model: see :class:`.sessions.SessionBackend`, as the next three.
            threads: likewise.
            cache: likewise.
            precision: likewise.
            kernels: whether to use the operators of ``kernels/``; default: if they are built.

        Raises:
            InputError: an option is not allowed.
            ModelFileError: the file cannot be used.
            MissingDependencyError: ``onnxruntime`` or ``onnx`` is not installed.
            EngineError: ``kernels`` is True, and they are not built or cannot be used; or integer
                products are not exact on this processor, whichever way they are written.
        """
        self._require_engine()
        self._kernels = find_kernels(kernels)
        super().__init__(model, threads, cache=cache, precision=precision)

    @property
    def products(self) -> str:
        """How integers are multiplied here, see ``ort_products``."""
        return ort_products()

    @property
    def kernels(self) -> Path | None:
        """The library of kernels that is in use, if one is."""
        return self._kernels

    @staticmethod
    def _require_engine() -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingDependencyError("onnxruntime", "ort", "running a model") from error
        check_imported(onnxruntime, "onnxruntime", "ort", "running a model")

    def _require_exact(self) -> None:
        require_exact_products(self._kernels)

    @staticmethod
    def _obstacle_to_fast() -> str | None:
        return "ONNX Runtime has no faster floats on a CPU"

    def _lower(self, component: Any) -> None:
        lower_here(component, kernels=self._kernels is not None)

    def _lowered_cache(self, folder: str | os.PathLike[str], digest: str) -> LoweredCache:
        return ort_cache(folder, digest, self._kernels)

    def _open(self, lowered: bytes, name: str) -> Any:
        return session_from_lowered(lowered, name, self._threads, kernels=self._kernels)

    def _run(self, session: Any, component: str, inputs: Mapping[str, npt.NDArray[Any]]) -> Arrays:
        return run_session(session, component, inputs)


def run_session(session: Any, component: str, inputs: Mapping[str, npt.NDArray[Any]]) -> Arrays:
    """Return all outputs of an ``InferenceSession`` by name; messages call it ``component``.

    Raises:
        EngineError: ONNX Runtime fails.
    """
    names = [output.name for output in session.get_outputs()]
    feeds = {key: np.ascontiguousarray(value) for key, value in inputs.items()}
    try:
        return dict(zip(names, session.run(names, feeds), strict=True))
    except Exception as error:  # ONNX Runtime raises types of its own, without a base
        raise EngineError(f"ONNX Runtime failed in {component}: {one_line(error)}") from error


def ort_cache(
    folder: str | os.PathLike[str], digest: str, kernels: Path | None = None
) -> LoweredCache:
    """Return the cache of what :func:`lower_for_ort` makes of the model of this ``digest``.

    Args:
        folder: where it is.
        digest: of the model.
        kernels: the library that the model is lowered for; its name holds its version.
    """
    blocks = f"query_blocks={QUERY_BLOCK},{INTEGER_QUERY_BLOCK}"
    used = "none" if kernels is None else kernels.stem
    about = f"{blocks}, kernels={used}, products={ort_products()}"
    return engine_cache(folder, digest, "onnxruntime", about)


def session_from_onnx(
    component: Any,
    threads: int | None = None,
    *,
    profile: str | None = None,
    optimized: str | None = None,
    kernels: Path | None = None,
) -> Any:
    """Lower one component for ONNX Runtime and return its ``InferenceSession``.

    Args:
        component: an ``onnx.ModelProto`` with one component; it is changed.
        threads: threads within an operator.
        profile: write ONNX Runtime's profile to files of this prefix.
        optimized: write the graph that ONNX Runtime runs, after its own optimizations, here.
        kernels: the library of :func:`.kernels.find_kernels` to use, if any.

    Raises:
        EngineError: ONNX Runtime refuses the model, for instance because its opset is too new.
    """
    lower_here(component, kernels=kernels is not None)
    return session_from_lowered(
        component.SerializeToString(),
        component.graph.name,
        threads,
        profile=profile,
        optimized=optimized,
        kernels=kernels,
    )


def lower_here(component: Any, *, kernels: bool = False) -> None:
    """Prepare one component for ONNX Runtime as it computes exactly on this processor, in place.

    Args:
        component: an ``onnx.ModelProto`` with one component.
        kernels: use the operators of ``kernels/``.
    """
    wrong = _wrong_with_signed_factors()
    lower_for_ort(
        component,
        unsigned=bool(wrong - {"conv"}),
        unsigned_conv_weights="conv" in wrong or not multiplies_signed_conv_weights(),
        kernels=kernels,
    )


def ort_products() -> str:
    """Return how integers are multiplied on this processor, so that sums are exact.

    ``unsigned by signed`` is the fastest where it is exact; where it is not, products that it gets
    wrong are ``unsigned by unsigned``.
    """
    return "unsigned by unsigned" if _wrong_with_signed_factors() else "unsigned by signed"


@functools.cache
def require_exact_products(kernels: Path | None = None) -> None:
    """Check that a lowered model computes the integers that were trained; milliseconds, once.

    Args:
        kernels: the library of :func:`.kernels.find_kernels` to use, if any.

    Raises:
        EngineError: it does not, or ONNX Runtime cannot run the probe.
    """
    if kernels is None and not _wrong_with_signed_factors():
        return  # that was the same probe
    import onnxruntime

    engine = f"ONNX Runtime {onnxruntime.__version__}"
    check_exact(engine if kernels is None else f"{engine} with {kernels.name}", _probe(kernels))


@functools.cache
def _wrong_with_signed_factors() -> frozenset[str]:
    """Return the products of the probe that are wrong where one factor is signed."""

    def lower(component: Any) -> None:
        lower_for_ort(component, unsigned_conv_weights=not multiplies_signed_conv_weights())

    return frozenset(inexact_products(_probe(None, lower)))


def _probe(kernels: Path | None, lower: Callable[[Any], None] | None = None) -> RunProbe:
    """Return what runs the component of :mod:`.exactness`."""

    def run(component: Any) -> Arrays:
        if lower is None:
            lower_here(component, kernels=kernels is not None)
        else:
            lower(component)
        lowered = component.SerializeToString()
        unsigned = None if lower is None else False
        session = session_from_lowered(
            lowered, "the probe", 1, kernels=kernels, unsigned_weights=unsigned
        )
        return run_session(session, "the probe", probe_inputs())

    return run


@functools.cache
def multiplies_signed_conv_weights() -> bool:
    """Return whether the installed version has ``ConvInteger`` with signed weights; 1.23 has not.

    It is tried out on a product of one number, because no list says since when.
    """
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    shape = [1, 1, 1, 1]
    x = helper.make_tensor_value_info("x", TensorProto.UINT8, shape)
    y = helper.make_tensor_value_info("y", TensorProto.INT32, shape)
    weight = numpy_helper.from_array(np.ones(shape, np.int8), "w")
    graph = helper.make_graph(
        [helper.make_node("ConvInteger", ["x", "w"], ["y"])], "probe", [x], [y], [weight]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    try:
        onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    except Exception:  # of a type without a base, here NOT_IMPLEMENTED
        return False
    return True


def session_from_lowered(
    model: bytes,
    name: str,
    threads: int | None = None,
    *,
    profile: str | None = None,
    optimized: str | None = None,
    kernels: Path | None = None,
    unsigned_weights: bool | None = None,
) -> Any:
    """Return the ``InferenceSession`` of a serialised component that was lowered before.

    Args:
        model: the component.
        name: what messages call it.
        threads: see :func:`session_from_onnx`, as the rest.
        profile: likewise.
        optimized: likewise.
        kernels: the library that the component was lowered for, if any.
        unsigned_weights: let ONNX Runtime make unsigned weights of signed ones that are left;
            default: where it multiplies signed ones inexactly.

    Raises:
        EngineError: ONNX Runtime refuses the model.
    """
    import onnxruntime

    if unsigned_weights is None:
        unsigned_weights = bool(_wrong_with_signed_factors())
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # A plan for the memory of each shape of the inputs adds a block as large as all that the plan
    # is for: 1.37 GB instead of 0.87 GB for encoder and memory attention of tiny at 1024 pixels,
    # and no faster.
    options.enable_mem_pattern = False
    # Threads that wait without sleeping take the cores from another component that runs at the
    # same time: with two threads on two cores a frame took 6.0 s instead of 4.0 s.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # For what its own optimizers make of quantized products that the lowering has left. Never where
    # signed weights are exact: ONNX Runtime's own rule takes some processors with AVX-VNNI for
    # inexact ones, and it then fails on weights that two products share (1.31).
    if unsigned_weights:
        options.add_session_config_entry("session.x64quantprecision", "1")
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, profile
    if optimized is not None:
        options.optimized_model_filepath = optimized
    # The lowering has already made the integer products; moving QuantizeLinear away from them
    # only adds pairs of Q and DQ, and at opset 21 and later gives graphs that fail to load.
    options.add_session_config_entry(
        "optimization.disable_specified_optimizers", "QDQPropagationTransformer"
    )
    try:
        if kernels is not None:
            options.register_custom_ops_library(os.fspath(kernels))
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime raises types of its own, without a base
        raise EngineError(
            f"ONNX Runtime {onnxruntime.__version__} cannot load {name}: {one_line(error)}; "
            "upgrade it with: pip install -U onnxruntime"
        ) from error
