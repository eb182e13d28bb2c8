"""Settings of the post-training methods."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from ...errors import InputError

_WORDS = {"true": True, "yes": True, "false": False, "no": False}


@dataclass(frozen=True)
class PtqOptions:
    """Settings of the post-training methods; each reads what concerns it.

    Attributes:
        percentile: ``percentile``: share of the magnitudes that are not clipped, percent.
        damping: ``gptq``: added to the diagonal of the Gram matrix, in units of its mean.
        act_order: ``gptq``: round the columns with the largest inputs first.
        iterations: ``brecq``, ``qdrop``: steps of each optimisation of a block.
        batch: ``brecq``, ``qdrop``: images per step.
        rounding_rate: ``brecq``, ``qdrop``: learning rate of the rounding.
        step_rate: ``brecq``, ``qdrop``: learning rate of the logarithm of the activation steps.
        drop: ``qdrop``: probability that an activation is left unquantized.
        seed: of everything that is random.
    """

    percentile: float = 99.9
    damping: float = 0.01
    act_order: bool = True
    iterations: int = 500
    batch: int = 1
    rounding_rate: float = 0.03
    step_rate: float = 0.001
    drop: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            InputError: an option is outside of its range.
        """
        _check("percentile", 50.0 < self.percentile <= 100.0, "above 50 and at most 100", self)
        _check("damping", 0.0 < self.damping < math.inf, "positive", self)
        _check("iterations", self.iterations >= 1, "at least 1", self)
        _check("batch", self.batch >= 1, "at least 1", self)
        _check("rounding_rate", 0.0 < self.rounding_rate < math.inf, "positive", self)
        _check("step_rate", 0.0 < self.step_rate < math.inf, "positive", self)
        _check("drop", 0.0 <= self.drop < 1.0, "at least 0 and below 1", self)
        _check("seed", 0 <= self.seed < 2**63, "at least 0", self)


def parse_ptq_options(texts: Sequence[str]) -> PtqOptions:
    """Return the options of texts such as ``iterations=200``; the others keep their defaults.

    Raises:
        InputError: no option has this name, or its value is of another kind or out of range.
    """
    kinds = {field.name: type(field.default) for field in fields(PtqOptions)}
    values: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or name not in kinds:
            raise InputError(
                f"a PTQ option has the form name=value with one of {', '.join(sorted(kinds))}, but "
                f"got {text!r}"
            )
        values[name] = _parse(name, kinds[name], value)
    return PtqOptions(**values)


def _parse(name: str, kind: type, value: str) -> object:
    try:
        return _WORDS[value.lower()] if kind is bool else kind(value)
    except (KeyError, ValueError) as error:
        expected = {bool: "yes or no", int: "a whole number", float: "a number"}[kind]
        raise InputError(f"the PTQ option {name} must be {expected}, but got {value!r}") from error


def _check(name: str, valid: bool, expected: str, options: PtqOptions) -> None:
    if not valid:
        raise InputError(
            f"the PTQ option {name} must be {expected}, but got {getattr(options, name)}"
        )
