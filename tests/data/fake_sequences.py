"""Annotated sequences in memory: flat colours, so that every pixel tells what it shows."""

from dataclasses import dataclass

import numpy as np

BACKGROUND, OBJECT = (0, 0, 255), (255, 0, 0)


@dataclass(frozen=True)
class FlatSequence:
    """Red rectangles that move over a blue background; object n is absent before frame n - 1."""

    name: str = "flat"
    frame_count: int = 12
    size: tuple[int, int] = (90, 160)
    object_ids: tuple[int, ...] = (1,)
    step: int = 1  # every frame of this step is annotated

    @property
    def annotated(self):
        return tuple(range(0, self.frame_count, self.step))

    def masks(self, index):
        out = {}
        for place, number in enumerate(self.object_ids):
            mask = np.zeros(self.size, bool)
            if index >= number - 1:
                x, y = 10 + 4 * index + 25 * place, 8 + 3 * index + 5 * place
                mask[y : y + 30, x : x + 22] = True
            out[number] = mask
        return out

    def frame(self, index):
        assert index in self.annotated
        image = np.empty((*self.size, 3), np.uint8)
        image[:] = BACKGROUND
        for mask in self.masks(index).values():
            image[mask] = OBJECT
        return image


def shows_object(frames):
    """Where frames [..., 3] certainly show an object, and where they certainly do not."""
    return frames[..., 0] > 145, frames[..., 0] < 110


def assert_objects_are_hidden(source):
    """Many clips of ``source`` hide an object that their first frame shows; some show it again."""
    clips = [source.clip(index, frames=8, size=64) for index in range(16)]
    assert all(clip.masks[0].any((1, 2)).all() for clip in clips)
    absent = sum(not clip.masks.any((2, 3)).all() for clip in clips)
    back = sum(
        (clip.masks[-1].any((1, 2)) & ~clip.masks.any((2, 3)).all(0)).any() for clip in clips
    )
    assert absent >= 8
    assert back >= 4
