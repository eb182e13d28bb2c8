"""Graph passes from the neutral model to what one engine runs best; imports onnx_graph alone.

Each pass is one file with one function that changes an ``onnx.ModelProto`` in place and returns
how many places it changed. What its file says under *Requires* must hold before, and then what it
says under *Ensures* holds after it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

QUERY_BLOCK = 512
"""Queries that attend at a time on a CPU.

The engine packs the keys anew for each block, so small blocks cost time, and large ones memory: of
64, 128, 256, 512 and 4096, memory attention at 1024 pixels was fastest with 512.
"""

INTEGER_QUERY_BLOCK = 64
"""The same for products in integers, which measured fastest at 1024 pixels with 7 memory frames."""

OPENVINO_QUERY_BLOCK = 1024
"""The same for OpenVINO: of 128 to 2048 and all at once, memory attention was fastest with 1024."""

GPU_QUERY_BLOCK = 1024
"""Queries that attend at a time on a GPU without fused attention; not measured.

At 1024 pixels with 7 memory frames their scores are 117 MB in single precision, those of all
queries 470 MB.
"""


TENSORRT_PRECISIONS = ("fp16", "int8", "int4")
"""What :func:`lower_for_tensorrt` makes of a component."""


def lower_for_ort(
    component: onnx.ModelProto,
    *,
    unsigned: bool = False,
    unsigned_conv_weights: bool = False,
    kernels: bool = False,
) -> None:
    """Prepare one component for ONNX Runtime's CPU engine, in place.

    Args:
        component: is changed.
        unsigned: multiply unsigned codes with unsigned ones, for processors on which products with
            signed ones are not exact; see ``unsigned_codes.py``.
        unsigned_conv_weights: for versions that multiply no others in convolutions.
        kernels: use the operators of ``engines/onnxruntime/kernels``.
    """
    from .attention_codes import attention_codes
    from .chunk_attention import chunk_attention
    from .fold_weights import fold_weights
    from .fused_attention import fused_attention
    from .fused_conv import fused_conv
    from .fused_linear import fused_linear
    from .integer_attention import integer_attention
    from .integer_conv import integer_conv
    from .integer_matmul import integer_matmul
    from .lift_quantize import lift_quantize

    integers_of_constants(component)
    # Before the integer products: shapes cannot be inferred through them, which are no ONNX.
    chunk_attention(component, QUERY_BLOCK)
    if kernels:
        fused_attention(component)
        fused_linear(component)
        fused_conv(component)
    integer_attention(component, INTEGER_QUERY_BLOCK, unsigned=unsigned)
    integer_matmul(component, unsigned=unsigned)
    integer_conv(component, unsigned=unsigned or unsigned_conv_weights)
    if kernels:
        attention_codes(component)
        lift_quantize(component)
    fold_weights(component)


def lower_to_float(component: onnx.ModelProto) -> None:
    """Turn one component into plain floats that are on the trained grids, in place."""
    from .fold_activations import fold_activations
    from .fold_weights import fold_weights

    integers_of_constants(component)
    fold_weights(component)
    fold_activations(component)


def lower_for_openvino(component: onnx.ModelProto) -> None:
    """Prepare one component for OpenVINO's CPU engine, in place.

    It fuses the canonical QDQ form itself, depthwise and transposed convolutions and attention
    products included; transposed convolutions of affine inputs run in floats. With the precision
    hint ``f32`` its sums are exact on processors with VNNI; ``bf16``, its default on some, is not.
    """
    from .block_attention import block_attention
    from .flatten_tokens import flatten_tokens
    from .guard_maxima import guard_maxima
    from .pad_queries import pad_queries
    from .repeat_batch import repeat_batch
    from .resize_constants import resize_constants
    from .rotate_halves import rotate_halves

    _widen_to_int8(component)
    # What this engine computes wrong as it stands.
    pad_queries(component)
    repeat_batch(component)
    # What it computes slowly.
    resize_constants(component)
    flatten_tokens(component)
    rotate_halves(component)
    block_attention(component, OPENVINO_QUERY_BLOCK)
    # Wrong as it stands, too, but what is above reads attention without it.
    guard_maxima(component)


def lower_for_tensorrt_int8(component: onnx.ModelProto) -> None:
    """Prepare one component for TensorRT with INT8 weights and activations, in place.

    TensorRT fuses the canonical QDQ form itself, with symmetric steps and float biases. Attention
    products stay in its own floating point.

    Raises:
        UnsupportedModelError: an input has an affine grid, which TensorRT does not have.
    """
    from .float_attention import float_attention
    from .symmetric_only import check_symmetric

    check_symmetric(component, "TensorRT INT8")
    float_attention(component)
    _widen_to_int8(component)


def integers_of_constants(component: onnx.ModelProto) -> None:
    """Bring the constants of one component to INT8 and FLOAT, in place; see the two passes."""
    from .odd_codes import odd_codes
    from .widen_constants import widen_constants

    widen_constants(component)
    odd_codes(component)


def _widen_to_int8(component: onnx.ModelProto) -> None:
    from .fold_weights import fold_weights

    integers_of_constants(component)
    # Integer weights of float products gain nothing, and TensorRT-RTX 1.7 crashes on some.
    fold_weights(component, float_products_only=True)


def lower_for_tensorrt_int4(component: onnx.ModelProto) -> int:
    """Prepare one component for TensorRT with INT4 weights and float activations, in place.

    Inputs may have any grid, because it is dropped; so are mid-rise weights of more than 3 bits.

    Returns:
        How many weights are in INT4; with 0 there is nothing to be gained.
    """
    from .block_weights import block_weights
    from .float_attention import float_attention
    from .fold_weights import fold_weights

    integers_of_constants(component)
    float_attention(component)
    blocked = block_weights(component)
    fold_weights(component)
    return blocked


def lower_for_tensorrt(
    component: onnx.ModelProto, precision: str, *, fused_attention: bool = True
) -> int:
    """Prepare one component for TensorRT with half precision around its integers, in place.

    Args:
        component: is changed.
        precision: of :data:`TENSORRT_PRECISIONS`; ``fp16`` leaves out all quantization of
            activations, and takes quantized weights as the floats that they stand for.
        fused_attention: leave attention as the engine fuses it; see ``break_attention.py``.

    Returns:
        How many products are of the integers that ``precision`` names; with ``fp16``, of halves.

    Raises:
        UnsupportedModelError: an input has an affine grid, which TensorRT INT8 does not have, or a
            constant is too large for half precision.
    """
    from .break_attention import break_attention
    from .half_precision import half_precision

    if precision == "int8":
        lower_for_tensorrt_int8(component)
        count = _quantized_products(component)
    elif precision == "int4":
        count = lower_for_tensorrt_int4(component)
    else:
        _lower_to_unrounded_floats(component)
    halves = half_precision(component)
    if not fused_attention:
        break_attention(component)
    return halves if precision == "fp16" else count


def lower_for_ort_cuda(component: onnx.ModelProto) -> None:
    """Prepare one component for ONNX Runtime's CUDA provider, in place.

    It multiplies no integers, so this is half precision as in :func:`lower_for_tensorrt` with
    ``fp16``: activations are not rounded to steps, which is finer than what was trained.

    Raises:
        UnsupportedModelError: a constant is too large for half precision.
    """
    from .chunk_attention import chunk_attention
    from .half_precision import half_precision

    _lower_to_unrounded_floats(component)
    chunk_attention(component, GPU_QUERY_BLOCK)
    half_precision(component)


def lower_to_tensorrt_reference(component: onnx.ModelProto, precision: str) -> None:
    """Turn one component into plain floats that mean what :func:`lower_for_tensorrt` makes of it.

    Weights are those that were trained, attention products have no steps, and activations are on
    their grids with ``int8`` alone; all that is left out is half precision. In place.
    """
    from .float_attention import float_attention

    if precision == "int8":
        integers_of_constants(component)
        float_attention(component)
        lower_to_float(component)
    else:
        _lower_to_unrounded_floats(component)


def _quantized_products(component: onnx.ModelProto) -> int:
    from ..onnx_graph.index import GraphIndex

    index = GraphIndex(component)
    products = (node for node in component.graph.node if len(node.input) > 1)
    return sum(index.quantized_product(node) is not None for node in products)


def _lower_to_unrounded_floats(component: onnx.ModelProto) -> None:
    from .drop_activations import drop_activations
    from .float_attention import float_attention
    from .fold_weights import fold_weights

    integers_of_constants(component)
    float_attention(component)
    drop_activations(component)
    fold_weights(component)
