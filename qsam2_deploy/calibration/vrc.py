"""Variance-reduced calibration of weights: ridge regression onto the inputs that really occur.

For a linear layer ``Y = X W^T`` with calibration inputs X ``[n, in]`` and weights W ``[out, in]``
the paper (Q-SAM2, arXiv 2506.09782) replaces W by the solution of a ridge regression,
``W_hat^T = (X^T X + lambda I)^-1 X^T X W^T``, which shrinks W in the directions that inputs do not
use, and with it the variance that a quantizer has to cover. Biases are left alone.

One eigendecomposition ``X^T X = V diag(s) V^T`` serves every lambda:
``W_hat^T = V diag(s / (s + lambda)) V^T W^T``. Everything is float64: the condition numbers of
real layers go up to 1e30.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from ..errors import InputError

MODES = ("absolute", "noise", "target", "trace")
"""How lambda is chosen, see :func:`choose_lambda`."""

DEFAULT_LAMBDAS = {"absolute": 2.0, "noise": 1.0, "target": 0.15, "trace": 0.001}
OUTPUT_ERROR_CAP = 0.05
"""Largest relative output error that the mode ``target`` accepts."""

_BISECTIONS = 60


@dataclass(frozen=True)
class Spectrum:
    """Eigendecomposition of a Gram matrix.

    Attributes:
        values: eigenvalues, ascending and not negative, float64 ``[in]``.
        vectors: eigenvectors in the columns, float64 ``[in, in]``.
    """

    values: torch.Tensor
    vectors: torch.Tensor


@dataclass(frozen=True)
class VrcReport:
    """What the calibration did to one layer.

    Attributes:
        applied: whether the weights were changed; not if there were too few inputs to judge by,
            or if held-out inputs spoke against it.
        lam: the lambda that was chosen.
        condition_number: largest by smallest eigenvalue of ``X^T X``; infinite if singular.
        std_ratio: standard deviation of the weights, after by before.
        norm_ratio: norm of the weights, after by before.
        absmax_ratio: largest magnitude of the weights, after by before.
        output_error: ``||X (W - W_hat)^T|| / ||X W^T||`` on held-out inputs.
        weight_error_before: ``||W - quantized W|| / ||W||`` before, with MSE-optimal clips.
        weight_error_after: the same afterwards.
        std_before: standard deviation of the weights before.
        weights: number of weights.
    """

    applied: bool
    lam: float
    condition_number: float
    std_ratio: float
    norm_ratio: float
    absmax_ratio: float
    output_error: float
    weight_error_before: float
    weight_error_after: float
    std_before: float
    weights: int


def decompose(gram: torch.Tensor) -> Spectrum:
    """Return the spectrum of a Gram matrix, float64 ``[in, in]``.

    Rounding gives eigenvalues a little below zero; they are set to zero. A matrix of fewer inputs
    than features is singular, which is no error: its null space has eigenvalues 0.

    Raises:
        ValueError: the matrix holds numbers that are not finite.
    """
    if not bool(torch.isfinite(gram).all()):
        raise ValueError("the Gram matrix is not finite")
    values, vectors = torch.linalg.eigh(gram.double())
    return Spectrum(values.clamp_min(0.0), vectors)


def shrink(weight: torch.Tensor, spectrum: Spectrum, lam: float) -> torch.Tensor:
    """Return the calibrated weights, in the type and shape ``[out, in]`` of ``weight``.

    With ``lam == 0`` this is the limit, the pseudo-inverse solution: only directions that no input
    has are removed.
    """
    rotated = weight.double() @ spectrum.vectors
    calibrated = (rotated * _factors(spectrum, lam)) @ spectrum.vectors.T
    return calibrated.to(weight.dtype)


def is_empty(spectrum: Spectrum) -> bool:
    """Return whether all inputs were zero, or there were none: they say nothing about weights."""
    return not float(spectrum.values[-1]) > 0.0


def condition_number(spectrum: Spectrum) -> float:
    """Return the largest by the smallest eigenvalue; infinite for a singular matrix."""
    smallest, largest = float(spectrum.values[0]), float(spectrum.values[-1])
    return largest / smallest if smallest > 0.0 else math.inf


def relative_output_error(weight: torch.Tensor, changed: torch.Tensor, gram: torch.Tensor) -> float:
    """Return ``||X (W - W')^T|| / ||X W^T||`` (Frobenius) from ``gram = X^T X``.

    NaN if the outputs are all zero, as without inputs.
    """
    weight, changed = weight.double(), changed.double()
    signal = _output_energy(weight, gram)
    return math.sqrt(_output_energy(weight - changed, gram) / signal) if signal > 0 else math.nan


def helps_against_noise(
    weight: torch.Tensor, changed: torch.Tensor, gram: torch.Tensor, tokens: int, step: float
) -> bool:
    """Return whether ``changed`` lowers the output error that rounded inputs cause.

    Inputs with rounding noise of variance ``step^2 / 12`` give the expected squared error
    ``||X (W - W')^T||^2 + tokens * step^2 / 12 * ||W'||^2``. The ridge solution is its minimum on
    the inputs that it was made from; on others it has to show it.

    Args:
        weight: ``[out, in]`` before.
        changed: ``[out, in]`` after.
        gram: ``X^T X`` of other inputs.
        tokens: number of these inputs.
        step: step of the input's quantizer.
    """
    weight, changed = weight.double(), changed.double()
    noise = tokens * step**2 / 12.0
    before = noise * float(weight.square().sum())
    after = noise * float(changed.square().sum())
    return _output_energy(weight - changed, gram) + after <= before


def choose_lambda(
    mode: str,
    value: float,
    weight: torch.Tensor,
    spectrum: Spectrum,
    *,
    tokens: int,
    input_step: float,
    error_cap: float = OUTPUT_ERROR_CAP,
) -> float:
    """Return lambda for one layer.

    Args:
        mode: ``absolute``: lambda is ``value``. ``trace``: ``value`` times the mean eigenvalue
            ``tr(X^T X) / in``. ``noise``: ``value * n * step^2 / 12``; with ``value`` 1 that is
            the best lambda where the inputs are rounded to a step, for then every input carries
            noise of variance ``step^2 / 12``. ``target``: what lowers the standard deviation of
            the weights by the share ``value``, or as far as ``error_cap`` allows.
        value: see ``mode``.
        weight: ``[out, in]``.
        spectrum: of the inputs' Gram matrix.
        tokens: ``n``, the number of inputs behind the spectrum.
        input_step: step of the input's quantizer.
        error_cap: largest relative output error for ``target``, on the calibration inputs.

    Raises:
        InputError: no mode has this name.
    """
    if mode == "absolute":
        return value
    if mode == "trace":
        return value * float(spectrum.values.mean())
    if mode == "noise":
        return value * tokens * input_step**2 / 12.0
    if mode == "target":
        return _target_lambda(weight, spectrum, value, error_cap)
    raise InputError(f"no VRC mode is called {mode!r}; expected one of {', '.join(MODES)}")


def _factors(spectrum: Spectrum, lam: float) -> torch.Tensor:
    s = spectrum.values
    return torch.where(s > 0, s / (s + lam), torch.zeros_like(s))


def _output_energy(weight: torch.Tensor, gram: torch.Tensor) -> float:
    return max(float(((weight @ gram.double()) * weight).sum()), 0.0)


def _target_lambda(
    weight: torch.Tensor, spectrum: Spectrum, reduction: float, error_cap: float
) -> float:
    """Bisect for the largest lambda within both limits; each check costs O(in)."""
    largest = float(spectrum.values[-1])
    if largest == 0.0:
        return 0.0
    rotated = weight.double() @ spectrum.vectors
    energy = rotated.square().sum(dim=0)
    # Column sums of W and of V give the mean of the calibrated weights without forming them.
    sums = rotated.sum(dim=0) * spectrum.vectors.sum(dim=0)

    def within(lam: float) -> bool:
        f = _factors(spectrum, lam)
        variance = _variance(f.square() * energy, f * sums, weight.numel())
        before = _variance(energy, sums, weight.numel())
        lost = float((spectrum.values * (1 - f).square() * energy).sum())
        signal = float((spectrum.values * energy).sum())
        small_error = lost <= error_cap**2 * signal
        return variance >= (1 - reduction) ** 2 * before and small_error

    low, high = math.log(largest) - 80.0, math.log(largest) + 20.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if within(math.exp(middle)) else (low, middle)
    return math.exp(low)


def _variance(energy: torch.Tensor, sums: torch.Tensor, count: int) -> float:
    return float(energy.sum()) / count - (float(sums.sum()) / count) ** 2
