"""The source of generated clips."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..changes.affine import magnification
from ..changes.attempts import first_usable
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

    def with_shares(self, *, easy: float, hidden: float | None = None) -> GeneratedClips:
        """Return the source with other shares, None for its own; textures are shared."""
        other = copy.copy(self)
        kept = self.config.hidden if hidden is None else hidden
        other.config = replace(self.config, easy=easy, hidden=kept)
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
            hidden = int(rng.choice(numbers))
            scene = self._hide(rng, scene, hidden)
            numbers = self._annotated(rng, scene)  # a wall can hide objects in the first frame
            if hidden not in numbers:
                return None
        return scene, numbers

    def _hide(self, rng: np.random.Generator, scene: Scene, number: int) -> Scene:
        """``scene`` with something that hides body ``number`` for a while."""
        bodies = list(scene.bodies)
        body = bodies[number - 1]
        radius = _REACH * float(magnification(body.pose).max())
        centres = body.pose[..., 2]
        if hiding.goes_behind_wall(rng, radius):
            passage = hiding.passage(rng, self._wardrobe, centres, radius)
            pose = body.pose.copy()
            pose[..., 2] += passage.shift
            bodies[number - 1] = replace(body, pose=pose)
            bodies.append(passage.wall)
        else:
            bodies.append(hiding.screen(rng, self._wardrobe, centres, radius))
        return replace(scene, bodies=tuple(bodies))

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
