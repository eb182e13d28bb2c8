"""Which layer gets how many bits."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any

from .._common.contradictions import shown
from .._common.yaml import read_yaml
from ..errors import InputError
from ..quant.layers.modules import LayerPlan
from ..quant.quantizers.grid import MAX_BITS, MIN_BITS

Overrides = tuple[tuple[str, str], ...]
"""Patterns of layer names with widths such as ``w4a8``, or ``float``; the last that fits counts."""

FLOAT = "float"
"""The widths of a layer that is not quantized."""

EDGES: tuple[str, ...] = (
    "image_encoder.trunk.patch_embed.proj",
    "memory_encoder.mask_downsampler.encoder.0",
    "memory_encoder.out_proj",
    "obj_ptr_tpos_proj",
    "sam_mask_decoder.iou_prediction_head.layers.2",
    "sam_mask_decoder.output_hypernetworks_mlps.*.layers.2",
    "sam_mask_decoder.pred_obj_score_head",
    "sam_mask_decoder.pred_obj_score_head.layers.2",
    "sam_prompt_encoder.mask_downscaling.0",
)
"""The layers that see an image, a mask or a time, and those that give out results.

They are the first and last layers of the scope ``all``: 0.03 % of the weights of base+.
"""

_BITS = re.compile(r"w([0-9]+)a([0-9]+)")


def parse_bits(text: str) -> tuple[int, int]:
    """Return the widths of weights and activations of a text such as ``w4a8``.

    Raises:
        InputError: the text is of another form, or a width is not 2 to 8.
    """
    match = _BITS.fullmatch(text.lower())
    if match is None:
        raise InputError(
            "the bits must be given as w<weight bits>a<activation bits>, such as w8a8, but got "
            f"{shown(text)}"
        )
    widths = int(match[1]), int(match[2])
    for bits in widths:
        check_width(bits)
    return widths


def check_width(bits: int) -> None:
    """Refuse a width that no grid has.

    Raises:
        InputError: it is not 2 to 8.
    """
    if not MIN_BITS <= bits <= MAX_BITS:
        raise InputError(
            f"weights and activations must have {MIN_BITS} to {MAX_BITS} bits, but got {bits}"
        )


def read_plan(path: str | os.PathLike[str]) -> Overrides:
    """Read a plan: a YAML mapping of layer patterns to widths.

    ::

        image_encoder.trunk.blocks.*.mlp.*: w2a4
        image_encoder.trunk.blocks.0.*: w8a8     # the last pattern that fits counts
        memory_encoder.*: float

    Raises:
        InputError: the file cannot be read, or is no such mapping.
    """
    content = read_yaml(path, "plan")
    if not isinstance(content, dict) or not content:
        raise InputError(
            f"the plan {path} must map layer patterns to widths, such as "
            "'memory_encoder.*: w8a8', but it does not"
        )
    overrides = tuple((str(pattern), str(widths)) for pattern, widths in content.items())
    check_overrides(overrides)
    return overrides


def check_overrides(overrides: Overrides) -> None:
    """Check the widths of a plan; which layers there are is not known yet.

    Raises:
        InputError: widths are neither of the form ``w4a8`` nor ``float``; names the pattern.
    """
    for pattern, widths in overrides:
        _check_widths(pattern, widths)


def plan_layers(
    names: Sequence[str],
    *,
    bits: str,
    method: str,
    edges: Iterable[str] = (),
    edge_bits: int | None = 8,
    overrides: Overrides = (),
    half_steps: bool = False,
    **settings: Any,
) -> dict[str, LayerPlan]:
    """Return the widths of the layers that are to be quantized.

    Args:
        names: the layers of the scope.
        bits: widths of all layers that nothing else is said about.
        method: name of the quantizer.
        edges: patterns of the first and last layers.
        edge_bits: their widths, or None for ``bits``.
        overrides: a plan, which goes before everything else.
        half_steps: round the steps to half precision.
        settings: other arguments of :class:`~qsam2_deploy.quant.layers.layer_plan.LayerPlan`.

    Raises:
        InputError: a pattern of the plan fits no layer, or no layer is left to be quantized.
    """
    for pattern, _ in overrides:
        _check_pattern(pattern, names)
    edges = tuple(edges)
    plan = {}
    for name in names:
        is_edge = edge_bits is not None and any(fnmatchcase(name, edge) for edge in edges)
        widths = f"w{edge_bits}a{edge_bits}" if is_edge else bits
        for pattern, wanted in overrides:
            widths = wanted if fnmatchcase(name, pattern) else widths
        if widths != FLOAT:
            plan[name] = LayerPlan(*parse_bits(widths), method, half_steps, **settings)
    if not plan:
        raise InputError("the plan leaves no layer to be quantized; give some of them widths")
    return plan


def _check_widths(pattern: str, widths: str) -> None:
    try:
        if widths != FLOAT:
            parse_bits(widths)
    except InputError as error:
        raise InputError(f"the plan's widths of {shown(pattern)} are wrong: {error}") from error


def _check_pattern(pattern: str, names: Collection[str]) -> None:
    if not any(fnmatchcase(name, pattern) for name in names):
        example = next(iter(names), "none")
        raise InputError(
            f"the plan's pattern {shown(pattern)} fits no layer of the scope; layers have names "
            f"such as {example}"
        )
