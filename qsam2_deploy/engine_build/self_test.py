"""Whether an engine computes what its model does, tried out on the GPU that it was built for.

Attention that TensorRT fuses is silently wrong in half precision on some versions, and only running
an engine shows it. Each component is compared with ONNX Runtime in single precision, on the inputs
of :mod:`.reference`. Both have the same weights on their grids, and with ``int8`` the same
activations, so that what is left is half precision, and steps that a value takes to the other side.

The error of an output is the root mean square of the difference, in units of the standard
deviation of the reference (for a few numbers, such as scores, of their root mean square).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..engines.protocol import Arrays
from ..engines.tensorrt.profiles import Profile
from ..errors import EngineError
from ..model_file.bundle import Bundle
from ..spec import ModelSpec
from .reference import Case, reference_cases

TOLERANCE = 0.02
"""Largest error of ``fp16`` and ``int4``.

The same graphs, with their halves, on ONNX Runtime's CPU engine: at most 0.0026 (models of 256 and
1024 pixels, trained and random). The rest is room for sums in another order and of another width.
"""

TOLERANCE_8_BITS, TOLERANCE_FEWER_BITS = 0.1, 0.5
"""Largest error of ``int8``, by the width of the activations.

A value near the middle of two steps may take the other one, which the layers behind carry on. On
ONNX Runtime's CPU engine this gave at most 0.021 with 8 bits, and 0.18 with 4 bits, whose steps are
sixteen times as wide (random weights at 1024 pixels). Faults of fused attention are of the order
of 1.
"""

_FEW = 16
"""Fewer numbers than this have no standard deviation worth the name."""


class Runner(Protocol):
    """What runs plans: :class:`.execution.EngineRunner`, inside its context."""

    def run(self, component: str, inputs: Mapping[str, npt.NDArray[Any]]) -> Arrays:
        """Run one component on host arrays."""

    def milliseconds(self, component: str, inputs: Mapping[str, npt.NDArray[Any]]) -> float:
        """Return the median time of one run on the GPU."""


OpenRunner = Callable[
    [ModelSpec, Mapping[str, bytes], Mapping[str, Sequence[Profile]]],
    AbstractContextManager[Runner],
]
"""Takes the model's metadata, plans, and their profiles, the last two by component."""


@dataclass(frozen=True)
class Outcome:
    """What the self-test of one component found.

    Attributes:
        error: the largest of all outputs; infinite if one is not finite.
        tensor: the output that has it.
        tolerance: the largest error that is taken.
        milliseconds: median time of a run in the steady state; None if it was not measured.
    """

    error: float
    tensor: str
    tolerance: float
    milliseconds: float | None = None

    @property
    def passed(self) -> bool:
        """Whether the engine may be used."""
        return self.error <= self.tolerance


class SelfTest:
    """Runs engines on the GPU and compares them with the model; keeps what the reference gave."""

    def __init__(self, bundle: Bundle, open_runner: OpenRunner) -> None:
        """Take a model, whose components are not changed, and what runs its engines."""
        self._bundle, self._open_runner = bundle, open_runner
        self._cases: dict[bool, dict[str, list[Case]]] = {}

    def check(
        self,
        component: str,
        precision: str,
        plan: bytes,
        profiles: Sequence[Profile],
        *,
        timed: bool = False,
    ) -> Outcome:
        """Run one component in all its profiles.

        Args:
            component: its name.
            precision: of the engine.
            plan: of the engine.
            profiles: of the engine.
            timed: measure how long the last case takes, which is the steady state.

        Raises:
            EngineError: the engine cannot be loaded or fails, or the model itself is not sound.
        """
        cases = self._reference(precision)[component]
        with self._open_runner(
            self._bundle.spec, {component: plan}, {component: profiles}
        ) as runner:
            found = [
                output_error(runner.run(component, case.inputs), case.outputs) for case in cases
            ]
            took = runner.milliseconds(component, cases[-1].inputs) if timed else None
        error, tensor = max(found)
        return Outcome(error, tensor, tolerance(self._bundle.spec, precision), took)

    def _reference(self, precision: str) -> dict[str, list[Case]]:
        rounded = precision == "int8"
        if rounded not in self._cases:
            self._cases[rounded] = reference_cases(self._bundle, precision)
        return self._cases[rounded]


def tolerance(spec: ModelSpec, precision: str) -> float:
    """Return the largest error that an engine of a model may have."""
    if precision != "int8":
        return TOLERANCE
    told = spec.quantization
    is_wide = told is not None and told.activation_bits >= 8
    return TOLERANCE_8_BITS if is_wide else TOLERANCE_FEWER_BITS


def output_error(outputs: Arrays, expected: Arrays) -> tuple[float, str]:
    """Return the largest error of all outputs and the name of the one that has it.

    Raises:
        EngineError: an output is missing or of another shape.
    """
    return max((_error(outputs.get(name), expected[name], name), name) for name in expected)


def _error(output: npt.NDArray[Any] | None, expected: npt.NDArray[Any], name: str) -> float:
    if output is None or output.shape != expected.shape:
        found = "nothing" if output is None else f"{list(output.shape)}"
        raise EngineError(
            f"the engine gives {found} for {name}, but {list(expected.shape)} was expected; build "
            "it again with another version of the library"
        )
    wanted = expected.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        difference = _root_mean_square(output.astype(np.float64) - wanted)
    if not np.isfinite(difference):
        return float("inf")
    scale = _root_mean_square(wanted) if wanted.size < _FEW else float(wanted.std())
    return difference / max(scale, float(np.finfo(np.float32).tiny))


def _root_mean_square(values: npt.NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(values**2)))
