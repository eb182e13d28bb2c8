"""GPTQ loses less output than rounding, stays on the grid, and survives any Gram matrix."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from qsam2_deploy.calibration.clip import weight_clip
from qsam2_deploy.calibration.ptq.gptq import gptq
from qsam2_deploy.calibration.vrc import relative_output_error
from qsam2_deploy.quant.quantizers.grid import MIDRISE, SYMMETRIC, Grid, fake_quantize
from tests.calibration.ptq.conftest import WIDTH


def _problem(correlated: Callable[[int], torch.Tensor], grid: Grid) -> tuple[torch.Tensor, ...]:
    weight = torch.randn(10, WIDTH, generator=torch.Generator().manual_seed(3))
    x = torch.cat([correlated(seed) for seed in range(4)]).double()
    return weight, x.T @ x, weight_clip(weight, grid) / grid.clip_steps


@pytest.mark.parametrize("kind", [SYMMETRIC, MIDRISE])
@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("act_order", [False, True])
def test_correlated_inputs_lose_less_than_by_rounding(correlated, bits, act_order, kind):
    grid = Grid(bits, kind)
    weight, gram, scale = _problem(correlated, grid)
    found = gptq(weight, gram, scale, grid, act_order=act_order)
    rounded = fake_quantize(weight, scale[:, None], grid)
    assert torch.equal(fake_quantize(found, scale[:, None], grid), found)
    error, plain = (relative_output_error(weight, w, gram) for w in (found, rounded))
    assert error < 0.85 * plain


def test_columns_are_rounded_as_the_paper_says(correlated):
    """Against the plain algorithm: the inverse Hessian, one column removed after another."""
    weight, gram, scale = _problem(correlated, Grid(3))
    hessian = gram + 0.01 * gram.diagonal().mean() * torch.eye(WIDTH, dtype=torch.float64)
    inverse = np.linalg.inv(hessian.numpy())
    w, expected = weight.double().numpy().copy(), np.zeros((10, WIDTH))
    steps = scale.double().numpy()
    for j in range(WIDTH):
        expected[:, j] = np.clip(np.round(w[:, j] / steps), -4, 3) * steps
        error = (w[:, j] - expected[:, j]) / inverse[j, j]
        w -= error[:, None] * inverse[j]
        inverse -= np.outer(inverse[:, j], inverse[j]) / inverse[j, j]
    found = gptq(weight, gram, scale, Grid(3), act_order=False)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_many_columns_take_the_same_way_in_blocks():
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(3, 300, generator=generator)
    x = torch.randn(400, 300, generator=generator, dtype=torch.float64).cumsum(1)
    scale = weight_clip(weight, Grid(3)) / 3
    found = gptq(weight, x.T @ x, scale, Grid(3))
    rounded = fake_quantize(weight, scale[:, None], Grid(3))
    error, plain = (relative_output_error(weight, w, x.T @ x) for w in (found, rounded))
    assert error < 0.5 * plain


def test_inputs_that_say_nothing_leave_plain_rounding():
    weight = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    scale = weight_clip(weight, Grid(4)) / 7
    rounded = fake_quantize(weight, scale[:, None], Grid(4))
    assert torch.equal(gptq(weight, torch.zeros(6, 6), scale, Grid(4)), rounded)
    diagonal = torch.diag(torch.tensor([1.0, 0.0, 2.0, 0.0, 3.0, 4.0]))
    assert torch.equal(gptq(weight, diagonal, scale, Grid(4)), rounded)


def test_a_singular_matrix_is_damped_and_an_infinite_one_refused():
    weight = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    scale = weight_clip(weight, Grid(4)) / 7
    x = torch.randn(1, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = gptq(weight, x.T @ x * 1e20, scale, Grid(4), damping=1e-30)
    assert torch.isfinite(found).all()
    with pytest.raises(ValueError, match="not finite"):
        gptq(weight, torch.full((6, 6), torch.inf), scale, Grid(4))
