import numpy as np
import pytest

from qsam2_deploy.data.changes.regions import Regions, RegionsConfig
from qsam2_deploy.data.sample import Clip
from qsam2_deploy.errors import InputError


class Numbered:
    """Images that hold their own number."""

    def clip(self, index, *, frames, size):
        images = np.full((frames, size, size, 3), index, np.uint8)
        return Clip(images, np.zeros((frames, 1, size, size), bool), f"image {index}")


def sides(mask):
    ys, xs = np.nonzero(mask)
    return np.ptp(xs) + 1, np.ptp(ys) + 1


def test_masks_are_rectangles_of_the_wanted_sizes():
    source = Regions(Numbered(), RegionsConfig(min_side=0.1, max_side=0.5))
    seen = []
    for index in range(40):
        clip = source.clip(index, frames=1, size=64)
        assert (clip.frames == index).all()
        assert clip.masks.shape == (1, 4, 64, 64)
        for mask in clip.masks[0]:
            width, height = sides(mask)
            assert mask.sum() == width * height
            seen += [width, height]
    assert min(seen) >= 6
    assert max(seen) <= 32
    assert np.ptp(seen) > 20


def test_rectangles_reach_every_edge():
    clips = (Regions(Numbered()).clip(index, frames=1, size=32) for index in range(200))
    covered = np.any([clip.masks[0].any(0) for clip in clips], axis=0)
    assert covered.all()


def test_same_image_again_at_any_order():
    first, second = Regions(Numbered()), Regions(Numbered())
    first.clip(3, frames=1, size=16)
    one, two = (source.clip(5, frames=1, size=32) for source in (first, second))
    np.testing.assert_array_equal(one.masks, two.masks)
    other = Regions(Numbered(), RegionsConfig(seed=1)).clip(5, frames=1, size=32)
    assert (one.masks != other.masks).any()


def test_clips_are_refused():
    with pytest.raises(InputError, match="frames: 1"):
        Regions(Numbered()).clip(0, frames=2, size=32)


@pytest.mark.parametrize(
    "wrong", [{"max_objects": 0}, {"min_side": 0.0}, {"max_side": 1.5}, {"min_side": 0.9}]
)
def test_settings_out_of_range(wrong):
    with pytest.raises(InputError):
        RegionsConfig(**wrong)
