"""One opened model for several predictors, as ``build_sam2`` returns it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from types import TracebackType
from typing import Any, TypeVar

from ..engines.open import open_backend
from ..engines.protocol import Backend, WrappedBackend
from ..spec import ModelSpec, TrackingRules
from .module_like import ModuleLike
from .official_options import official_options

MODEL_SUFFIXES = (".onnx", ".engine")
ENGINE_OPTIONS = ("backend", "threads", "cache", "precision")

_Shared = TypeVar("_Shared", bound="SharedModel")


class SharedModel(ModuleLike, WrappedBackend):
    """A backend that several predictors hold; the engine is open as long as one of them is.

    It stands for the torch module of upstream ``build_sam2``: pass it to ``SAM2ImagePredictor`` and
    ``SAM2AutomaticMaskGenerator``.
    """

    def __init__(self, backend: Backend, rules: TrackingRules | None = None) -> None:
        """Share ``backend``, which has not been entered.

        Args:
            backend: the engine with a model.
            rules: of the tracker, instead of the model's own.
        """
        super().__init__(backend)
        spec = backend.spec
        self._spec = spec if rules is None else replace(spec, rules=rules)
        self._holders = 0

    @property
    def spec(self) -> ModelSpec:
        """Metadata of the model, with the rules that were asked for."""
        return self._spec

    @property
    def image_size(self) -> int:
        """Side of the model's input in pixels."""
        return self.spec.image_size

    def __enter__(self: _Shared) -> _Shared:
        """Load the model into the engine, unless another predictor has."""
        if self._holders == 0:
            self._backend.__enter__()
        self._holders += 1
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Release the engine, unless another predictor holds it."""
        self._holders -= 1
        if self._holders == 0:
            self._backend.__exit__(kind, error, trace)


def open_shared(
    model: str | os.PathLike[str],
    arguments: dict[str, Any],
    overrides: Iterable[str] = (),
    *,
    apply_postprocessing: bool = True,
) -> tuple[SharedModel, dict[str, Any]]:
    """Choose the engine of an exported model, with the options of the official builders.

    Args:
        model: a ``model.onnx`` or ``model.engine``.
        arguments: of a predictor; those of :data:`ENGINE_OPTIONS` are taken out.
        overrides: see :func:`.official_options`.
        apply_postprocessing: likewise.

    Returns:
        The model, and the arguments of ``SAM2VideoPredictor`` that the overrides stand for.

    Raises:
        ModelFileError: the model cannot be used.
        InputError: an override that an exported model cannot follow.
    """
    engine = {name: arguments.pop(name) for name in ENGINE_OPTIONS if name in arguments}
    backend: Backend = open_backend(model, **engine)
    spec = backend.spec
    options = official_options(
        spec.rules, spec.image_size, overrides, apply_postprocessing=apply_postprocessing
    )
    return SharedModel(backend, options.rules), options.predictor
