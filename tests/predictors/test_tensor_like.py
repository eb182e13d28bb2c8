import numpy as np
import pytest

from qsam2_deploy.predictors.tensor_like import TensorLike


@pytest.fixture
def logits() -> TensorLike:
    return np.arange(-6, 6, dtype=np.float32).reshape(2, 1, 2, 3).view(TensorLike)


def test_the_idioms_of_official_scripts(logits):
    plain = np.asarray(logits)
    np.testing.assert_array_equal((logits > 0.0).cpu().numpy(), plain > 0)
    np.testing.assert_array_equal((logits[0] > 0.0).cpu().numpy(), plain[0] > 0)
    np.testing.assert_array_equal(logits.detach().cpu().float().numpy(), plain)
    np.testing.assert_array_equal(logits.to("cuda", non_blocking=True).numpy(), plain)
    assert [m.cpu().numpy().shape for m in logits] == [(1, 2, 3), (1, 2, 3)]


def test_numpy_gives_a_plain_view_of_the_same_memory(logits):
    plain = logits.cpu().numpy()
    assert type(plain) is np.ndarray
    assert np.shares_memory(plain, logits)


def test_float_of_masks(logits):
    values = (logits > 0).float()
    assert values.dtype == np.float32
    assert values.sum() == 5


def test_it_is_an_array(logits):
    assert isinstance(logits, np.ndarray)
    assert np.asarray(logits).dtype == np.float32
    assert float((logits + 1).max()) == 6
