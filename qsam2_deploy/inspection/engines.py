"""Which products an engine computes in integers, as the engine's own graph says.

Every engine gets the component as it gets it in use, lowered for it, and is asked for the graph
that it runs after its optimizations.
"""

from __future__ import annotations

import importlib.util
import re
import tempfile
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..engines.onnxruntime.cpu import ort_products, session_from_onnx
from ..engines.openvino.requests import engine_settings, shared_core
from ..engines.openvino.requests import products as openvino_products
from ..errors import EngineError
from ..lowering import lower_for_openvino
from ..lowering.block_attention import BLOCK_OF
from ..onnx_graph.index import GraphIndex
from ..onnx_graph.tensors import PRODUCTS, copy_of, fix_dimensions

if TYPE_CHECKING:
    import onnx

INTEGER_OPERATORS = frozenset(
    {
        "ConvInteger",
        "MatMulInteger",
        "MatMulIntegerToFloat",
        "QGemm",
        "QLinearConv",
        "QLinearMatMul",
    }
)
"""Operators of ONNX Runtime that multiply integers."""

_OPENVINO_PRODUCTS = frozenset(
    {"Convolution", "Deconvolution", "FullyConnected", "GroupConvolution", "MatMul"}
)

_SUFFIXES = re.compile(r"(/(DequantizationMultiply|WithoutBiases))+$")
"""What OpenVINO appends to the name of a product that it takes apart."""


def engine_version(engine: str) -> str | None:
    """Return the version of an installed engine of :data:`ENGINES`; None if it is not there."""
    return version(engine) if importlib.util.find_spec(engine) is not None else None


def ort_integer_products(component: onnx.ModelProto) -> set[str]:
    """Return the names of the nodes that ONNX Runtime computes in integers.

    The graph is the one that it writes after its own optimizations.

    Raises:
        EngineError: ONNX Runtime refuses the component.
    """
    import onnx

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "optimized.onnx")
        session_from_onnx(copy_of(component), 1, optimized=str(path))
        optimized = onnx.load(path)
    return {node.name for node in optimized.graph.node if node.op_type in INTEGER_OPERATORS}


def openvino_integer_products(component: onnx.ModelProto) -> set[str]:
    """Return the names of the nodes that OpenVINO computes in integers on the CPU.

    Its runtime model names the kernel of each operator and the operators that went into it.

    Raises:
        EngineError: OpenVINO refuses the component.
    """
    lowered = copy_of(component)
    lower_for_openvino(lowered)
    fix_dimensions(lowered)  # kernels are chosen when shapes are known
    core = shared_core()
    model = lowered.SerializeToString()
    try:
        compiled = core.compile_model(core.read_model(model), "CPU", engine_settings(1))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise EngineError(f"OpenVINO cannot load {component.graph.name}: {reason}") from error
    products, by_weight = _products(component)
    found: set[str] = set()
    for operator in compiled.get_runtime_model().get_ops():
        info = _runtime_info(operator)
        if info.get("layerType") in _OPENVINO_PRODUCTS and _is_integer_kernel(info):
            originals = info.get("originalLayersNames", "").split(",")
            own = products & {_whole_product(name) for name in originals}
            # Next to an output of the model, a product may lose its name, but not its weight.
            found |= own or by_weight.get(_weight_name(operator), set())
    return found


def _products(component: onnx.ModelProto) -> tuple[set[str], dict[str, set[str]]]:
    """Return the names of all products, and those that multiply with each quantized constant."""
    index = GraphIndex(component)
    products = [node for node in component.graph.node if node.op_type in PRODUCTS]
    by_weight: dict[str, set[str]] = {}
    for node in products:
        weight = index.quantized_constant(node.input[1])
        if weight is not None:
            by_weight.setdefault(weight.input[0], set()).add(node.name)
    return {node.name for node in products}, by_weight


def _whole_product(name: str) -> str:
    """Return the name of the product that an operator of OpenVINO is, or is a block of."""
    return _SUFFIXES.sub("", name).rpartition(BLOCK_OF)[2]


def _runtime_info(operator: Any) -> dict[str, str]:
    return {key: str(value.astype(str)) for key, value in operator.get_rt_info().items()}


def _weight_name(operator: Any) -> str:
    """Return the name of the second input of an operator, or of what it was reordered from."""
    source = operator.input_value(1).get_node()
    while source.get_input_size() == 1:
        source = source.input_value(0).get_node()
    return str(source.get_friendly_name())


def _is_integer_kernel(info: Mapping[str, str]) -> bool:
    return info.get("primitiveType", "").lower().endswith(("_i8", "_u8"))


ENGINES: dict[str, Callable[[onnx.ModelProto], set[str]]] = {
    "onnxruntime": ort_integer_products,
    "openvino": openvino_integer_products,
}
"""For each engine, by the name of its package, what tells its integer products."""

EXACT_PRODUCTS: dict[str, Callable[[], str]] = {
    "onnxruntime": ort_products,
    "openvino": openvino_products,
}
"""For each engine, what says how it multiplies so that sums are exact on this processor."""
