"""Building one component: lowered, built, and tried out where that can be done."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from .._common.files import atomic_open, read_bounded
from .._common.trust import distrust
from ..engines.tensorrt.adapter import Network, OnMessage, Plan, build_plan
from ..engines.tensorrt.engine_file import Variant
from ..engines.tensorrt.layer_table import (
    LAYER,
    LayerSummary,
    fused_layers,
    quantized_weights,
    summarise,
)
from ..engines.tensorrt.library import Library
from ..engines.tensorrt.options import BuildOptions, Limits
from ..engines.tensorrt.profiles import Profile, component_profiles
from ..errors import EngineError, InputError, UnsupportedModelError
from ..lowering import TENSORRT_PRECISIONS, lower_for_tensorrt
from ..lowering.memory_output import finish_memory
from ..model_file.bundle import Bundle
from ..onnx_graph.tensors import copy_of
from .self_test import Outcome, SelfTest

if TYPE_CHECKING:
    import onnx

_MAX_TIMINGS = 256 << 20
"""Bytes of a file of timings; an engine's are far smaller."""


@dataclass(frozen=True)
class Candidate:
    """A built component.

    Attributes:
        component: its name.
        variant: how it was lowered.
        products: how many of its products have the type that the precision names.
        profiles: of its engine.
        plan: its engine.
        layers: what the builder says of its fused layers; None if it says nothing.
        outcome: of the self-test; None if it was not run.
    """

    component: str
    variant: Variant
    products: int
    profiles: tuple[Profile, ...]
    plan: Plan = field(repr=False)
    layers: LayerSummary | None = None
    outcome: Outcome | None = None

    @property
    def passed(self) -> bool:
        """Whether nothing speaks against it."""
        return self.outcome is None or self.outcome.passed


def network_from_component(
    bundle: Bundle, component: str, variant: Variant, limits: Limits, *, bfloat16: bool = True
) -> tuple[Network, int]:
    """Return a lowered component with its profiles, and how many products have the precision.

    The component of the bundle is not changed. ``bfloat16`` rounds memories to it; GPUs before
    compute capability 8.0 do not know it.

    Raises:
        UnsupportedModelError: the component cannot be lowered.
    """
    lowered: onnx.ModelProto = copy_of(bundle.components[component])
    products = lower_for_tensorrt(
        lowered, variant.precision, fused_attention=variant.fused_attention
    )
    finish_memory(lowered, rounds=bfloat16)
    network = Network(
        spec=bundle.spec.component(component),
        model=lowered.SerializeToString(),
        layers=[node.name for node in lowered.graph.node],
        profiles=component_profiles(bundle.spec, component, limits),
        weights=quantized_weights(lowered),
    )
    return network, products


class ComponentBuilder:
    """Builds components of one model with one library and the same settings."""

    def __init__(
        self,
        library: Library,
        bundle: Bundle,
        options: BuildOptions,
        limits: Limits,
        *,
        bfloat16: bool = True,
        timing_cache: Path | None = None,
        self_test: SelfTest | None = None,
        on_message: OnMessage | None = None,
        show_progress: bool | None = None,
    ) -> None:
        """Take what all components have in common; see :func:`.build.engine_from_onnx`.

        Raises:
            InputError: the timing cache cannot be read.
        """
        self._library, self._bundle = library, bundle
        self._options, self._limits, self._bfloat16 = options, limits, bfloat16
        self._self_test, self._on_message, self._show = self_test, on_message, show_progress
        self._cache = timing_cache
        self._timings = None if timing_cache is None else _read_timings(timing_cache)

    def products(self, component: str, variant: Variant) -> int:
        """Return how many products of a component have the type that the precision names."""
        return self._network(component, variant)[1]

    def tested(self, component: str, variant: Variant) -> Candidate:
        """Build a component; if it fails its self-test, once more without fused attention.

        Raises:
            UnsupportedModelError: the component cannot be lowered.
            EngineError: the library refuses it, or the engine is wrong both times.
        """
        found = self._attempts(component, variant)
        if not found[-1].passed:
            raise _refused(found[-1], self._library)
        return found[-1]

    def fastest(self, component: str) -> tuple[Candidate, list[Candidate]]:
        """Build a component in every precision that its model has, and time it.

        Returns:
            The fastest that passes the self-test, and all that were tried.

        Raises:
            EngineError: none passes.
        """
        tried: list[Candidate] = []
        for precision in TENSORRT_PRECISIONS:
            variant = Variant(precision)
            if self._has(component, variant):
                tried += self._attempts(component, variant, timed=True)
        sound = [candidate for candidate in tried if candidate.passed]
        if not sound:
            raise _refused(tried[-1], self._library)
        return min(sound, key=_time), tried

    def write_timings(self) -> None:
        """Keep the timings of all builds in the file that was given, if one was."""
        if self._cache is not None and self._timings:
            with atomic_open(self._cache) as stream:
                stream.write(self._timings)

    def _attempts(
        self, component: str, variant: Variant, *, timed: bool = False
    ) -> list[Candidate]:
        """Build a component, and once more if it is wrong and has attention to break up."""
        found = [self._checked(component, variant, timed=timed)]
        broken = replace(variant, fused_attention=False)
        if not found[0].passed and self._differ(component, variant, broken):
            found.append(self._checked(component, broken, timed=timed))
        return found

    def _differ(self, component: str, *variants: Variant) -> bool:
        models = {self._network(component, variant)[0].model for variant in variants}
        return len(models) > 1

    def _network(self, component: str, variant: Variant) -> tuple[Network, int]:
        return network_from_component(
            self._bundle, component, variant, self._limits, bfloat16=self._bfloat16
        )

    def _has(self, component: str, variant: Variant) -> bool:
        try:
            return self.products(component, variant) > 0
        except UnsupportedModelError:
            return False

    def _checked(self, component: str, variant: Variant, *, timed: bool = False) -> Candidate:
        network, products = self._network(component, variant)
        table: list[str] = []

        def listen(severity: str, text: str) -> None:
            if LAYER in text:
                table.append(text)
            if self._on_message is not None:
                self._on_message(severity, text)

        plan = build_plan(
            self._library,
            network,
            self._options,
            timing_cache=self._timings,
            on_message=listen,
            show_progress=self._show,
        )
        # Layers of one component may be those of the next.
        self._timings = None if self._timings is None else plan.timing_cache
        profiles = tuple(network.profiles)
        outcome = None
        if self._self_test is not None:
            outcome = self._outcome(component, variant, plan, profiles, timed)
        layers = summarise(fused_layers(table), network.weights, variant.precision)
        return Candidate(component, variant, products, profiles, plan, layers, outcome)

    def _outcome(
        self,
        component: str,
        variant: Variant,
        plan: Plan,
        profiles: tuple[Profile, ...],
        timed: bool,
    ) -> Outcome:
        assert self._self_test is not None
        try:
            return self._self_test.check(
                component, variant.precision, plan.data, profiles, timed=timed
            )
        except EngineError as error:
            raise EngineError(
                f"the self-test of {component} cannot be run: {error} "
                "(--no-self-test leaves it out)"
            ) from error


def _time(candidate: Candidate) -> float:
    taken = None if candidate.outcome is None else candidate.outcome.milliseconds
    return float("inf") if taken is None else taken


def _refused(candidate: Candidate, library: Library) -> EngineError:
    outcome = candidate.outcome
    assert outcome is not None
    return EngineError(
        f"the engine of {candidate.component} ({candidate.variant}) is wrong: {outcome.tensor} "
        f"differs from the model by {outcome.error:.3g} standard deviations, where "
        f"{outcome.tolerance:g} is the limit; nothing was written: build with another precision, "
        f"or with another version than {library.title}"
    )


def _read_timings(path: Path) -> bytes:
    """Return the timings of earlier builds, which the library reads without a check of ours."""
    reason = distrust(path)
    if reason is not None:
        raise InputError(
            f"the timing cache {path} is not used: {reason}; correct that, or name another file"
        )
    if not path.exists():
        return b""
    try:
        return read_bounded(path, _MAX_TIMINGS)
    except (OSError, ValueError) as error:
        told = error.strerror if isinstance(error, OSError) else None
        raise InputError(f"cannot read the timing cache {path}: {told or error}") from error
