"""Settings of the calibration."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import InputError
from ..quant import lsc, minmax  # noqa: F401  (they register themselves)
from ..quant.grid import MAX_BITS, MIN_BITS
from ..quant.quantizer import quantizer_names
from . import vrc
from .data import DEFAULT_LIMIT

SCOPES = ("encoder",)
NO_VRC = "none"
_BITS = re.compile(r"w([0-9]+)a([0-9]+)")


@dataclass(frozen=True)
class CalibrationConfig:
    """How a float checkpoint becomes a quantized one.

    Attributes:
        bits: widths of weights and activations, such as ``w8a8`` or ``w4a8``, each 2 to 8.
        scope: ``encoder``, all linear layers of the image encoder.
        first_last_bits: widths of the first and the last layer that runs, or None for ``bits``.
        method: name of the quantizer.
        vrc: how lambda is chosen, or ``none``. The default, ``noise``, has nothing to be tuned
            and grows with the quantization error of the inputs, so that it cannot hurt 8 bits.
        vrc_lambda: the mode's number, or None for its default.
        limit: most calibration images to use.
        memory_budget: bytes of Gram matrices to hold at once; more takes more passes.
    """

    bits: str = "w8a8"
    scope: str = "encoder"
    first_last_bits: int | None = 8
    method: str = "lsc"
    vrc: str = "noise"
    vrc_lambda: float | None = None
    limit: int = DEFAULT_LIMIT
    memory_budget: int = 2 << 30

    def __post_init__(self) -> None:
        """Check everything that does not need the model.

        Raises:
            InputError: a setting is not among the ones above.
        """
        for bits in (*self._widths(), self.first_last_bits or MAX_BITS):
            if not MIN_BITS <= bits <= MAX_BITS:
                raise InputError(
                    f"weights and activations must have {MIN_BITS} to {MAX_BITS} bits, but got "
                    f"{bits}"
                )
        _check_choice("quantizer", self.method, quantizer_names())
        _check_choice("scope", self.scope, SCOPES)
        _check_choice("VRC mode", self.vrc, (*vrc.MODES, NO_VRC))
        value = self.lambda_value
        if not 0.0 <= value < float("inf"):
            raise InputError(f"the VRC lambda must be finite and not negative, but got {value}")
        if self.vrc == "target" and value >= 1.0:
            raise InputError(f"the VRC lambda of mode 'target' is a share below 1, but got {value}")
        if self.limit < 1:
            raise InputError(
                f"the number of calibration images must be at least 1, but got {self.limit}"
            )

    @property
    def weight_bits(self) -> int:
        """Width of weight codes."""
        return self._widths()[0]

    @property
    def activation_bits(self) -> int:
        """Width of activation codes."""
        return self._widths()[1]

    @property
    def lambda_value(self) -> float:
        """The number that belongs to the VRC mode; 0 without VRC."""
        default = vrc.DEFAULT_LAMBDAS.get(self.vrc, 0.0)
        return default if self.vrc_lambda is None else self.vrc_lambda

    def _widths(self) -> tuple[int, int]:
        match = _BITS.fullmatch(self.bits.lower())
        if match is None:
            raise InputError(
                "the bits must be given as w<weight bits>a<activation bits>, such as w8a8, but "
                f"got {self.bits!r}"
            )
        return int(match[1]), int(match[2])


def _check_choice(what: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InputError(f"the {what} must be one of {', '.join(choices)}, but got {value!r}")
