"""The integer attention product against its definition in whole numbers, and its gradients."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from qsam2_deploy.quant.layers.attention_product import AttentionProduct, probability_codes
from tests.support.attention_products import Shape, make_product

SHAPES = [Shape(40, 60), Shape(300, 50, heads=3), Shape(8, 2000, width=256)]


def codes(x: torch.Tensor, step: torch.Tensor) -> np.ndarray:
    return np.clip(np.rint(x.numpy() / step.numpy()), -128, 127).astype(np.int64)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_it_is_what_whole_numbers_give(shape):
    product, inputs = make_product(shape)
    steps = {name: quantizer.scale for name, quantizer in product.quantizers.items()}
    q, k, v = (codes(x, steps[name]) for x, name in zip(inputs, steps, strict=True))
    sums = q @ np.swapaxes(k, -1, -2)
    scores = sums * (float(steps["q"]) * float(steps["k"]) * shape.width**-0.5)
    weights = np.rint(255 * np.exp(scores - scores.max(-1, keepdims=True))).astype(np.int64)
    assert (weights.max(-1) == 255).all()
    expected = (weights @ v) * float(steps["v"]) / weights.sum(-1, keepdims=True)
    found = product(*inputs).numpy()
    apart = np.abs(found - expected) > 1e-5 * np.ptp(expected)
    # A weight in the middle of two codes may fall to either side.
    assert apart.any(-1).mean() <= 0.01
    assert np.abs(found - expected).max() <= 5e-3 * np.ptp(expected)


def test_sums_of_codes_are_exact():
    """In the widest head of all SAM2 models, with all codes at their ends."""
    q = torch.full((1, 256), -128.0)
    k = torch.randint(-128, 128, (500, 256), generator=torch.Generator().manual_seed(0)).float()
    exact = q.long() @ k.long().T
    assert torch.equal((q @ k.T).long(), exact)
    assert exact.abs().max() < 2**24


def test_many_keys_do_not_vanish():
    """With 5000 equal keys a normalised weight is 0.0002, far below 1/255."""
    product, _ = make_product(Shape(4, 5000))
    q, k = torch.randn(2, 4, 24), torch.zeros(2, 5000, 24)
    values = codes(torch.tensor(2.0), product.quantizers["v"].scale)
    v = torch.full((2, 5000, 12), float(values * product.quantizers["v"].scale.numpy()))
    torch.testing.assert_close(product(q, k, v), v[:, :4], rtol=1e-5, atol=0)
    assert torch.equal(probability_codes(torch.zeros(1, 5000)), torch.full((1, 5000), 255.0))


def test_gradients_are_those_of_the_formula():
    shape = Shape(12, 20, heads=2)
    product, inputs = make_product(shape)
    product.requires_grad_(True)
    upstream = torch.randn(shape.of(12, 12))

    def naive(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        q, k, v = product.q(q), product.k(k), product.v(v)
        scores = q @ k.transpose(-2, -1) * shape.width**-0.5
        weights = torch.exp(scores - scores.amax(-1, keepdim=True))
        rounded = weights + (torch.round(weights * 255) / 255 - weights).detach()
        return rounded @ v / rounded.sum(-1, keepdim=True)

    results = []
    for compute in (product, naive):
        leaves = [x.clone().requires_grad_(True) for x in inputs]
        learned = [p for p in product.parameters() if p.requires_grad]
        assert len(learned) == 3
        output = compute(*leaves)
        results.append((output, *torch.autograd.grad(output, [*leaves, *learned], upstream)))
    for found, expected in zip(*results, strict=True):
        assert expected.abs().max() > 0
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_without_quantizers_it_is_the_float_product():
    _, (q, k, v) = make_product(Shape(10, 30))
    product = AttentionProduct()
    seen = []
    product.k.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    assert torch.equal(product(q, k, v), F.scaled_dot_product_attention(q, k, v))
    assert torch.equal(seen[0], k)
    assert product.quantizers == {}


def test_it_can_be_switched_to_floats_and_back():
    product, (q, k, v) = make_product(Shape(10, 30))
    integers, floats = product(q, k, v), F.scaled_dot_product_attention(q, k, v)
    assert not torch.equal(integers, floats)
    product.enabled = False
    assert torch.equal(product(q, k, v), floats)
    product.enabled = True
    assert torch.equal(product(q, k, v), integers)


def test_dropout_only_where_it_is_asked_for():
    product, inputs = make_product(Shape(10, 200))
    torch.manual_seed(0)
    assert torch.equal(product(*inputs), product(*inputs))
    dropped = product(*inputs, dropout_p=0.5)
    assert not torch.equal(dropped, product(*inputs))
