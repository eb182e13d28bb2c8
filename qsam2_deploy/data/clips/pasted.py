"""Training clips from real objects that are cut out of one video and pasted into another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from .._checks import require_least, require_within
from ..cache import CachedFrame, CachedSequence, SequenceCache
from ..changes.affine import compose, stretch
from ..changes.augment import (
    AugmentConfig,
    View,
    finish,
    random_colours,
    random_spoiling,
    random_views,
)
from ..changes.colour import random_colour_map
from ..changes.layers import covered
from ..generated import hiding, motion, shapes
from ..generated.placed import Labels, SkinCache, place
from ..generated.scene import Body
from ..sample import Clip, Frames, VideoSequence
from .stickers import Sticker, random_placement
from .windows import SequenceClips, random_focus, random_window

_REACH = 1.5  # objects grow, and the corners of their box are further away than its sides


@dataclass(frozen=True)
class PastedClipsConfig:
    """How objects are pasted.

    Attributes:
        seed: of every random choice.
        max_objects: most objects in a clip.
        max_stride: largest step between frames, in annotated frames.
        still: share of clips on a single frame, with a moving camera.
        twin: share of objects that are pasted twice, as two objects that look alike.
        occluder: share of clips with a generated occluder in front.
        hidden: share of clips of 4 frames or more in which something generated passes in front of
            a pasted object and hides it for some frames.
        keep: share of clips that may annotate an object of the background video too.
        min_area: least visible area of an object in the first frame, as a share of the frame.
        short_side: frames are kept in memory with at most this many pixels on the shorter side.
        augment: changes of geometry and colour of the background video.

    Raises:
        InputError: a value is outside its range.
    """

    seed: int = 0
    max_objects: int = 3
    max_stride: int = 3
    still: float = 0.25
    twin: float = 0.25
    occluder: float = 0.2
    hidden: float = 0.0
    keep: float = 0.5
    min_area: float = 0.004
    short_side: int = 360
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    def __post_init__(self) -> None:
        require_least(self, 0, "seed")
        require_least(self, 1, "max_objects", "max_stride", "short_side")
        require_within(self, 0.0, 1.0, "still", "twin", "occluder", "keep", "hidden")
        require_within(self, 0.0, 0.05, "min_area")


class PastedClips(SequenceClips):
    """A ``ClipSource`` of real objects that move over other real videos."""

    config: PastedClipsConfig

    def __init__(
        self,
        sequences: Sequence[VideoSequence] | SequenceCache,
        config: PastedClipsConfig | None = None,
    ) -> None:
        """Read nothing yet; see :class:`~.windows.SequenceClips`."""
        super().__init__(sequences, config or PastedClipsConfig())

    def _attempt(self, rng: np.random.Generator, frames: int, size: int) -> Clip | None:
        config = self.config
        background = self._cache.pick(rng)
        sequence = self._cache.sequence(background)
        window, views = self._background(rng, sequence, frames, size)
        stickers = self._stickers(rng, background, frames, size)
        occluders = [self._occluder(rng, frames)] if rng.random() < config.occluder else []
        if frames >= hiding.MIN_FRAMES and rng.random() < config.hidden:
            occluders.append(self._hide(rng, stickers, size))
        colours = random_colours(rng, config.augment, frames)
        spoiling = random_spoiling(rng, config.augment, size)
        kept = int(rng.choice(sorted(window[0].objects))) if rng.random() < config.keep else None
        images, labels = _assemble(window, views, kept, stickers, occluders)
        numbers = _visible(labels[0], config.min_area, 1 + len(stickers))
        if not numbers:
            return None
        rng.shuffle(numbers)
        chosen = np.array(numbers[: config.max_objects], np.uint8)
        masks = labels[:, None] == chosen[:, None, None]
        return Clip(finish(rng, images, colours, spoiling), masks, sequence.name)

    def _background(
        self, rng: np.random.Generator, sequence: CachedSequence, frames: int, size: int
    ) -> tuple[list[CachedFrame], list[View]]:
        config = self.config
        window = random_window(rng, sequence, frames, config.max_stride, 0.5)
        still = rng.random() < config.still
        if still:
            window = [window[0]] * frames
        views = random_views(
            rng, config.augment, frame_size=window[0].size,
            focus=random_focus(rng, window[0]), frames=frames, size=size,
        )  # fmt: skip
        return window, _with_camera(rng, views) if still else views

    def _stickers(
        self, rng: np.random.Generator, background: int, frames: int, size: int
    ) -> list[Sticker]:
        """Objects of other sequences than ``background``, in the order in which they are pasted."""
        stickers = []
        for _ in range(int(rng.choice([1, 2, 3], p=[0.4, 0.4, 0.2]))):
            sequence = self._cache.sequence(self._cache.pick(rng, other_than=background))
            stickers.append(self._sticker(rng, sequence, frames, size))
            if rng.random() < self.config.twin:
                stickers.append(self._twin(rng, stickers[-1], sequence, size))
        order = rng.permutation(len(stickers))
        return [stickers[i] for i in order]

    def _sticker(
        self, rng: np.random.Generator, sequence: CachedSequence, frames: int, size: int
    ) -> Sticker:
        window = random_window(rng, sequence, frames, self.config.max_stride, 0.5)
        number = int(rng.choice(sorted(window[0].objects)))
        radius = float(np.exp(rng.uniform(np.log(0.08), np.log(0.32))))
        matrices = random_placement(rng, window, number, radius, size)
        strength = 0.5 * self.config.augment.colour * (rng.random() < 0.6)
        return Sticker(window, number, matrices, random_colour_map(rng, strength))

    def _twin(
        self, rng: np.random.Generator, sticker: Sticker, sequence: CachedSequence, size: int
    ) -> Sticker:
        """The same object at another time and on another path."""
        window, number = sticker.frames, sticker.number
        if rng.random() < 0.7:
            other = random_window(rng, sequence, len(window), self.config.max_stride, 0.5)
            window = other if number in other[0].objects else window
        radius = sticker.radius / size * rng.uniform(0.8, 1.25)
        matrices = random_placement(rng, window, number, radius, size)
        return Sticker(window, number, matrices, sticker.colours)

    def _occluder(self, rng: np.random.Generator, frames: int) -> Body:
        """A bar or a small shape that passes."""
        if rng.random() < 0.5:
            shape, pose = shapes.bar(rng, frames), motion.bar_pose(rng, frames, 1.0)
        else:
            shape, radius = shapes.easy_shape(rng, frames), rng.uniform(0.06, 0.15)
            pose = motion.object_pose(rng, frames, radius, 1.5)
        return Body(shape, {0: self._wardrobe.skin(rng)}, pose, occluder=True)

    def _hide(self, rng: np.random.Generator, stickers: list[Sticker], size: int) -> Body:
        """Something that hides one of the stickers for a while; moves it behind a wall."""
        index = int(rng.integers(len(stickers)))
        sticker = stickers[index]
        centres, radius = sticker.centres() / size, _REACH * sticker.radius / size
        if not hiding.goes_behind_wall(rng, radius):
            return hiding.screen(rng, self._wardrobe, centres, radius)
        passage = hiding.passage(rng, self._wardrobe, centres, radius)
        matrices = sticker.matrices.copy()
        matrices[..., 2] += size * passage.shift
        stickers[index] = replace(sticker, matrices=matrices)
        return passage.wall


def _with_camera(rng: np.random.Generator, views: list[View]) -> list[View]:
    """``views`` of a still frame as a moving camera sees it."""
    size = views[0].size
    camera = compose(motion.camera(rng, len(views), 1.0), stretch(1 / size, 1 / size))
    moved = compose(stretch(size, size), camera)
    return [
        replace(view, matrix=compose(matrix, view.matrix))
        for view, matrix in zip(views, moved, strict=True)
    ]


def _assemble(
    window: list[CachedFrame],
    views: list[View],
    kept: int | None,
    stickers: list[Sticker],
    occluders: list[Body],
) -> tuple[list[Frames], Labels]:
    """Frames, and labels [T, size, size]: 1 is the kept object, 2 and above the stickers."""
    size = views[0].size
    labels = np.zeros((len(window), size, size), np.uint8)
    images, cache = [], SkinCache()
    front = [place(body, stretch(size, size)) for body in occluders]
    for time, (frame, view) in enumerate(zip(window, views, strict=True)):
        image = view.image(frame.image)
        if kept is not None and kept in frame.objects:
            labels[time][covered(view.coverage(frame.objects[kept]))] = 1
        for number, sticker in enumerate(stickers, 2):
            sticker.paste(image, labels[time], time, number)
        for body in front:
            body.draw(image, labels[time], time, 0, cache)
        images.append(image)
    return images, labels


def _visible(labels: Labels, min_area: float, most: int) -> list[int]:
    """The numbers 1 .. most that cover the share ``min_area`` of ``labels``."""
    areas = np.bincount(labels.ravel(), minlength=most + 1)[1 : most + 1]
    return [int(n) + 1 for n in np.flatnonzero(areas >= max(min_area * labels.size, 1))]
