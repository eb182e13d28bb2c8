"""One opened model for several predictors, as ``build_sam2`` returns it."""

from __future__ import annotations

from dataclasses import replace
from types import TracebackType
from typing import TypeVar

from ..engines.protocol import Backend, WrappedBackend
from ..spec import ModelSpec, TrackingRules
from .module_like import ModuleLike

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
