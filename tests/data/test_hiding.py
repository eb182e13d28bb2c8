"""What hides objects: where they are meanwhile, and where they are found again."""

import numpy as np
import pytest

from qsam2_deploy.data.changes.affine import apply, similarity
from qsam2_deploy.data.generated import hiding, motion
from qsam2_deploy.data.generated import shapes as shape_makers
from qsam2_deploy.data.generated.render import render
from qsam2_deploy.data.generated.scene import Body, Look, Scene
from qsam2_deploy.data.generated.skins import procedural_wardrobe
from tests.data.test_generated import flat

RADIUS, FRAMES = 0.08, 10


@pytest.fixture(scope="module")
def wardrobe():
    return procedural_wardrobe(0)


def disc(centres):
    """A disc of RADIUS on a path."""
    circle = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    outline = np.broadcast_to(np.stack([np.cos(circle), np.sin(circle)], -1), (FRAMES, 32, 2))
    piece = shape_makers.Piece((outline,), shape_makers.still(FRAMES), extent=1.0)
    pose = similarity(np.full(FRAMES, RADIUS), 0.0, centres)
    return Body((piece,), {0: flat((255, 0, 0))}, pose)


def seen(body, occluder):
    """Whether anything of ``body`` is seen behind ``occluder``: [T]."""
    backdrop, still = flat((0, 0, 0)), shape_makers.still(FRAMES)
    scene = Scene(backdrop, (), still, (body, occluder), Look(np.ones(FRAMES)))
    _, labels = render(np.random.default_rng(0), scene, 64)
    return (labels == 1).any((1, 2))


@pytest.mark.parametrize("seed", range(20))
def test_object_goes_behind_the_wall_and_comes_out_elsewhere(wardrobe, seed):
    rng = np.random.default_rng(seed)
    centres = motion.path(rng, FRAMES, RADIUS, 0.3)
    passage = hiding.passage(rng, wardrobe, centres, RADIUS)
    moved = centres + passage.shift
    visible = seen(disc(moved), passage.wall)
    assert not np.ptp(passage.wall.pose, axis=0).any(), "walls stand still"
    assert not visible.all(), "no frame hides it"
    steps = np.linalg.norm(np.diff(moved, axis=0), axis=1)
    assert steps.max() < 1.5, "no jump over the frame"


def test_most_come_out_again_away_from_where_they_went_in(wardrobe):
    apart = []
    for seed in range(60):
        rng = np.random.default_rng((1, seed))
        centres = np.full((FRAMES, 2), 0.5)
        passage = hiding.passage(rng, wardrobe, centres, RADIUS)
        moved = centres + passage.shift
        visible = seen(disc(moved), passage.wall)
        first = int(np.argmin(visible))
        if visible[0] and visible[first:].any():
            back = first + int(np.argmax(visible[first:]))
            apart.append(np.linalg.norm(moved[back] - moved[first - 1]))
    assert len(apart) >= 30
    assert np.median(apart) > 4 * RADIUS


def test_large_objects_have_no_wall():
    rng = np.random.default_rng(0)
    assert not any(hiding.goes_behind_wall(rng, 0.5) for _ in range(50))
    small = sum(hiding.goes_behind_wall(rng, 0.1) for _ in range(1000))
    assert 500 < small < 700


@pytest.mark.parametrize("seed", range(10))
def test_walls_cover_their_box(seed):
    rng = np.random.default_rng(seed)
    shape, half_length = shape_makers.wall(rng, 3, 0.4, 0.1)
    scene = Body(shape, {0: flat((0, 0, 255))}, similarity(np.ones(3), 0.0, [0.5, 0.5]))
    pieces = Scene(flat((0, 0, 0)), (), shape_makers.still(3), (scene,), Look(np.ones(3)))
    _, labels = render(rng, pieces, 64)
    corners = apply(similarity(64.0, 0.0, [32.0, 32.0]), np.array([[-0.4, -0.1], [0.4, 0.1]]))
    (x0, y0), (x1, y1) = np.ceil(corners[0]).astype(int), np.floor(corners[1]).astype(int)
    assert labels[:, y0:y1, x0:x1].all()
    assert half_length >= 0.4
