"""The ridge solution, its limits, and what the reports say about it."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qsam2_deploy.calibration import vrc
from qsam2_deploy.errors import InputError


def _problem(seed: int = 0, n: int = 300) -> tuple[torch.Tensor, torch.Tensor]:
    """Return inputs ``[n, 12]`` of decaying variance and weights ``[5, 12]``."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 12, generator=generator, dtype=torch.float64)
    x = x * torch.logspace(0, -3, 12, dtype=torch.float64)
    return x, torch.randn(5, 12, generator=generator)


@pytest.mark.parametrize("lam", [1e-6, 1e-2, 1.0, 1e4])
def test_shrinking_solves_the_ridge_regression(lam):
    x, weight = _problem()
    found = vrc.shrink(weight, vrc.decompose(x.T @ x), lam)
    # The ridge regression as stacked least squares, without any Gram matrix.
    stacked = np.vstack([x.numpy(), math.sqrt(lam) * np.eye(12)])
    targets = np.vstack([x.numpy() @ weight.double().numpy().T, np.zeros((12, 5))])
    expected = np.linalg.lstsq(stacked, targets, rcond=None)[0].T
    assert found.dtype == weight.dtype
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_lambda_zero_changes_nothing_that_inputs_use():
    x, weight = _problem()
    spectrum = vrc.decompose(x.T @ x)
    torch.testing.assert_close(vrc.shrink(weight, spectrum, 0.0), weight, atol=1e-5, rtol=0)


def test_lambda_zero_is_the_pseudo_inverse_of_singular_inputs():
    x, weight = _problem()
    x[:, 6:] = 0
    spectrum = vrc.decompose(x.T @ x)
    found = vrc.shrink(weight, spectrum, 0.0)
    torch.testing.assert_close(found[:, :6], weight[:, :6], atol=1e-5, rtol=0)
    assert not found[:, 6:].any()
    assert math.isinf(vrc.condition_number(spectrum))


def test_a_matrix_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="not finite"):
        vrc.decompose(torch.full((2, 2), torch.nan))


def test_inputs_that_are_all_zero_are_empty():
    assert vrc.is_empty(vrc.decompose(torch.zeros(3, 3)))
    assert not vrc.is_empty(vrc.decompose(torch.diag(torch.tensor([0.0, 0.0, 1e-30]))))


def test_rounding_below_zero_is_clamped():
    gram = torch.diag(torch.tensor([1.0, -1e-18], dtype=torch.float64))
    spectrum = vrc.decompose(gram)
    assert (spectrum.values >= 0).all()
    assert torch.isfinite(vrc.shrink(torch.ones(1, 2), spectrum, 0.0)).all()


def test_the_condition_number():
    gram = torch.diag(torch.tensor([4.0, 0.5, 2.0]))
    assert vrc.condition_number(vrc.decompose(gram)) == pytest.approx(8.0)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1000), st.floats(-8, 4), st.floats(0.1, 4))
def test_more_lambda_means_less_norm_and_more_error(seed, exponent, more):
    x, weight = _problem(seed)
    weight = weight.double()
    gram = x.T @ x
    spectrum = vrc.decompose(gram)
    low = vrc.shrink(weight, spectrum, 10**exponent)
    high = vrc.shrink(weight, spectrum, 10 ** (exponent + more))
    assert high.norm() < low.norm() < weight.norm()
    low_error, high_error = (vrc.relative_output_error(weight, w, gram) for w in (low, high))
    assert low_error < high_error


def test_the_output_error_is_that_of_the_outputs():
    x, weight = _problem()
    changed = weight + 0.1 * torch.randn(5, 12)
    expected = (x @ (weight - changed).double().T).norm() / (x @ weight.double().T).norm()
    found = vrc.relative_output_error(weight, changed, x.T @ x)
    assert found == pytest.approx(float(expected), rel=1e-9)
    assert math.isnan(vrc.relative_output_error(weight, changed, torch.zeros(12, 12)))


def _lambda(mode: str, value: float, **options: float) -> float:
    x, weight = _problem()
    spectrum = vrc.decompose(x.T @ x)
    return vrc.choose_lambda(mode, value, weight, spectrum, tokens=300, input_step=0.25, **options)


def test_simple_modes():
    x, _ = _problem()
    assert _lambda("absolute", 3.0) == 3.0
    assert _lambda("trace", 0.01) == pytest.approx(0.01 * float(x.square().sum()) / 12)
    assert _lambda("noise", 2.0) == pytest.approx(2 * 300 * 0.25**2 / 12)
    with pytest.raises(InputError, match="no VRC mode is called 'magic'"):
        _lambda("magic", 1.0)


@pytest.mark.parametrize("reduction", [0.1, 0.4, 0.6])
def test_target_reaches_the_wanted_reduction(reduction):
    x, weight = _problem()
    lam = _lambda("target", reduction, error_cap=1.0)
    changed = vrc.shrink(weight, vrc.decompose(x.T @ x), lam)
    assert float(changed.std() / weight.std()) == pytest.approx(1 - reduction, abs=0.01)


def test_target_stops_at_the_error_cap():
    x, weight = _problem()
    lam = _lambda("target", 0.9, error_cap=0.02)
    changed = vrc.shrink(weight, vrc.decompose(x.T @ x), lam)
    error = vrc.relative_output_error(weight, changed, x.T @ x)
    assert error == pytest.approx(0.02, rel=0.01)


def test_target_without_inputs_changes_nothing_by_force():
    spectrum = vrc.decompose(torch.zeros(12, 12))
    lam = vrc.choose_lambda("target", 0.5, torch.ones(5, 12), spectrum, tokens=0, input_step=0.0)
    assert lam == 0.0


def test_noise_minimises_the_error_that_rounding_causes():
    x, weight = _problem()
    gram, step = x.T @ x, 0.5
    spectrum = vrc.decompose(gram)

    def error(factor: float) -> float:
        lam = factor * 300 * step**2 / 12
        changed = vrc.shrink(weight.double(), spectrum, lam)
        bias = (x @ (weight - changed).T).square().sum()
        return float(bias + 300 * step**2 / 12 * changed.square().sum())

    assert error(1.0) < error(0.8)
    assert error(1.0) < error(1.25)
    best = vrc.shrink(weight, spectrum, 300 * step**2 / 12)
    assert vrc.helps_against_noise(weight, best, gram, 300, step)
    other, _ = _problem(1)
    wild = other.flip(1) * 10  # large where the calibration inputs are small
    assert not vrc.helps_against_noise(weight, best, wild.T @ wild, 300, step)
