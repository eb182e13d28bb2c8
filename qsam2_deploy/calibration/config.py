"""Settings of the calibration."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..errors import InputError
from ..quant.attention import ATTENTION_KINDS, FLOAT_ATTENTION
from ..quant.modules import ENCODER_SCOPE, SCOPES
from ..quant.quantizer import quantizer_names
from . import vrc
from .data import DEFAULT_LIMIT
from .plan import Overrides, check_overrides, check_width, parse_bits
from .ptq import PtqOptions, ptq_names

NO_VRC = "none"


@dataclass(frozen=True)
class CalibrationConfig:
    """How a float checkpoint becomes a quantized one.

    Attributes:
        bits: widths of weights and activations, such as ``w8a8`` or ``w4a8``, each 2 to 8.
        scope: ``encoder``, all linear layers of the image encoder, or ``all``, every linear layer
            and convolution of the model.
        first_last_bits: widths of the first and the last layers, or None for ``bits``. In the
            encoder these are the first and the last that run, in the whole model
            :data:`~qsam2_deploy.calibration.plan.EDGES`.
        plan: widths of single layers by pattern, such as ``("memory_encoder.*", "w8a8")``.
        attention: ``int8`` quantizes the attention products of the image encoder and the memory
            attention as well, whatever the scope; ``float`` leaves them.
        half: round the steps, and all numbers of the model that are not quantized, to half
            precision, which halves their share of the file; None: in the scope ``all``.
        method: name of the quantizer.
        vrc: how lambda is chosen, or ``none``. The default, ``noise``, has nothing to be tuned
            and grows with the quantization error of the inputs, so that it cannot hurt 8 bits.
        vrc_lambda: the mode's number, or None for its default.
        vrc_scope: whose linear layers VRC is for: those of the ``encoder``, as in its paper, or
            ``all`` that are quantized. Outside of the encoder a layer changes only if held-out
            images confirm it.
        vrc_tokens: tokens that enter a Gram matrix each time a layer runs, or None for all.
        ptq: name of the post-training method; None: the start that belongs to the quantizer.
        ptq_options: its settings.
        limit: most calibration images to use.
        memory_budget: bytes of Gram matrices to hold at once; more takes more passes.
    """

    bits: str = "w8a8"
    scope: str = "encoder"
    first_last_bits: int | None = 8
    plan: Overrides = ()
    attention: str = FLOAT_ATTENTION
    half: bool | None = None
    method: str = "lsc"
    vrc: str = "noise"
    vrc_lambda: float | None = None
    vrc_scope: str = ENCODER_SCOPE
    vrc_tokens: int | None = None
    ptq: str | None = None
    ptq_options: PtqOptions = field(default_factory=PtqOptions)
    limit: int = DEFAULT_LIMIT
    memory_budget: int = 2 << 30

    def __post_init__(self) -> None:
        """Check everything that does not need the model.

        Raises:
            InputError: a setting is not among the ones above.
        """
        parse_bits(self.bits)
        if self.first_last_bits is not None:
            check_width(self.first_last_bits)
        check_overrides(self.plan)
        _check_choice("quantizer", self.method, quantizer_names())
        _check_choice("scope", self.scope, SCOPES)
        _check_choice("attention", self.attention, ATTENTION_KINDS)
        _check_choice("VRC mode", self.vrc, (*vrc.MODES, NO_VRC))
        _check_choice("scope of VRC", self.vrc_scope, SCOPES)
        if self.ptq is not None:
            _check_choice("PTQ method", self.ptq, ptq_names())
        self._check_numbers()

    def _check_numbers(self) -> None:
        value = self.lambda_value
        if not 0.0 <= value < float("inf"):
            raise InputError(f"the VRC lambda must be finite and not negative, but got {value}")
        if self.vrc == "target" and value >= 1.0:
            raise InputError(f"the VRC lambda of mode 'target' is a share below 1, but got {value}")
        if self.vrc_tokens is not None and self.vrc_tokens < 1:
            raise InputError(
                f"the number of tokens of VRC must be at least 1, but got {self.vrc_tokens}"
            )
        if self.limit < 1:
            raise InputError(
                f"the number of calibration images must be at least 1, but got {self.limit}"
            )

    @property
    def weight_bits(self) -> int:
        """Width of weight codes."""
        return parse_bits(self.bits)[0]

    @property
    def activation_bits(self) -> int:
        """Width of activation codes."""
        return parse_bits(self.bits)[1]

    @property
    def uses_half(self) -> bool:
        """Whether what is not quantized is rounded to half precision."""
        return self.scope != ENCODER_SCOPE if self.half is None else self.half

    @property
    def lambda_value(self) -> float:
        """The number that belongs to the VRC mode; 0 without VRC."""
        default = vrc.DEFAULT_LAMBDAS.get(self.vrc, 0.0)
        return default if self.vrc_lambda is None else self.vrc_lambda


def _check_choice(what: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InputError(f"the {what} must be one of {', '.join(choices)}, but got {value!r}")
