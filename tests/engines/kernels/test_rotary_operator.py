"""The rotary embedding and its codes are what the single operators give, to the bit."""

from pathlib import Path

import numpy as np
import pytest

from tests.engines.kernels.operators import session

STEP = np.float32(0.03)


def tables(places: int, half: int) -> tuple[np.ndarray, np.ndarray]:
    angles = np.random.default_rng(places).uniform(0, 9, (places, half)).astype(np.float32)
    return np.cos(angles), np.sin(angles)


def run(library: Path, inputs: dict[str, np.ndarray], zero: int = 0) -> np.ndarray:
    inputs = inputs | {"scale": np.asarray(STEP), "zero": np.asarray(zero, np.int8)}
    made = session(library, "RotaryCodes", inputs, output=np.int8, threads=2)
    result: np.ndarray = made.run(None, inputs)[0]
    return result


@pytest.mark.parametrize(
    ("lead", "places", "half"), [((2, 3), 150, 33), ((1,), 1, 1), ((), 70, 128)]
)
def test_every_path(library, path, lead, places, half):
    cos, sin = tables(places, half)
    x = np.random.default_rng(1).normal(0, 2, (*lead, places, 2 * half)).astype(np.float32)
    a, b = x[..., :half], x[..., half:]
    y = np.concatenate([a * cos - b * sin, a * sin + b * cos], -1)
    wanted = np.clip(np.rint(y / STEP) + 5, -128, 127).astype(np.int8)
    np.testing.assert_array_equal(run(library, {"x": x, "cos": cos, "sin": sin}, 5), wanted)
    assert np.ptp(wanted.astype(int)) > 20 or half == 1


def test_what_does_not_fit(library):
    cos, sin = tables(4, 3)
    with pytest.raises(Exception, match="rows of two halves"):
        run(library, {"x": np.zeros((4, 5), np.float32), "cos": cos, "sin": sin})
    with pytest.raises(Exception, match="do not fit the rows"):
        run(library, {"x": np.zeros((5, 6), np.float32), "cos": cos, "sin": sin})
    with pytest.raises(Exception, match="do not fit the rows"):
        run(library, {"x": np.zeros((4, 6), np.float32), "cos": cos, "sin": sin[:, :2]})
