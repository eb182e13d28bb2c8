"""The source of generated clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..affine import magnification
from ..attempts import first_usable
from ..sample import Clip, Frames
from . import hiding
from .config import GeneratedClipsConfig
from .render import first_labels, render
from .scene import Scene, random_scene
from .skins import Wardrobe
from .textures import TextureBank

# Objects are chosen at this size, whatever the size of the clip, so that the same index holds the
# same objects at every size.
_PROBE_SIDE = 128
_REACH = 1.4  # most shapes lie within this circle
_PROBE_EXCESS = 1.2  # on the least area: rounding at other sizes must not bring it below


class GeneratedClips:
    """A ``ClipSource`` of generated scenes with exact masks."""

    def __init__(self, config: GeneratedClipsConfig, photos: Sequence[Frames] = ()) -> None:
        """Take ``photos``, each [H, W, 3] uint8 RGB, for backgrounds and skins.

        They are looked at when a clip needs them, so that they can be read lazily.
        """
        self.config = config
        bank = TextureBank(config.seed, config.textures)
        self._wardrobe = Wardrobe(bank, photos, config.photo_share)

    def with_easy(self, share: float) -> GeneratedClips:
        """Return the same source with another share of easy clips; textures are shared."""
        other = GeneratedClips.__new__(GeneratedClips)
        other.config = replace(self.config, easy=share)
        other._wardrobe = self._wardrobe  # noqa: SLF001
        return other

    def clip(self, index: int, *, frames: int, size: int) -> Clip:
        """Return clip ``index``: ``frames`` frames of ``size`` x ``size`` pixels.

        Raises:
            VideoError: the objects are too small for ``min_area``, or a photo has another shape or
                dtype than it must have, or is damaged.
        """
        rng = np.random.default_rng((self.config.seed, index))
        scene, numbers = first_usable(
            lambda: self._visible_scene(rng, frames), "an object in its first frame"
        )
        images, labels = render(rng, scene, size)
        masks = labels[:, None] == np.array(numbers, np.uint8)[:, None, None]
        return Clip(images, masks, f"generated clip {index}")

    def _visible_scene(
        self, rng: np.random.Generator, frames: int
    ) -> tuple[Scene, list[int]] | None:
        """A scene with the labels of the objects to annotate; None if all are too small."""
        scene = random_scene(rng, self._wardrobe, self.config, frames)
        numbers = self._annotated(rng, scene)
        if not numbers:
            return None
        if frames >= hiding.MIN_FRAMES and rng.random() < self.config.hidden:
            scene = self._with_screen(rng, scene, int(rng.choice(numbers)))
        return scene, numbers

    def _with_screen(self, rng: np.random.Generator, scene: Scene, number: int) -> Scene:
        """``scene`` with a screen that hides body ``number`` for a while."""
        pose = scene.bodies[number - 1].pose
        radius = _REACH * float(magnification(pose).max())
        screen = hiding.screen(rng, self._wardrobe, pose[..., 2], radius)
        return replace(scene, bodies=(*scene.bodies, screen))

    def _annotated(self, rng: np.random.Generator, scene: Scene) -> list[int]:
        areas = np.bincount(first_labels(scene, _PROBE_SIDE).ravel(), minlength=256)
        least = _PROBE_EXCESS * self.config.min_area * _PROBE_SIDE**2
        seen = [
            number
            for number, body in enumerate(scene.bodies, 1)
            if areas[number] >= max(least, 1) and not body.occluder
        ]
        rng.shuffle(seen)
        return seen[: self.config.max_objects]
