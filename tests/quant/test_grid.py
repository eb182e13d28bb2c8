"""The integer grid: values on it, rounding, and gradients."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qsam2_deploy.errors import InputError
from qsam2_deploy.quant.quantizers.grid import (
    AFFINE,
    GRIDS,
    MIDRISE,
    SYMMETRIC,
    Grid,
    dequantize,
    fake_quantize,
    quantize,
)

bits = st.integers(2, 8)
scales = st.floats(2.0**-13, 128.0, width=32)
values = st.lists(st.floats(-8192.0, 8192.0, width=32), min_size=1, max_size=30)


@pytest.mark.parametrize(("width", "qmin", "qmax"), [(2, -2, 1), (4, -8, 7), (8, -128, 127)])
def test_levels(width, qmin, qmax):
    assert (Grid(width).qmin, Grid(width).qmax) == (qmin, qmax)


@pytest.mark.parametrize("width", [-1, 0, 1, 9])
def test_impossible_widths(width):
    with pytest.raises(InputError, match=f"2 to 8 bits, but got {width}"):
        Grid(width)


@st.composite
def grids(draw: st.DrawFn) -> tuple[Grid, torch.Tensor | None]:
    """Draw a grid and, if it is affine, a zero-point."""
    kind = draw(st.sampled_from(GRIDS))
    grid = Grid(draw(st.integers(2, 7 if kind == MIDRISE else 8)), kind)
    if kind != AFFINE:
        return grid, None
    return grid, torch.tensor(float(draw(st.integers(grid.qmin, grid.qmax))))


def test_impossible_kinds():
    with pytest.raises(InputError, match="one of symmetric, affine, midrise, but got 'log'"):
        Grid(4, "log")
    with pytest.raises(InputError, match="at most 7 bits, but got 8; use the symmetric one"):
        Grid(8, MIDRISE)


@pytest.mark.parametrize(
    ("kind", "levels", "clip_steps"),
    [(SYMMETRIC, [-2, -1, 0, 1], 1), (MIDRISE, [-1.5, -0.5, 0.5, 1.5], 1.5), (AFFINE, None, 3)],
)
def test_all_levels_of_two_bits(kind, levels, clip_steps):
    grid, x = Grid(2, kind), torch.linspace(-9, 9, 181)
    assert grid.clip_steps == clip_steps
    for zero in range(-2, 2) if kind == AFFINE else [None]:
        zero_point = None if zero is None else torch.tensor(float(zero))
        found = quantize(x, torch.tensor(1.0), grid, zero_point)
        wanted = [q - zero for q in range(-2, 2)] if zero is not None else levels
        assert found.unique().tolist() == wanted
        assert grid.codes(found, zero_point).unique().tolist() == [-2, -1, 0, 1]


@settings(deadline=None, max_examples=80)
@given(grids(), scales, values)
def test_results_are_on_the_grid_and_stay_there(drawn, scale, numbers):
    (grid, zero_point), step = drawn, torch.tensor(scale)
    x = torch.tensor(numbers)
    levels = quantize(x, step, grid, zero_point)
    codes = grid.codes(levels, zero_point)
    assert torch.equal(codes, codes.round())
    assert grid.qmin <= codes.min()
    assert codes.max() <= grid.qmax
    once = fake_quantize(x, step, grid, zero_point)
    assert torch.equal(once, dequantize(levels, step))
    assert torch.equal(fake_quantize(once, step, grid, zero_point), once)


@settings(deadline=None, max_examples=80)
@given(grids(), scales, values)
def test_rounding_error_is_half_a_step_inside(drawn, scale, numbers):
    grid, zero_point = drawn
    low, high = (float(limit) * scale for limit in grid.limits(zero_point))
    inside = torch.tensor(numbers).clamp(low, high)
    error = (fake_quantize(inside, torch.tensor(scale), grid, zero_point) - inside).abs()
    assert (error <= 0.5001 * scale).all()


@settings(deadline=None, max_examples=80)
@given(grids(), st.floats(0.05, 4.0), st.booleans(), st.integers(0, 2**16))
def test_gradients_equal_those_of_naive_autograd(drawn, scale, rounding, seed):
    """The formula as one would write it, with a rounding that lets gradients pass."""
    grid, zero = drawn
    generator = torch.Generator().manual_seed(seed)
    x = 4 * torch.randn(200, generator=generator, dtype=torch.float64)
    upstream = torch.randn(200, generator=generator, dtype=torch.float64)

    def leaves() -> list[torch.Tensor]:
        numbers = [x, torch.tensor(scale).double()]
        numbers += [] if zero is None else [zero.double()]
        return [number.clone().requires_grad_() for number in numbers]

    ours = leaves()
    fake_quantize(*ours[:2], grid, *ours[2:], rounding_gradient=rounding).backward(upstream)

    naive = leaves()
    low, high = grid.limits(*naive[2:])
    # Without a gradient from rounding, only what is clipped knows the step.
    v = naive[0] / naive[1]
    clipped = torch.minimum(torch.maximum(v, torch.as_tensor(low)), torch.as_tensor(high))
    error = (grid.nearest(clipped.detach().clone()) - clipped).detach()
    step = naive[1] if rounding else naive[1].detach()
    value = clipped * naive[1] + error * step
    value.backward(upstream)
    for found, expected in zip(ours, naive, strict=True):
        torch.testing.assert_close(found.grad, expected.grad, rtol=1e-6, atol=1e-6)


def test_zero_points_are_those_of_onnx():
    """Halves round to even before the zero-point is added."""
    x = torch.tensor([-0.5, 0.5, 1.5, 2.5, 200.0, -200.0])
    grid, zero_point = Grid(8, AFFINE), torch.tensor(3.0)
    codes = grid.codes(quantize(x, torch.tensor(1.0), grid, zero_point), zero_point)
    assert codes.tolist() == [3, 3, 5, 5, 127, -128]


def test_halves_round_to_even():
    x = torch.tensor([-1.5, -0.5, 0.5, 1.5, 2.5])
    assert quantize(x, torch.tensor(1.0), Grid(8)).tolist() == [-2, 0, 0, 2, 2]


def test_gradients_equal_the_naive_formula():
    grid, generator = Grid(3), torch.Generator().manual_seed(0)
    x = (3 * torch.randn(5, 40, generator=generator)).requires_grad_()
    scale = torch.tensor([0.1, 0.3, 0.5, 1.0, 3.0]).requires_grad_()
    upstream = torch.randn(5, 40, generator=generator)
    fake_quantize(x, scale[:, None], grid).backward(upstream)

    v = x.detach().numpy() / scale.detach().numpy()[:, None]
    inside = (v >= grid.qmin) & (v <= grid.qmax)
    assert 0.2 < inside.mean() < 0.9
    level = np.where(v < 0, grid.qmin, grid.qmax)
    d_scale = np.where(inside, np.round(v) - v, level)
    np.testing.assert_array_equal(x.grad.numpy(), upstream.numpy() * inside)
    expected = (upstream.numpy() * d_scale).sum(axis=1)
    np.testing.assert_allclose(scale.grad.numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("width", [2, 8])
def test_two_bytes_per_value_of_large_tensors_are_kept_for_the_backward_pass(width):
    torch.manual_seed(width)
    x, kept = (torch.randn(100_000) * 100).requires_grad_(), []
    scale = torch.tensor(0.5, requires_grad=True)

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y = fake_quantize(x * 1.0, scale, Grid(width))
    sizes = [tensor.numel() * tensor.element_size() for tensor in kept if tensor.numel() > 1]
    assert sizes == [200_000]
    y.sum().backward()
    # The marks of clipped values are told from rounding errors at every width.
    inside = (x.detach() >= 0.5 * Grid(width).qmin) & (x.detach() <= 0.5 * Grid(width).qmax)
    assert 0 < inside.sum() < 100_000
    assert torch.equal(x.grad, inside.float())
    v = x.detach().double() / 0.5
    level = torch.where(v < 0, Grid(width).qmin, Grid(width).qmax)
    wanted = torch.where(inside, v.round() - v, level).sum()
    assert float(scale.grad) == pytest.approx(float(wanted), rel=1e-3, abs=1.0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_is_quantized_in_float32(dtype):
    x, scale = (torch.randn(2000) * 5).to(dtype), torch.tensor(0.037)
    wanted = fake_quantize(x.float(), scale, Grid(8)).to(dtype)
    naive = torch.round(x / scale).clamp(-128, 127) * scale
    assert not torch.equal(naive.to(dtype), wanted)  # what bfloat16 alone would give
    for grads in (False, True):
        found = fake_quantize(x.clone().requires_grad_(grads), scale, Grid(8))
        assert found.dtype == dtype
        assert torch.equal(found.detach(), wanted)


def test_the_value_does_not_depend_on_gradients():
    x, scale = torch.randn(100), torch.tensor(0.2)
    without = fake_quantize(x, scale, Grid(4))
    assert torch.equal(fake_quantize(x.requires_grad_(), scale, Grid(4)).detach(), without)
