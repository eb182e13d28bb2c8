"""Are the values of a model's metadata of the kinds and sizes that the runtime relies on?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

_MAX_SIZE = 4096
_MAX_WIDTH = 4096
_MAX_TEXT = 4096
_MAX_COUNT = 1 << 20
_MAX_CONSTANT = 1 << 20


def check_spec(spec: Any) -> None:
    """Check the values of a :class:`~qsam2_deploy.spec.ModelSpec` that was read from a file.

    Raises:
        ValueError: one is of another type, or out of range; says which.
        TypeError: one that should be a table is none.
    """
    _whole(spec.image_size, "image_size", 32, _MAX_SIZE)
    if spec.image_size % 32:
        raise ValueError(f"image_size must be a multiple of 32, but is {spec.image_size}")
    for name in ("d_model", "memory_dim"):
        _whole(getattr(spec, name), name, 1, _MAX_WIDTH)
    _whole(spec.memory_pooling, "memory_pooling", 1, _MAX_SIZE)
    for name in ("name", "producer", "source_sha256"):
        _text(getattr(spec, name), name)
    _check_numbers(spec.mean, "mean", -1e6)
    _check_numbers(spec.std, "std", 1e-6)
    _check_like_defaults(spec.rules)
    for name, array in spec.constants.items():
        _check_constant(name, array)
    if spec.quantization is not None:
        _check_quantization(spec.quantization)


def _whole(value: Any, name: str, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(
            f"{name} must be a whole number from {low} to {high}, but is {value!r:.40}"
        )


def _text(value: Any, name: str) -> None:
    if not isinstance(value, str) or len(value) > _MAX_TEXT:
        raise ValueError(f"{name} must be a text of up to {_MAX_TEXT} letters")


def _check_numbers(values: tuple[Any, ...], name: str, low: float) -> None:
    fits = len(values) == 3 and all(_is_number(value) and low <= value <= 1e6 for value in values)
    if not fits:
        raise ValueError(f"{name} must be three numbers from {low} to 1e6")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _check_like_defaults(rules: Any) -> None:
    """Check each flag and number against the type of its default."""
    for entry in fields(rules):
        value, default = getattr(rules, entry.name), entry.default
        if isinstance(default, bool):
            if value is not True and value is not False:
                raise ValueError(f"{entry.name} must be true or false, but is {value!r:.40}")
        elif isinstance(default, int):
            _whole(value, entry.name, -1, _MAX_COUNT)
        elif not _is_number(value) or abs(value) > 1e6:
            raise ValueError(f"{entry.name} must be a number up to 1e6, but is {value!r:.40}")


def _check_constant(name: str, array: Any) -> None:
    _text(name, "the name of a constant")
    if array.size > _MAX_CONSTANT:
        raise ValueError(f"the constant {name!r:.40} has {array.size} numbers")


def _check_quantization(told: Any) -> None:
    for name in ("weight_bits", "activation_bits", "layers", "weights", "dead_channels",
                 "attentions"):  # fmt: skip
        _whole(getattr(told, name), name, 0, _MAX_COUNT)
    for name in ("scope", "method", "weight_grid", "activation_grid"):
        _text(getattr(told, name), name)
    for name in ("widths", "grids"):
        table = getattr(told, name)
        if not isinstance(table, Mapping):
            raise TypeError(f"{name} must be a table, but is {table!r:.40}")
        for key, value in table.items():
            _text(key, name)
            _text(value, name)
