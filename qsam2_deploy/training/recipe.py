"""Recipes: YAML files that hold a :class:`.TrainConfig` and name the model's configuration."""

from __future__ import annotations

import contextlib
import os
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from .._common.contradictions import shown
from .._common.yaml import read_yaml
from ..errors import InputError
from .config import TrainConfig


@dataclass(frozen=True)
class Recipe:
    """A recipe as read.

    Attributes:
        path: the file.
        train: what the run does.
        model: path of the YAML file with the architecture, or None where the recipe names none.
        data: settings of the data sources: a mapping per source.
    """

    path: Path
    train: TrainConfig
    model: Path | None
    data: Mapping[str, Mapping[str, Any]]


_QAT = "qat.yaml"


def default_qat_recipe() -> Path:
    """Return the path of the recipe that quantized checkpoints are trained with by default.

    It is ``recipes/qat.yaml`` of the repository; a wheel has a copy beside this module.
    """
    copy = Path(__file__).with_name(_QAT)
    return copy if copy.exists() else Path(__file__).parents[2] / "recipes" / _QAT


def read_recipe(path: str | os.PathLike[str]) -> Recipe:
    """Read a recipe.

    Its keys are those of :class:`.TrainConfig`, and ``model``: a path relative to the recipe.

    Raises:
        InputError: the file cannot be read, or a key or a value is not usable.
    """
    source = Path(path)
    content = read_yaml(source, "recipe")
    if not isinstance(content, dict):
        raise InputError(f"the recipe {source} must be a mapping with the key 'stages'")
    model = content.pop("model", None)
    data = content.pop("data", {})
    if not isinstance(data, dict) or not all(isinstance(v, dict) for v in data.values()):
        raise InputError(f"{source}: 'data' must map names of sources to their settings")
    return Recipe(
        path=source,
        train=from_mapping(TrainConfig, content, str(source)),
        model=None if model is None else source.parent / str(model),
        data=data,
    )


def from_mapping(cls: type[Any], values: object, where: str) -> Any:
    """Build the dataclass ``cls`` from plain values, nested ones included.

    Raises:
        InputError: ``values`` is no mapping, has an unknown key, lacks one, or holds a value of
            another type.
    """
    if not isinstance(values, Mapping):
        raise InputError(f"{where} must be a mapping, but got {shown(values)}")
    hints = typing.get_type_hints(cls)
    known = [field.name for field in fields(cls)]
    unknown = [str(key) for key in values if key not in known]
    if unknown:
        raise InputError(
            f"{where} has the unknown key {shown(unknown[0])}; expected some of {', '.join(known)}"
        )
    required = [
        f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING
    ]
    missing = [name for name in required if name not in values]
    if missing:
        raise InputError(f"{where} lacks the key {shown(missing[0])}")
    return cls(
        **{
            key: _converted(hints[key], value, f"{where}: {shown(key)[1:-1]}")
            for key, value in values.items()
        }
    )


def _converted(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):  # "float | None"
        if value is None:
            return None
        return _converted(arguments[0], value, where)
    if is_dataclass(hint):
        return from_mapping(typing.cast("type[Any]", hint), value, where)
    if origin is tuple:
        if not isinstance(value, list):
            raise InputError(f"{where} must be a list, but got {shown(value)}")
        kinds = [arguments[0]] * len(value) if arguments[-1] is ... else list(arguments)
        if len(kinds) != len(value):
            raise InputError(f"{where} must have {len(kinds)} entries, but got {len(value)}")
        return tuple(
            _converted(kind, item, f"{where}[{number}]")
            for number, (kind, item) in enumerate(zip(kinds, value, strict=True))
        )
    if origin is Mapping and isinstance(value, dict):
        return {
            _converted(arguments[0], key, where): _converted(
                arguments[1], item, f"{where}: {shown(key)[1:-1]}"
            )
            for key, item in value.items()
        }
    return _plain(hint, origin, arguments, value, where)


def _plain(hint: Any, origin: Any, arguments: tuple[Any, ...], value: Any, where: str) -> Any:
    if origin is typing.Literal:
        if value not in arguments:
            expected = ", ".join(map(str, arguments))
            raise InputError(f"{where} must be one of {expected}, but got {shown(value)}")
        return value
    if hint is float and isinstance(value, str):
        # Plain YAML 1.1 takes 5e-4 for text.
        with contextlib.suppress(ValueError):
            value = float(value)
    kind = {float: (int, float), Mapping: (dict,)}.get(origin or hint, origin or hint)
    if not isinstance(value, kind) or (isinstance(value, bool) and hint is not bool):
        name = getattr(hint, "__name__", str(hint))
        raise InputError(f"{where} must be of type {name}, but got {shown(value)}")
    return value
