"""Does the graph hold what the metadata says? A model that contradicts itself is not run."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from .._common.packing import stored_bits
from ..errors import ModelFileError
from ..onnx_graph.attention_pattern import find_quantized_attentions
from ..onnx_graph.index import GraphIndex, value_of, zero_point
from ..onnx_graph.stored_weights import StoredWeight, stored_weights
from ..spec import AFFINE, COMPONENTS, SYMMETRIC, ModelSpec, TensorSpec, graph_name

if TYPE_CHECKING:
    import onnx

_WIDTHS = re.compile(r"w([2-8])a([2-8])")
_TYPES = {3: 8, 22: 4, 26: 2}  # the numbers of INT8, INT4 and INT2, some of which old onnx lacks
_ELEMENT_TYPES = {1: "float32", 6: "int32", 7: "int64", 9: "bool"}


def check_interface(model: onnx.ModelProto, spec: ModelSpec, origin: str) -> None:
    """Compare types and shapes of the inputs and outputs of a whole model with its metadata.

    Inputs and outputs that are missing are told when the model is cut into its components.

    Raises:
        ModelFileError: one is of another type or shape than the metadata says; names it.
    """
    for name in COMPONENTS:
        component = spec.component(name)
        _compare(name, component.inputs, model.graph.input, origin)
        _compare(name, component.outputs, model.graph.output, origin)


def _compare(
    component: str,
    expected: Iterable[TensorSpec],
    found: Iterable[onnx.ValueInfoProto],
    origin: str,
) -> None:
    infos = {info.name: info.type.tensor_type for info in found}
    for tensor in expected:
        name = graph_name(component, tensor.name)
        if name not in infos:
            continue
        dtype = _ELEMENT_TYPES.get(infos[name].elem_type, "another type")
        shape = tuple(d.dim_param or d.dim_value for d in infos[name].shape.dim)
        if (dtype, shape) != (tensor.dtype, tensor.shape):
            raise _contradiction(
                origin,
                f"{name} is {dtype} {list(shape)} in the graph, "
                f"{tensor.dtype} {list(tensor.shape)} in the metadata",
            )


def check_quantization(model: onnx.ModelProto, spec: ModelSpec, origin: str) -> None:
    """Compare the quantized layers and attention products of a whole model with its metadata.

    Raises:
        ModelFileError: the numbers of attention products differ; or a weight is quantized in one of
            them only, has another grid, or is stored in another type than its width asks for, or
            its inputs have another grid or number of levels; names the weight.
    """
    index = GraphIndex(model)
    stored = stored_weights(model, index)
    told = spec.quantization
    count = told.weights if told is not None else 0
    if len(stored) != count:
        raise _contradiction(
            origin, f"{len(stored)} weights are quantized in the graph, {count} in the metadata"
        )
    products = len(find_quantized_attentions(model, index))
    wanted = told.attentions if told is not None else 0
    if products != wanted:
        raise _contradiction(
            origin,
            f"{products} attention products are quantized in the graph, {wanted} in the metadata",
        )
    if told is None:
        return
    for name in (*told.widths, *told.grids):
        if name not in stored:
            raise _contradiction(origin, f"the weight {name} is quantized in the metadata only")
    for name in sorted(stored):
        weight, grids = stored[name], told.grids.get(name, told.usual_grids)
        reason = _fault(index, weight, told.widths.get(name, told.usual_widths))
        if not reason and grids not in _possible_grids(index, weight):
            reason = f"has the grids {grids!r} in the metadata only"
        if reason:
            raise _contradiction(origin, f"the weight {name} {reason}")


def _possible_grids(index: GraphIndex, weight: StoredWeight) -> list[str]:
    """Return the grids of weight and input that the graph allows, such as ``midrise/affine``."""
    zero_points = [zero_point(index, quantize) for quantize in _input_quantizers(index, weight)]
    # The zero-point of an affine grid may happen to be 0.
    inputs = (AFFINE,) if any(zero_points) else (SYMMETRIC, AFFINE)
    return [f"{weight.grid}/{kind}" for kind in inputs]


def _fault(index: GraphIndex, weight: StoredWeight, widths: str) -> str | None:
    tensor = index.constants[weight.codes]
    match = _WIDTHS.fullmatch(widths) if isinstance(widths, str) else None
    if match is None:
        return f"has the widths {widths!r}, but they must be such as 'w4a8'"
    width = stored_bits(int(match[1]))
    if _TYPES.get(tensor.data_type) != width:
        return f"is of {match[1]} bits, but is not stored as INT{width}"
    levels = 2 ** int(match[2])
    quantizers = _input_quantizers(index, weight)
    wrong = [found for q in quantizers if (found := _levels(index, q)) != levels]
    if wrong:
        return (
            f"is multiplied with inputs of {match[2]} bits, which must have {levels} levels, "
            f"but have {wrong[0]}"
        )
    return None


def _input_quantizers(index: GraphIndex, weight: StoredWeight) -> list[onnx.NodeProto]:
    """Return the QuantizeLinear of every quantized input that meets a weight."""
    found = [index.quantized_input(product.input[0]) for product in weight.users]
    return [quantize for quantize in found if quantize is not None]


def _levels(index: GraphIndex, quantize: onnx.NodeProto) -> int:
    """Return the levels of a QuantizeLinear: as many as a Clip in front of it leaves, or 256."""
    clip = index.made_by(quantize.input[0], "Clip")
    if clip is None:
        return 256
    names = [*clip.input[1:3], quantize.input[1]]
    values = [value_of(index.constants[name]) for name in names if name in index.constants]
    if len(values) != 3 or any(value.size != 1 for value in values):
        return 0
    low, high, step = (float(value.reshape(())) for value in values)
    with np.errstate(all="ignore"):
        levels = np.round(np.float64(high - low) / np.float64(step)) + 1
    return int(levels) if np.isfinite(levels) else 0


def _contradiction(origin: str, reason: str) -> ModelFileError:
    return ModelFileError(
        f"the metadata and the graph of {origin} disagree: {reason}; export the model again"
    )
