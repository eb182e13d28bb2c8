"""What makes generated clips hard: each feature is drawn often enough, and seen in the frames."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

pytest.importorskip("cv2", reason="drawing clips needs OpenCV")

from qsam2_deploy.data.changes.affine import apply, compose, magnification, similarity
from qsam2_deploy.data.generated import GeneratedClipsConfig, motion
from qsam2_deploy.data.generated import shapes as shape_makers
from qsam2_deploy.data.generated.render import render
from qsam2_deploy.data.generated.scene import Body, Look, Scene, Shadow, random_scene
from qsam2_deploy.data.generated.skins import procedural_wardrobe
from tests.data.test_generated import flat

FRAMES, SIDE, SCENES = 8, 96, 120
PLAIN = Look(np.ones(FRAMES))
CENTRE = np.array([0.5, 0.5])
STILL = shape_makers.still(FRAMES)
POSE = similarity(np.full(FRAMES, 0.3), 0.0, np.broadcast_to(CENTRE, (FRAMES, 2)))


@pytest.fixture(scope="module")
def wardrobe():
    return procedural_wardrobe(0)


@pytest.fixture(scope="module")
def scenes(wardrobe):
    return drawn(wardrobe, GeneratedClipsConfig(), SCENES)


def drawn(wardrobe, config, count):
    return [
        random_scene(np.random.default_rng((7, seed)), wardrobe, config, FRAMES)
        for seed in range(count)
    ]


def frames_of(scene, look=PLAIN, side=SIDE):
    """The frames of ``scene`` under another look, as signed numbers."""
    return render(np.random.default_rng(0), replace(scene, look=look), side)[0].astype(int)


def disc(centres, colour, radius=0.1):
    """A disc of one colour on a path [T, 2]."""
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    outline = np.stack([np.cos(angle), np.sin(angle)], -1)
    piece = shape_makers.Piece((np.broadcast_to(outline, (FRAMES, 48, 2)),), STILL)
    pose = similarity(np.full(FRAMES, radius), 0.0, np.broadcast_to(centres, (FRAMES, 2)))
    return Body((piece,), {0: flat(colour)}, pose)


def bare(*bodies, colour=(0, 0, 0), **other):
    """A scene of nothing but ``bodies`` before one colour."""
    return replace(Scene(flat(colour), (), STILL, bodies, PLAIN), **other)


def centroid(weights):
    """Centre [2] of an image of weights, where its side is 1."""
    y, x = (np.indices(weights.shape) + 0.5) / weights.shape[0]
    return np.array([(weights * x).sum(), (weights * y).sum()]) / weights.sum()


def test_light_changes_over_time(scenes):
    drifting = [scene for scene in scenes if np.ptp(scene.look.gain) > 0.01]
    assert SCENES / 3 < len(drifting) < SCENES
    for scene in drifting[:3]:
        assert scene.look.gain[0] == 1
        expected = frames_of(scene) * scene.look.gain[:, None, None, None]
        seen = frames_of(scene, Look(scene.look.gain))
        assert np.abs(seen - np.clip(expected, 0, 255)).max() <= 0.51


def test_blur_takes_away_what_is_fine(scenes):
    blurs = {scene.look.blur for scene in scenes}
    assert 0.0 in blurs
    assert len(blurs) > SCENES / 8
    scene = bare(disc(CENTRE, (255, 255, 255), radius=0.3))
    looks = PLAIN, Look(PLAIN.gain, blur=max(blurs))
    sharp, soft = (frames_of(scene, look, 192) for look in looks)
    edges = [(np.diff(frames, axis=2) ** 2).sum() for frames in (sharp, soft)]
    assert 0.1 < edges[1] / edges[0] < 0.6
    assert soft.sum() == pytest.approx(sharp.sum(), rel=0.01)


def test_grain_is_other_noise_in_every_frame(scenes):
    grains = [scene.look.grain for scene in scenes]
    assert {0.0, max(grains)} < set(grains)
    for grain in set(grains) - {0.0}:
        noise = frames_of(bare(colour=(128, 128, 128)), Look(PLAIN.gain, grain=grain)) - 128
        assert np.abs(noise).max() <= grain + 1
        assert abs(noise.mean()) < 1
        assert noise.std() == pytest.approx(grain / np.sqrt(3), rel=0.1)
        assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.05


def test_open_shutter_smears_what_moves_along_its_way(scenes):
    shutters = {scene.look.shutter for scene in scenes}
    assert 0.0 in shutters
    assert len(shutters) > SCENES / 8
    path = np.stack([np.linspace(0.2, 0.8, FRAMES), np.full(FRAMES, 0.5)], -1)
    scene = bare(disc(path, (255, 0, 0), radius=0.2))
    looks = PLAIN, Look(PLAIN.gain, shutter=0.5)
    sharp, smeared = (frames_of(scene, look)[FRAMES // 2, ..., 0] for look in looks)
    partly = [((red > 20) & (red < 235))[SIDE // 2].sum() for red in (sharp, smeared)]
    moved = 0.5 * (path[1, 0] - path[0, 0]) * SIDE
    assert partly[0] <= 4
    assert partly[1] == pytest.approx(2 * moved, abs=5)  # at both of its ends
    column = round(path[FRAMES // 2, 0] * SIDE)
    np.testing.assert_allclose(smeared[:, column].sum(), sharp[:, column].sum(), rtol=0.05)


def twins(scenes):
    """Pairs of bodies that look alike, of all scenes."""
    return [
        pair
        for scene in scenes
        for pair in combinations(scene.bodies, 2)
        if pair[0].skins is pair[1].skins
    ]


def mean_colour(body):
    frame, labels = render(np.random.default_rng(0), bare(replace(body, pose=POSE)), SIDE)
    return frame[0][labels[0] == 1].mean(0)


def test_some_objects_look_like_others(scenes):
    found = twins(scenes)
    assert len(found) >= SCENES / 6
    same = [pair for pair in found if pair[0].shape is pair[1].shape]
    assert 0.5 < len(same) / len(found) < 1
    for one, other in same[:12]:
        sizes = [magnification(body.pose[0]) for body in (one, other)]
        assert 0.6 < sizes[0] / sizes[1] < 1.7  # tilts differ
        assert np.abs(one.pose - other.pose).max() > 0.02
        np.testing.assert_array_equal(mean_colour(one), mean_colour(other))
    others = [scene.bodies[:2] for scene in scenes if not twins([scene])]
    apart = [np.abs(mean_colour(a) - mean_colour(b)).max() for a, b in others[:10]]
    assert np.median(apart) > 20


def test_some_objects_of_easy_clips_look_like_others(wardrobe):
    easy = drawn(wardrobe, GeneratedClipsConfig(easy=1.0), 20)
    assert len(twins(easy)) > 10


def test_camera_pans_zooms_and_rolls(scenes):
    last = np.stack([scene.camera[-1] for scene in scenes])
    panned = np.linalg.norm(apply(last, CENTRE[None])[:, 0] - CENTRE, axis=-1)
    zoomed = np.abs(np.log(magnification(last)))
    rolled = np.abs(np.arctan2(last[:, 1, 0], last[:, 0, 0]))
    for moved, least in ((panned, 0.01), (zoomed, 0.01), (rolled, 0.005)):
        assert SCENES / 5 < (moved > least).sum() < SCENES
    calm = motion.camera(np.random.default_rng(0), FRAMES, 0.0)
    np.testing.assert_array_equal(calm, STILL)


def test_backdrop_moves_as_the_camera_does(scenes):
    clutter = (disc([0.4, 0.55], (255, 0, 0), radius=0.05),)
    for camera in sorted((s.camera for s in scenes), key=lambda c: -np.ptp(c[..., 2]))[:5]:
        red = frames_of(bare(clutter=clutter, camera=camera), side=192)[..., 0]
        expected = apply(camera, np.array([[0.4, 0.55]]))[:, 0]
        inside = (np.abs(expected - 0.5) < 0.4).all(-1)
        assert inside[0]
        for frame, place in zip(red[inside], expected[inside], strict=True):
            np.testing.assert_allclose(centroid(frame), place, atol=1 / 192)


def test_half_of_the_objects_move_with_the_world(wardrobe, monkeypatch):
    monkeypatch.setattr(motion, "object_pose", lambda *_: POSE.copy())
    in_world = in_frame = 0
    for scene in drawn(wardrobe, GeneratedClipsConfig(), 40):
        if np.abs(scene.camera - STILL).max() < 1e-6:
            continue
        for body in scene.bodies:
            in_frame += np.allclose(body.pose, POSE, atol=1e-9)
            in_world += np.allclose(body.pose, compose(scene.camera, POSE), atol=1e-9)
    assert 0.35 < in_world / (in_world + in_frame) < 0.65


def test_objects_leave_and_return():
    radius, count = 0.08, 2000
    paths = np.stack(
        [motion.path(np.random.default_rng(s), FRAMES, radius, 1.0) for s in range(count)]
    )
    outside = ((paths < -radius) | (paths > 1 + radius)).any(-1)
    assert not outside[:, 0].any()
    back = np.flatnonzero(outside.any(1) & ~outside[:, -1])
    assert len(back) > 0.005 * count
    for index in back[:5]:
        scene = bare(disc(paths[index], (255, 0, 0), radius))
        labels = render(np.random.default_rng(0), scene, SIDE)[1]
        assert not labels[outside[index]].any()
        wholly = ((paths[index] > 0) & (paths[index] < 1)).all(-1)
        assert labels[wholly].any((1, 2)).all()


def test_shadow_darkens_what_is_behind(scenes):
    assert SCENES / 6 < sum(scene.shadow is not None for scene in scenes) < SCENES / 2
    shadow = Shadow(shift=(0.3, 0.1), softness=0.02, strength=0.4)
    body = disc([0.3, 0.5], (255, 0, 0))
    scene = bare(body, colour=(200, 200, 200))
    lit, shaded = frames_of(scene), frames_of(replace(scene, shadow=shadow))
    taken = (lit - shaded)[0, ..., 1]
    assert taken.min() == 0
    assert taken.max() == pytest.approx(0.4 * 200, abs=2)
    np.testing.assert_allclose(centroid(taken), [0.6, 0.6], atol=1 / SIDE)
    share = (taken > 0.2 * 200).mean()
    assert share == pytest.approx(np.pi * 0.1**2, rel=0.15)


def test_drawn_shadows_differ_and_leave_the_masks_as_they_are(scenes):
    shaded = [scene for scene in scenes if scene.shadow is not None]
    assert len({scene.shadow for scene in shaded}) == len(shaded)
    for scene in shaded[:4]:
        both = [
            render(np.random.default_rng(0), replace(scene, look=PLAIN, shadow=shadow), SIDE)
            for shadow in (None, scene.shadow)
        ]
        (lit, labels), (dark, same) = both
        np.testing.assert_array_equal(labels, same)
        assert (lit.astype(int) - dark).max() > 10


def test_objects_grow_shrink_tilt_and_turn():
    frames, count = 12, 200
    poses = np.stack(
        [motion.object_pose(np.random.default_rng(s), frames, 0.2, 1.0) for s in range(count)]
    )
    short, long = np.sort(np.linalg.svd(poses[..., :2], compute_uv=False), -1).transpose(2, 0, 1)
    growth = np.log(long[:, -1] / long[:, 0])
    assert np.allclose(long[:, 0], 0.2)
    assert (growth > 0.05).mean() > 0.2
    assert (growth < -0.05).mean() > 0.2
    tilted = np.ptp(short / long, axis=1) > 0.05
    assert 0.15 < tilted.mean() < 0.5
    angles = np.unwrap(np.arctan2(-poses[..., 0, 1], poses[..., 1, 1]))
    assert 0.2 < (np.abs(angles[:, -1] - angles[:, 0]) > 0.35).mean() < 0.6
    steps = np.diff(angles)
    rocking = (steps > 0.01).any(1) & (steps < -0.01).any(1)
    assert 0.15 < rocking.mean() < 0.6
    calm = motion.object_pose(np.random.default_rng(0), frames, 0.2, 0.0)
    assert not np.ptp(calm, axis=0).any()


def change(make, seed):
    """Share of a shape's pixels that are others in the last frame, though its pose is still."""
    shape = make(np.random.default_rng(seed), FRAMES)
    skins = {piece.material: flat((255, 0, 0)) for piece in shape}
    _, labels = render(np.random.default_rng(0), bare(Body(shape, skins, POSE)), SIDE)
    return (labels[0] != labels[-1]).sum() / (labels[0] > 0).sum()


@pytest.mark.parametrize("name", ["blob", "worm", "creature", "stack", "rider"])
def test_shapes_deform_over_time(name):
    changes = [change(getattr(shape_makers, name), seed) for seed in range(16)]
    assert np.median(changes) > 0.02


@pytest.mark.parametrize("name", ["stack", "rider"])
def test_parts_move_against_each_other(name, monkeypatch):
    for elastic in ("blob", "creature"):
        monkeypatch.setattr(shape_makers, elastic, shape_makers.stiff)
    changes = [change(getattr(shape_makers, name), seed) for seed in range(16)]
    assert np.median(changes) > 0.01


@pytest.mark.parametrize("name", ["stiff", "ring", "bar"])
def test_stiff_shapes_do_not_deform(name):
    assert not any(change(getattr(shape_makers, name), seed) for seed in range(6))


def test_most_shapes_deform():
    changes = [change(shape_makers.random_shape, seed) for seed in range(40)]
    assert 0.4 < np.mean([share > 0.01 for share in changes]) < 1
