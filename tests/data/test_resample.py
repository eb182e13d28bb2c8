import numpy as np
import pytest

pytest.importorskip("cv2")

from qsam2_deploy.data.changes.affine import (
    about,
    apply,
    compose,
    magnification,
    similarity,
    stretch,
)
from qsam2_deploy.data.changes.colour import ColourMap, colour_matrix
from qsam2_deploy.data.changes.resample import warp


def test_identity_changes_nothing():
    image = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)
    np.testing.assert_array_equal(warp(image, stretch(1, 1), (20, 30)), image)


@pytest.mark.parametrize("factor", [1.3, 2.0, 3.0, 4.0, 7.0])
def test_shrinking_averages(factor):
    """A fine checkerboard becomes grey, at every factor that cannot show it."""
    board = np.indices((140, 140)).sum(0) % 2 * np.uint8(255)
    side = int(140 / factor)
    out = warp(board.astype(np.uint8), stretch(1 / factor, 1 / factor), (side, side))
    inner = out[2:-2, 2:-2].astype(float)
    assert abs(inner.mean() - 127.5) < 4
    assert inner.std() < (75 if factor < 2 else 20)


@pytest.mark.parametrize("factor", [0.25, 0.4, 0.7, 1.0, 1.7])
def test_place_of_a_disc_follows_the_matrix(factor):
    y, x = np.indices((120, 160)) + 0.5
    disc = (((x - 70) ** 2 + (y - 50) ** 2 < 30**2) * 255).astype(np.uint8)
    matrix = compose(stretch(factor, factor, 3.0, 5.0), about((70, 50), similarity(1, 0.4, [0, 0])))
    out = warp(disc, matrix, (220, 300)) > 127
    ys, xs = np.nonzero(out)
    centre = apply(matrix, np.array([[70.0, 50.0]]))[0]
    np.testing.assert_allclose([xs.mean() + 0.5, ys.mean() + 0.5], centre, atol=0.3)
    np.testing.assert_allclose(np.sqrt(out.sum() / np.pi), 30 * factor, atol=0.4)


def test_magnification_of_a_similarity():
    np.testing.assert_allclose(magnification(similarity([2.0, 0.5], 1.0, [0, 0])), [2.0, 0.5])


def test_neutral_colours_change_nothing():
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    np.testing.assert_array_equal(ColourMap(colour_matrix()).apply(image), image)


def test_grey_and_gain():
    red = np.full((1, 1, 3), (200, 0, 0), np.uint8)
    grey = ColourMap(colour_matrix(saturation=0.0)).apply(red)[0, 0]
    assert len(set(grey.tolist())) == 1
    assert ColourMap(colour_matrix(gain=0.5, bias=3)).apply(red)[0, 0].tolist() == [103, 3, 3]
