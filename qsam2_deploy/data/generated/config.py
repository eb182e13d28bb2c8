"""Settings of the generated clips."""

from __future__ import annotations

from dataclasses import dataclass

from .._checks import require_least, require_within


@dataclass(frozen=True)
class GeneratedClipsConfig:
    """What the scenes are like.

    Attributes:
        seed: of every random choice.
        max_objects: most annotated objects in a clip; scenes hold others, not annotated.
        easy: share of clips with few, large, slow objects of one colour on a plain background;
            a model trained from scratch needs them at the start.
        speed: factor on every motion of objects and camera.
        textures: number of procedural textures.
        photo_share: share of textures cut from photos, where photos are given.
        min_area: least visible area of an annotated object in the first frame, as a share of the
            frame.
        hidden: share of clips of 4 frames or more in which something passes in front of an object
            and hides it for some frames.

    Raises:
        InputError: a value is outside its range.
    """

    seed: int = 0
    max_objects: int = 3
    easy: float = 0.0
    speed: float = 1.0
    textures: int = 300
    photo_share: float = 0.5
    min_area: float = 0.004
    hidden: float = 0.0

    def __post_init__(self) -> None:
        require_least(self, 0, "seed")
        require_least(self, 1, "max_objects", "textures")
        require_within(self, 0.0, 1.0, "easy", "photo_share", "hidden")
        require_within(self, 0.0, 0.05, "min_area")
        require_within(self, 0.0, 10.0, "speed")
