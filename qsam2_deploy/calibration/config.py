"""Settings of the calibration."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..errors import InputError
from ..quant.layers.attention import ATTENTION_KINDS, FLOAT_ATTENTION, product_plan
from ..quant.layers.layer_plan import PER_CHANNEL, LayerPlan, QuantizerPlan, check_choice
from ..quant.layers.modules import ENCODER_SCOPE, SCOPES
from ..quant.quantizers.quantizer import quantizer_class, quantizer_names
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
        method: name of the quantizer; or two names, of that of weights and that of inputs, such as
            ``sawb,lsc``. See ``LayerPlan`` of ``quant/layers`` for what a single
            name stands for.
        weight_grid: ``symmetric`` or ``midrise``, or None for the method's own.
        activation_grid: ``symmetric`` or ``affine``, likewise.
        granularity: ``channel`` or ``tensor``: what has a step of its own in a weight.
        options: settings of the quantizers by name, such as ``("momentum", 0.95)``; each goes to
            those of the two that have it.
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
    weight_grid: str | None = None
    activation_grid: str | None = None
    granularity: str = PER_CHANNEL
    options: tuple[tuple[str, float | bool | str], ...] = ()
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
        self._check_quantizers()
        check_choice("scope", self.scope, SCOPES)
        check_choice("attention", self.attention, ATTENTION_KINDS)
        check_choice("VRC mode", self.vrc, (*vrc.MODES, NO_VRC))
        check_choice("scope of VRC", self.vrc_scope, SCOPES)
        if self.ptq is not None:
            check_choice("PTQ method", self.ptq, ptq_names())
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

    def _check_quantizers(self) -> None:
        """Make both quantizers once, which checks their grids and options."""
        for name in self.method.split(",", 1):
            check_choice("quantizer", name, quantizer_names())
        settings = self.quantizer_settings
        for name, _ in self.options:
            if name not in {**settings["weight_options"], **settings["input_options"]}:
                raise InputError(f"the quantizer {self.method} has no option {name!r}")
        plan = LayerPlan(self.weight_bits, self.activation_bits, **settings)
        plan.weight.make(channels=1)
        plan.inputs.make()
        self.product_plan.make()

    @property
    def weight_bits(self) -> int:
        """Width of weight codes."""
        return parse_bits(self.bits)[0]

    @property
    def activation_bits(self) -> int:
        """Width of activation codes."""
        return parse_bits(self.bits)[1]

    @property
    def quantizer_settings(self) -> dict[str, Any]:
        """Arguments of ``LayerPlan`` (``quant/layers/layer_plan.py``) beside the widths."""
        weight, _, inputs = self.method.partition(",")
        settings: dict[str, Any] = {
            "method": weight,
            "input_method": inputs or None,
            "weight_grid": self.weight_grid,
            "input_grid": self.activation_grid,
            "granularity": self.granularity,
        }
        plan = LayerPlan(self.weight_bits, self.activation_bits, **settings)
        for part, method in (("weight", plan.weight.method), ("input", plan.inputs.method)):
            known = quantizer_class(method).option_names
            settings[f"{part}_options"] = {k: v for k, v in self.options if k in known}
        return settings

    @property
    def product_plan(self) -> QuantizerPlan:
        """The quantizer of queries, keys and values: the one of activations, on their own grid."""
        plan = LayerPlan(self.weight_bits, self.activation_bits, **self.quantizer_settings)
        return product_plan(plan.inputs.method, plan.inputs.options)

    @property
    def uses_half(self) -> bool:
        """Whether what is not quantized is rounded to half precision."""
        return self.scope != ENCODER_SCOPE if self.half is None else self.half

    @property
    def lambda_value(self) -> float:
        """The number that belongs to the VRC mode; 0 without VRC."""
        default = vrc.DEFAULT_LAMBDAS.get(self.vrc, 0.0)
        return default if self.vrc_lambda is None else self.vrc_lambda
