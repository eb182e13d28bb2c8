import hashlib
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("cv2")

from qsam2_deploy.data.changes.affine import similarity
from qsam2_deploy.data.generated import GeneratedClips, GeneratedClipsConfig
from qsam2_deploy.data.generated import shapes as shape_makers
from qsam2_deploy.data.generated.motion import fold
from qsam2_deploy.data.generated.render import render
from qsam2_deploy.data.generated.scene import Body, Look, Scene, random_scene
from qsam2_deploy.data.generated.skins import Skin, Wardrobe
from qsam2_deploy.data.generated.textures import TextureBank
from qsam2_deploy.errors import InputError, VideoError

PRIMARY = ((255, 0, 0), (0, 255, 0), (0, 0, 255))


def digest(clip):
    return hashlib.sha256(clip.frames.tobytes() + clip.masks.tobytes()).hexdigest()


def flat(colour):
    return Skin(np.full((8, 8, 3), colour, np.uint8))


def flattened(scene, frames):
    """The scene with at most three bodies, each of one primary colour, on black."""
    bodies = tuple(
        replace(body, skins=dict.fromkeys(body.skins, flat(colour)))
        for body, colour in zip(scene.bodies, PRIMARY, strict=False)
    )
    look = Look(np.ones(frames))
    return replace(
        scene, backdrop=flat((0, 0, 0)), clutter=(), bodies=bodies, look=look, shadow=None
    )


def test_same_bytes_in_another_process():
    code = (
        "import hashlib; from qsam2_deploy.data.generated import *;"
        "c = GeneratedClips(GeneratedClipsConfig(seed=5)).clip(7, frames=3, size=96);"
        "print(hashlib.sha256(c.frames.tobytes() + c.masks.tobytes()).hexdigest())"
    )
    env = {**os.environ, "PYTHONHASHSEED": "123"}
    other = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env
    ).stdout.strip()
    source = GeneratedClips(GeneratedClipsConfig(seed=5))
    source.clip(3, frames=2, size=64)  # what was made before does not matter
    assert digest(source.clip(7, frames=3, size=96)) == other


def test_index_and_seed_change_the_clip():
    first, second = (GeneratedClips(GeneratedClipsConfig(seed=s)) for s in (0, 1))
    digests = {digest(s.clip(i, frames=2, size=64)) for s in (first, second) for i in range(5)}
    assert len(digests) == 10


@pytest.mark.parametrize("seed", range(12))
def test_mask_is_exactly_what_is_seen(seed):
    rng = np.random.default_rng(seed)
    wardrobe = Wardrobe(TextureBank(0, 10), (), 0.0)
    scene = flattened(random_scene(rng, wardrobe, GeneratedClipsConfig(), 4), 4)
    frames, labels = render(rng, scene, 128)
    weights = np.concatenate([255 - frames.sum(-1, keepdims=True, dtype=np.int64), frames], -1)
    certain = weights.max(-1) > 131
    assert certain.mean() > 0.95
    np.testing.assert_array_equal(weights.argmax(-1)[certain], labels[certain])


def test_every_object_is_visible_in_the_first_frame():
    source = GeneratedClips(GeneratedClipsConfig(seed=2, max_objects=2))
    counts = set()
    for index in range(25):
        clip = source.clip(index, frames=1, size=80)
        counts.add(clip.masks.shape[1])
        assert (clip.masks[0].reshape(clip.masks.shape[1], -1).mean(1) >= 0.004).all()
    assert counts <= {1, 2}
    assert 2 in counts


def test_masks_of_a_clip_are_disjoint():
    clip = GeneratedClips(GeneratedClipsConfig(seed=2)).clip(0, frames=4, size=96)
    assert clip.masks.sum(1).max() == 1


@pytest.mark.parametrize("index", range(6))
def test_same_scene_at_another_size(index):
    photo = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
    source = GeneratedClips(GeneratedClipsConfig(seed=4), [photo])
    small, large = (source.clip(index, frames=3, size=s) for s in (64, 192))
    assert small.masks.shape[:2] == large.masks.shape[:2]
    reduced = large.masks.reshape(3, -1, 64, 3, 64, 3).mean((3, 5)) > 0.5
    differing = (reduced != small.masks).sum((2, 3))
    outline = 4 * np.sqrt(np.maximum(small.masks.sum((2, 3)), 16))
    assert (differing <= outline).all(), differing / outline
    pixels = large.frames.reshape(3, 64, 3, 64, 3, 3).mean((2, 4))
    assert np.abs(pixels - small.frames).mean() < 20


def test_hidden_object_has_an_empty_mask_then():
    rng, ones = np.random.default_rng(0), np.ones(3)
    shape = (shape_makers.stiff(rng, 3)[0],)
    behind = Body(shape, {0: flat((255, 0, 0))}, similarity(0.1 * ones, 0.0, [0.5, 0.5]))
    away = np.array([[-3.0, 0.5], [0.5, 0.5], [4.0, 0.5]])
    front = Body(shape_makers.bar(rng, 3), {0: flat((0, 0, 255))}, similarity(2 * ones, 0.0, away))
    scene = Scene(flat((0, 0, 0)), (), shape_makers.still(3), (behind, front), Look(ones))
    _, labels = render(rng, scene, 64)
    assert [(frame == 1).any() for frame in labels] == [True, False, True]


@pytest.mark.parametrize(
    "make", [getattr(shape_makers, n) for n in (
        "blob", "stiff", "ring", "worm", "creature", "stack", "rider", "bar")],
    ids=lambda make: make.__name__,
)  # fmt: skip
def test_shapes_have_a_value_for_every_frame(make):
    for seed in range(8):
        for piece in make(np.random.default_rng(seed), 5):
            assert piece.pose.shape == (5, 2, 3)
            for contour in piece.contours:
                assert contour.shape[0] == 5
                assert contour.shape[2] == 2
                assert np.isfinite(contour).all()


def test_easy_clips_are_large_and_still():
    source = GeneratedClips(GeneratedClipsConfig(seed=1)).with_shares(easy=1.0)
    clips = [source.clip(i, frames=4, size=64) for i in range(10)]
    assert np.mean([c.masks[0].any(0).mean() for c in clips]) > 0.1
    assert source.config.easy == 1.0
    contrasts = []
    for clip in clips:
        objects = clip.masks[0].any(0)
        means = [clip.frames[0][where].mean(0) for where in (objects, ~objects)]
        contrasts.append(np.abs(means[0] - means[1]).max())
    assert np.median(contrasts) > 50


def test_texture_does_not_depend_on_those_made_before():
    first, second = TextureBank(3, 20), TextureBank(3, 20)
    for number in range(20):
        first.texture(number)
    for number in (19, 4, 7):
        np.testing.assert_array_equal(first.texture(number), second.texture(number))
    assert first.texture(0).shape == (192, 192, 3)


def test_plain_textures_are_those_of_the_plain_kind():
    bank, rng = TextureBank(0, 11), np.random.default_rng(0)
    plain = [bank.texture(0), bank.texture(10)]
    for _ in range(8):
        picked = bank.pick_plain(rng)
        assert any(picked is texture for texture in plain)


def test_fold_reflects_between_walls():
    np.testing.assert_allclose(
        fold(np.array([0.2, 1.1, -0.3, 2.2]), 0.0, 1.0), [0.2, 0.9, 0.3, 0.2]
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"easy": 1.5}, "easy must be within 0 .. 1, but is 1.5"),
        ({"speed": -1.0}, "speed must be within 0 .. 10"),
        ({"max_objects": 0}, "max_objects must be a whole number of at least 1, but is 0"),
        ({"min_area": 0.5}, "min_area must be within"),
        ({"textures": 1.5}, "textures must be a whole number"),
    ],
)
def test_bad_settings_are_refused(values, message):
    with pytest.raises(InputError, match=message):
        GeneratedClipsConfig(**values)


def test_bad_photo_is_refused():
    source = GeneratedClips(GeneratedClipsConfig(photo_share=1.0), [np.zeros((4, 4), np.uint8)])
    with pytest.raises(VideoError, match=r"photo 0 must be uint8 of shape \(H, W, 3\)"):
        source.clip(0, frames=1, size=32)


def absent_and_back(clip):
    """How many objects are out of sight in some frame and seen again later."""
    seen = clip.masks.any((2, 3))
    return sum(
        bool(column[int(np.argmin(column)) :].any()) for column in seen.T if not column.all()
    )


def test_hidden_objects_come_back():
    config = GeneratedClipsConfig(seed=3, hidden=1.0)
    clips = [GeneratedClips(config).clip(index, frames=8, size=64) for index in range(12)]
    assert all(clip.masks[0].any((1, 2)).all() for clip in clips)
    assert sum(not clip.masks.any((2, 3)).all() for clip in clips) >= 9
    assert sum(absent_and_back(clip) > 0 for clip in clips) >= 6
    usual = GeneratedClips(replace(config, hidden=0.0))
    assert sum(absent_and_back(usual.clip(i, frames=8, size=64)) for i in range(12)) <= 2


def test_short_clips_are_the_same_with_and_without_hiding():
    plain, hiding = (GeneratedClips(GeneratedClipsConfig(hidden=h)) for h in (0.0, 1.0))
    for index in range(4):
        one, two = (source.clip(index, frames=3, size=48) for source in (plain, hiding))
        assert digest(one) == digest(two)


def test_other_shares_are_those_of_another_configuration():
    source = GeneratedClips(GeneratedClipsConfig(seed=3))
    changed = source.with_shares(easy=0.5, hidden=1.0)
    same = GeneratedClips(GeneratedClipsConfig(seed=3, easy=0.5, hidden=1.0))
    kept = same.with_shares(easy=0.5)
    for index in range(4):
        expected = digest(same.clip(index, frames=8, size=48))
        assert digest(changed.clip(index, frames=8, size=48)) == expected
        assert digest(kept.clip(index, frames=8, size=48)) == expected
    assert source.config.hidden == 0.0
