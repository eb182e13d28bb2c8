"""The quantized layers of a component, as they are in its graph."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ModelFileError
from ..lowering.widen_constants import widen_constants
from ..onnx_graph.index import QUANTIZE, GraphIndex, value_of, zero_point
from ..onnx_graph.stored_weights import StoredWeight, stored_weights
from ..onnx_graph.tensors import PRODUCTS, copy_of
from ..spec import QuantizationInfo

if TYPE_CHECKING:
    import onnx

_WIDTHS = re.compile(r"w(\d)a(\d)")


@dataclass(frozen=True)
class QuantizedLayer:
    """One stored weight and the products that it is used in.

    Attributes:
        name: path of the layer, with its component: the weight's name without ``.weight``.
        products: names of the nodes that multiply with it.
        operator: their type.
        shape: of the codes.
        weight_bits: width of the weights, 2 to 8.
        input_bits: width of the inputs, 2 to 8.
        weight_grid: ``symmetric`` or ``midrise`` (levels half a step off).
        input_grid: ``symmetric`` or ``affine`` (with a zero-point).
        weight_scale: smallest and largest step of the output channels.
        input_scale: step of the input; None where the graph does not quantize it.
        input_scale_name: the initializer that holds it, shared by all uses of the input.
        weights_at_ends: share of the codes that are the first or the last level of the grid.
        packed_bytes: bytes of the codes in the file.
    """

    name: str
    products: tuple[str, ...]
    operator: str
    shape: tuple[int, ...]
    weight_bits: int
    input_bits: int
    weight_grid: str
    input_grid: str
    weight_scale: tuple[float, float]
    input_scale: float | None
    input_scale_name: str | None
    weights_at_ends: float
    packed_bytes: int

    @property
    def component(self) -> str:
        """The component that it belongs to."""
        return self.name.partition("/")[0]

    @property
    def widths(self) -> str:
        """Such as ``w4a8``."""
        return f"w{self.weight_bits}a{self.input_bits}"


def quantized_layers(component: onnx.ModelProto, told: QuantizationInfo) -> list[QuantizedLayer]:
    """Return the quantized layers of a component in the order of its graph.

    Args:
        component: in its canonical form, as it is in the file.
        told: what the metadata says; widths and grids are taken from it.

    Raises:
        ModelFileError: a weight is not used as a quantized weight must be; names it.
    """
    stored = {tensor.name: len(tensor.raw_data) for tensor in component.graph.initializer}
    widened = copy_of(component)
    widen_constants(widened)
    index = GraphIndex(widened)
    found = stored_weights(widened, index).values()
    return [_layer(index, weight, told, stored[weight.codes]) for weight in found]


def _layer(
    index: GraphIndex, weight: StoredWeight, told: QuantizationInfo, packed_bytes: int
) -> QuantizedLayer:
    name = weight.codes.removesuffix(".weight")
    products = [node for node in weight.users if node.op_type in PRODUCTS]
    if not products or weight.scale not in index.constants:
        raise ModelFileError(
            f"the weight {weight.codes} is multiplied with nothing; export it again"
        )
    match = _WIDTHS.fullmatch(told.widths.get(weight.codes, told.usual_widths))
    assert match is not None  # the consistency check refuses other texts
    weight_grid, input_grid = told.grids.get(weight.codes, told.usual_grids).split("/")
    codes = value_of(index.constants[weight.codes])
    scale = value_of(index.constants[weight.scale])
    quantize = next((q for p in products if (q := index.quantized_input(p.input[0]))), None)
    scale_name = _input_scale_name(index, name, quantize)
    half = 2 ** (int(match[1]) - 1)
    return QuantizedLayer(
        name=name,
        products=tuple(product.name for product in products),
        operator=products[0].op_type,
        shape=codes.shape,
        weight_bits=int(match[1]),
        input_bits=int(match[2]),
        weight_grid=weight_grid,
        input_grid=input_grid,
        weight_scale=(float(scale.min()), float(scale.max())),
        input_scale=None if scale_name is None else float(value_of(index.constants[scale_name])),
        input_scale_name=scale_name,
        weights_at_ends=float(np.mean((codes == -half) | (codes == half - 1))),
        packed_bytes=packed_bytes,
    )


def _input_scale_name(index: GraphIndex, name: str, quantize: onnx.NodeProto | None) -> str | None:
    if quantize is not None:
        return str(quantize.input[1])
    # The values of the memory are quantized before the attention, their projection comes after it.
    by_name = f"{name}.input_scale"
    return by_name if by_name in index.constants else None


@dataclass(frozen=True)
class InputGrid:
    """The grid of a QuantizeLinear.

    Attributes:
        tensor: what is rounded; the one before the Clip where there is one.
        step: distance of two levels.
        low: the first level.
        high: the last level.
    """

    tensor: str
    step: float
    low: float
    high: float


def input_grid(index: GraphIndex, quantize: onnx.NodeProto) -> InputGrid:
    """Return the grid of a QuantizeLinear whose step is a constant."""
    step = float(value_of(index.constants[quantize.input[1]]))
    clip = index.made_by(quantize.input[0], "Clip")
    if clip is not None:
        low, high = (float(value_of(index.constants[name])) for name in clip.input[1:3])
        return InputGrid(str(clip.input[0]), step, low, high)
    first = _first_code(index, quantize) - zero_point(index, quantize)
    return InputGrid(str(quantize.input[0]), step, step * first, step * (first + 255))


def _first_code(index: GraphIndex, quantize: onnx.NodeProto) -> int:
    if len(quantize.input) < 3:
        return 0  # ONNX's default are unsigned codes
    return -128 if value_of(index.constants[quantize.input[2]]).dtype == np.int8 else 0


def input_quantizers(index: GraphIndex) -> list[onnx.NodeProto]:
    """Return every QuantizeLinear whose step is a constant, in the order of the graph."""
    return [
        node
        for node in index.producer.values()
        if node.op_type == QUANTIZE and node.input[1] in index.constants
    ]
