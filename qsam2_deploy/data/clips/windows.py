"""Training clips from annotated videos: random windows, augmented."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from .._checks import require_least, require_within
from ..cache import CachedFrame, CachedSequence, SequenceCache, as_cache, object_centres
from ..changes.affine import apply, magnification, stretch
from ..changes.attempts import first_usable
from ..changes.augment import (
    AugmentConfig,
    View,
    finish,
    random_colours,
    random_spoiling,
    random_views,
)
from ..changes.layers import covered
from ..generated import hiding
from ..generated.placed import SkinCache, place
from ..generated.skins import procedural_wardrobe
from ..sample import Clip, Frames, Masks, VideoSequence

_REACH = 1.2  # of a screen, times the object's radius: the corners of its box are further away
_Clips = TypeVar("_Clips", bound="SequenceClips")
LONG_CLIP = 8  # frames above which a window takes every annotated frame


@dataclass(frozen=True)
class SequenceWindowsConfig:
    """How windows are chosen.

    Attributes:
        seed: of every random choice.
        max_objects: most objects in a clip.
        max_stride: largest step between frames, in annotated frames; clips of more than 8 frames
            have step 1.
        reverse: share of clips that run backwards.
        min_area: least visible area of an object in the first frame, as a share of the frame.
        hidden: share of clips of 4 frames or more in which something generated passes in front of
            an object and hides it for some frames.
        short_side: frames are kept in memory with at most this many pixels on the shorter side.
        memory_mb: MiB of frames to keep in memory, in each process that makes clips.
        augment: changes of geometry and colour.

    Raises:
        InputError: a value is outside its range.
    """

    seed: int = 0
    max_objects: int = 3
    max_stride: int = 3
    reverse: float = 0.5
    min_area: float = 0.001
    hidden: float = 0.0
    short_side: int = 360
    memory_mb: int = 1024
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    def __post_init__(self) -> None:
        require_least(self, 0, "seed")
        require_least(self, 1, "max_objects", "max_stride", "short_side", "memory_mb")
        require_within(self, 0.0, 1.0, "reverse", "hidden")
        require_within(self, 0.0, 0.05, "min_area")


def random_window(
    rng: np.random.Generator, sequence: CachedSequence, frames: int, max_stride: int, reverse: float
) -> list[CachedFrame]:
    """Return ``frames`` annotated frames in order; their first one shows an object.

    A sequence that is too short is run through to and fro.
    """
    count = len(sequence)
    start = int(rng.choice(sequence.starts()))
    stride = int(rng.integers(1, max_stride + 1)) if frames <= LONG_CLIP else 1
    stride = max(1, min(stride, (count - 1) // max(frames - 1, 1)))
    step = -stride if rng.random() < reverse else stride
    last = start + step * (frames - 1)
    if not 0 <= last < count:
        step = -step
        last = start + step * (frames - 1)
    indices = start + step * np.arange(frames)
    if not 0 <= last < count:
        indices = _to_and_fro(indices, count)
    return sequence.frames([int(i) for i in indices])


def _to_and_fro(indices: npt.NDArray[np.int_], count: int) -> npt.NDArray[np.int_]:
    """Reflect indices at the ends of a sequence."""
    period = max(2 * (count - 1), 1)
    inside = np.mod(indices, period)
    return np.where(inside < count, inside, period - inside)


class SequenceClips(ABC):
    """Clips that are drawn from annotated videos until one shows an object in its first frame.

    Attributes:
        config: a dataclass that has at least ``seed``, ``hidden`` and ``short_side``.
    """

    config: Any

    def __init__(
        self, sequences: Sequence[VideoSequence] | SequenceCache, config: object, *limit: int
    ) -> None:
        """Read nothing yet; a ``SequenceCache`` is shared with other sources.

        Raises:
            InputError: there is no sequence.
        """
        self.config = config
        self._cache = as_cache(sequences, self.config.short_side, *limit)
        self._wardrobe = procedural_wardrobe(self.config.seed)

    def with_shares(self: _Clips, *, easy: float, hidden: float | None = None) -> _Clips:  # noqa: ARG002
        """Return the source with another share of hidden objects, None for its own."""
        other = copy.copy(self)
        kept = self.config.hidden if hidden is None else hidden
        other.config = replace(self.config, hidden=kept)
        return other

    def clip(self, index: int, *, frames: int, size: int) -> Clip:
        """Return clip ``index``: ``frames`` frames of ``size`` x ``size`` pixels.

        Raises:
            VideoError: the objects are too small for ``min_area``.
        """
        rng = np.random.default_rng((self.config.seed, index))
        return first_usable(
            lambda: self._attempt(rng, frames, size), "an object in its first frame"
        )

    @abstractmethod
    def _attempt(self, rng: np.random.Generator, frames: int, size: int) -> Clip | None:
        """A random clip; None if no object is seen in its first frame."""


class SequenceWindows(SequenceClips):
    """A ``ClipSource`` of windows of real annotated videos and images."""

    config: SequenceWindowsConfig

    def __init__(
        self,
        sequences: Sequence[VideoSequence] | SequenceCache,
        config: SequenceWindowsConfig | None = None,
    ) -> None:
        """Read nothing yet; see :class:`SequenceClips`."""
        config = config or SequenceWindowsConfig()
        super().__init__(sequences, config, config.memory_mb << 20)

    def _attempt(self, rng: np.random.Generator, frames: int, size: int) -> Clip | None:
        config = self.config
        sequence = self._cache.sequence(self._cache.pick(rng))
        window = random_window(rng, sequence, frames, config.max_stride, config.reverse)
        views = random_views(
            rng, config.augment, frame_size=window[0].size,
            focus=random_focus(rng, window[0]), frames=frames, size=size,
        )  # fmt: skip
        colours = random_colours(rng, config.augment, frames)
        spoiling = random_spoiling(rng, config.augment, size)
        numbers = [n for n in window[0].objects if self._seen(window[0], n, views[0])]
        if not numbers:
            return None
        rng.shuffle(numbers)
        masks = masks_in(window, views, numbers[: config.max_objects])
        images = [view.image(frame.image) for view, frame in zip(views, window, strict=True)]
        if frames >= hiding.MIN_FRAMES and rng.random() < config.hidden:
            self._hide(rng, window, views, numbers[0], images, masks)
        return Clip(finish(rng, images, colours, spoiling), masks, sequence.name)

    def _hide(
        self,
        rng: np.random.Generator,
        window: list[CachedFrame],
        views: list[View],
        number: int,
        images: list[Frames],
        masks: Masks,
    ) -> None:
        """Let something pass in front of object ``number``, in ``images`` and ``masks``."""
        size = views[0].size
        matrices = np.stack([view.matrix for view in views])
        centres = apply(matrices, object_centres(window, number)[:, None])[:, 0]
        radii = [f.objects[number].radius for f in window if number in f.objects]
        radius = _REACH * max(radii) * float(magnification(matrices).max())
        body = hiding.screen(rng, self._wardrobe, centres / size, radius / size)
        screen, cache = place(body, stretch(size, size)), SkinCache()
        for time, image in enumerate(images):
            seen = np.ones((size, size), np.uint8)
            screen.draw(image, seen, time, 0, cache)
            masks[time] &= seen > 0

    def _seen(self, frame: CachedFrame, number: int, view: View) -> bool:
        area = int(np.count_nonzero(covered(view.coverage(frame.objects[number]))))
        return bool(area >= max(self.config.min_area * view.size**2, 1))


def random_focus(rng: np.random.Generator, frame: CachedFrame) -> tuple[float, float]:
    """Return a random point, x and y in pixels, of a random object."""
    cutout = frame.objects[int(rng.choice(sorted(frame.objects)))]
    ys, xs = np.nonzero(cutout.coverage > 127)
    pick = int(rng.integers(len(xs)))
    return cutout.x0 + xs[pick] + 0.5, cutout.y0 + ys[pick] + 0.5


def masks_in(window: list[CachedFrame], views: list[View], numbers: list[int]) -> Masks:
    """Return the masks [T, N, size, size] of the objects ``numbers``."""
    size = views[0].size
    masks = np.zeros((len(window), len(numbers), size, size), np.bool_)
    for time, (frame, view) in enumerate(zip(window, views, strict=True)):
        for slot, number in enumerate(numbers):
            if number in frame.objects:
                masks[time, slot] = covered(view.coverage(frame.objects[number]))
    return masks
