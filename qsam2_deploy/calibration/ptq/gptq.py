"""GPTQ: rounding one column after another, the others making up for its error.

E. Frantar, S. Ashkboos, T. Hoefler, D. Alistarh: "GPTQ: Accurate Post-Training Quantization for
Generative Pre-trained Transformers", ICLR 2023, arXiv 2210.17323, section 3. For a linear layer
with inputs X ``[n, in]``, whose Gram matrix ``G = X^T X`` is half the Hessian of
``||X (W - Q)^T||^2``, column j is rounded and the error that this makes is spread over the columns
which are still to come, ``W[:, k] -= (w_j - q_j) / U[j, j] * U[j, k]``, with U the upper Cholesky
factor of ``G^-1``.
"""

from __future__ import annotations

import torch

from ...quant.quantizers.grid import Grid, dequantize, quantize

_BLOCK = 128


def gptq(
    weight: torch.Tensor,
    gram: torch.Tensor,
    scale: torch.Tensor,
    grid: Grid,
    *,
    damping: float = 0.01,
    act_order: bool = True,
) -> torch.Tensor:
    """Return weights on the grid whose outputs are close to those of ``weight``.

    Args:
        weight: ``[out, in]``.
        gram: ``X^T X``, ``[in, in]``; inputs that are always zero have plain rounding.
        scale: step of every output, positive float32 ``[out]``, or of all, ``[1]``.
        grid: the codes; symmetric or mid-rise.
        damping: added to the diagonal in units of its mean; it is raised tenfold where the
            matrix is still not positive definite.
        act_order: take the columns with the largest inputs first (a later addition of the authors,
            "desc_act"), while the most columns are left to make up for their errors.

    Returns:
        float32 ``[out, in]``, each value a level times its step: quantizing it again changes
        nothing.

    Raises:
        ValueError: the Gram matrix holds numbers that are not finite.
    """
    gram = gram.double().clone()
    if not bool(torch.isfinite(gram).all()):
        raise ValueError("the Gram matrix is not finite")
    used = gram.diagonal() > 0
    gram.diagonal()[~used] = gram.diagonal()[used].mean() if bool(used.any()) else 1.0
    order = (
        gram.diagonal().argsort(descending=True, stable=True)
        if act_order
        else torch.arange(len(gram), device=gram.device)
    )
    factor = _inverse_factor(gram[order][:, order], damping)
    rounded = _round_columns(weight.double()[:, order], factor, scale, grid)
    return rounded[:, order.argsort()]


def _inverse_factor(gram: torch.Tensor, damping: float) -> torch.Tensor:
    """Return the upper Cholesky factor of the inverse of the damped ``gram``."""
    mean = float(gram.diagonal().mean())
    identity = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    while True:
        lower, failed = torch.linalg.cholesky_ex(gram + damping * mean * identity)
        if not int(failed):
            upper, failed = torch.linalg.cholesky_ex(torch.cholesky_inverse(lower), upper=True)
        if not int(failed):
            found: torch.Tensor = upper
            return found
        damping *= 10.0


def _round_columns(
    weight: torch.Tensor, factor: torch.Tensor, scale: torch.Tensor, grid: Grid
) -> torch.Tensor:
    """Round the columns of ``weight`` (overwritten) from left to right; float32."""
    result = torch.empty_like(weight, dtype=torch.float32)
    for first in range(0, weight.shape[1], _BLOCK):
        last = min(first + _BLOCK, weight.shape[1])
        errors = torch.empty_like(weight[:, first:last])
        for j in range(first, last):
            column = weight[:, j].float()
            result[:, j] = dequantize(quantize(column, scale, grid), scale)
            errors[:, j - first] = (weight[:, j] - result[:, j]) / factor[j, j]
            # Within the block at once, beyond it once per block: one product instead of many.
            weight[:, j:last] -= errors[:, j - first, None] * factor[j, j:last]
        weight[:, last:] -= errors @ factor[first:last, last:]
    return result
