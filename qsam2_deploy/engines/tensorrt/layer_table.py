"""Which products an engine computes in integers, as the builder's own table of layers says.

With detailed profiling both libraries log a line for each fused layer: its kind, the types of its
inputs and constants, and the layers of our graph that went into it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...onnx_graph.index import DEQUANTIZE, GraphIndex

if TYPE_CHECKING:
    import onnx

PRODUCT_KINDS = frozenset(
    {
        "CaskConvolution",
        "CaskDeconvolution",
        "CaskGemmConvolution",
        "correlation",
        "gemm",
        "runtime_fusion",
    }
)
"""Kinds of fused layers that multiply; another with integers only unpacks them."""

FUSED_ATTENTION = "_mha_"
"""Part of the names of fused layers that are whole attentions: both products and the softmax."""

LAYER = "LayerType"
"""In every message with lines of the table."""

_LINE = re.compile(r"^Name: (?P<name>.+?), LayerType: (?P<kind>\w+), (?P<rest>.*)$", re.MULTILINE)
_TYPE = re.compile(r"Datatype: (\w+)")
_ORIGIN = re.compile(r"\[ONNX Layer: ([^\]]+)\]")


@dataclass(frozen=True)
class FusedLayer:
    """One line of the table.

    Attributes:
        name: of the fused layer.
        kind: such as ``gemm``.
        inputs: element types of its inputs.
        constants: element types of its constants, such as ``Int8``.
        origins: names of the layers of our graph that went into it.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    constants: tuple[str, ...]
    origins: frozenset[str]

    def multiplies(self, precision: str) -> bool:
        """Return whether this is a product of the integers of ``int8`` or ``int4``."""
        if self.kind not in PRODUCT_KINDS:
            return False
        if precision == "int4":
            return "Int4" in self.constants
        return "Int8" in self.inputs and "Int8" in self.constants


@dataclass(frozen=True)
class LayerSummary:
    """What the builder made of one component.

    Attributes:
        fused: layers after fusion.
        attentions: of these, whole attentions in one.
        quantized: weights of the graph that are stored as integers.
        integer: of these, how many are multiplied as integers.
    """

    fused: int
    attentions: int
    quantized: int
    integer: int


def summarise(
    layers: Sequence[FusedLayer], weights: Mapping[str, str], precision: str
) -> LayerSummary | None:
    """Sum up the fused layers of an engine; None if the builder told none.

    Args:
        layers: the fused layers of the engine.
        weights: as :func:`quantized_weights` returns them.
        precision: ``fp16``, ``int8`` or ``int4``.
    """
    if not layers:
        return None
    share = integer_share(layers, weights, precision) or 0.0
    integer = round(share * len(weights))
    return LayerSummary(len(layers), fused_attentions(layers), len(weights), integer)


def fused_layers(messages: Iterable[str]) -> list[FusedLayer]:
    """Return the lines of the tables in the messages of a build."""
    return [_layer(match) for text in messages if LAYER in text for match in _LINE.finditer(text)]


def quantized_weights(model: onnx.ModelProto) -> dict[str, str]:
    """Return the product of each DequantizeLinear of a constant in a lowered model, by names."""
    index = GraphIndex(model)
    nodes = [n for n in model.graph.node if n.op_type == DEQUANTIZE]
    return {
        node.name: index.users[node.output[0]][0].name
        for node in nodes
        if node.input[0] in index.constants
    }


def integer_share(
    layers: Iterable[FusedLayer], weights: Mapping[str, str], precision: str
) -> float | None:
    """Return the share of quantized weights whose products are in integers.

    Args:
        layers: the fused layers of the engine.
        weights: as :func:`quantized_weights` returns them.
        precision: ``int8`` or ``int4``.

    Returns:
        From 0 to 1; None without quantized weights.
    """
    if not weights:
        return None
    known: set[str] = set()
    for layer in layers:
        if layer.multiplies(precision):
            known |= layer.origins
    return sum(w in known or product in known for w, product in weights.items()) / len(weights)


def fused_attentions(layers: Iterable[FusedLayer]) -> int:
    """Return how many fused layers are whole attentions."""
    return sum(FUSED_ATTENTION in layer.name for layer in layers)


def _layer(match: re.Match[str]) -> FusedLayer:
    rest = match["rest"]
    inputs, _, others = rest.partition("], Constants: [")
    constants = others.partition("], Outputs: [")[0]
    return FusedLayer(
        match["name"],
        match["kind"],
        tuple(_TYPE.findall(inputs)),
        tuple(_TYPE.findall(constants)),
        frozenset(_ORIGIN.findall(rest)),
    )
