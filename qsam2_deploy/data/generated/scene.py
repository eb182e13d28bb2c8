"""Scenes: everything about a clip that does not depend on its resolution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..changes.affine import Affine, compose
from . import motion, shapes
from .config import GeneratedClipsConfig
from .shapes import Shape
from .skins import Skin, Wardrobe

Curve = npt.NDArray[np.float64]

_ALIKE = 0.4
MARGIN = 0.3  # of the frame's side, what the backdrop shows beyond each edge of the first frame


@dataclass(frozen=True)
class Body:
    """A shape with looks and a motion.

    Attributes:
        shape: its pieces, painted in this order.
        skins: by material of the pieces.
        pose: [T, 2, 3] map from the shape to the frame, whose side is 1.
        occluder: passes in front and is never annotated.
    """

    shape: Shape
    skins: dict[int, Skin]
    pose: Affine
    occluder: bool = False


@dataclass(frozen=True)
class Shadow:
    """Soft shadows: shift [2] and softness as shares of the frame's side, strength 0 .. 1."""

    shift: tuple[float, float]
    softness: float
    strength: float


@dataclass(frozen=True)
class Look:
    """What the camera does to the light.

    Attributes:
        gain: [T] factor.
        blur: standard deviation, as a share of the frame's side.
        grain: half width of the uniform noise, 0 .. 255 scale.
        shutter: share of the time between two frames in which moving objects smear.
    """

    gain: Curve
    blur: float = 0.0
    grain: float = 0.0
    shutter: float = 0.0


@dataclass(frozen=True)
class Scene:
    """A whole clip; later bodies hide earlier ones.

    Attributes:
        backdrop: covers the world from -MARGIN to 1 + MARGIN.
        clutter: bodies that are painted on the backdrop.
        camera: [T, 2, 3] map from the world to the frame.
    """

    backdrop: Skin
    clutter: tuple[Body, ...]
    camera: Affine
    bodies: tuple[Body, ...]
    look: Look
    shadow: Shadow | None = None


def random_scene(
    rng: np.random.Generator, wardrobe: Wardrobe, config: GeneratedClipsConfig, frames: int
) -> Scene:
    """Return a scene of ``frames`` frames."""
    if rng.random() < config.easy:
        return _easy_scene(rng, wardrobe, config.speed, frames)
    camera = motion.camera(rng, frames, config.speed)
    bodies = _bodies(rng, wardrobe, config.speed, camera)
    clutter = tuple(_clutter(rng, wardrobe) for _ in range(int(rng.choice([0, 0, 2, 5]))))
    return Scene(
        backdrop=wardrobe.backdrop(rng),
        clutter=clutter,
        camera=camera,
        bodies=bodies,
        look=_look(rng, frames),
        shadow=_shadow(rng) if rng.random() < 0.3 else None,
    )


def _easy_scene(rng: np.random.Generator, wardrobe: Wardrobe, speed: float, frames: int) -> Scene:
    """Plain bodies on a plain backdrop; several, some alike, so that the prompt must decide."""
    backdrop, bodies = wardrobe.plain(rng), list[Body]()
    for _ in range(int(rng.integers(3, 7))):
        shape, radius = shapes.easy_shape(rng, frames), rng.uniform(0.10, 0.22)
        pose = motion.object_pose(rng, frames, radius, 0.4 * speed)
        alike = bodies and rng.random() < _ALIKE
        skins = bodies[-1].skins if alike else {0: wardrobe.plain(rng, unlike=backdrop)}
        bodies.append(Body(shape, skins, pose))
    still = shapes.still(frames)
    look = Look(np.ones(frames), grain=float(rng.choice([0.0, 4.0])))
    return Scene(backdrop, (), still, tuple(bodies), look)


def _skins(rng: np.random.Generator, wardrobe: Wardrobe, shape: Shape) -> dict[int, Skin]:
    return {material: wardrobe.skin(rng) for material in sorted({p.material for p in shape})}


def _bodies(
    rng: np.random.Generator, wardrobe: Wardrobe, speed: float, camera: Affine
) -> tuple[Body, ...]:
    """Two to five bodies, some of which look like the one before, and at times a bar."""
    frames, bodies = len(camera), list[Body]()
    for _ in range(int(rng.integers(2, 6))):
        radius = np.exp(rng.uniform(np.log(0.06), np.log(0.30)))
        if bodies and rng.random() < 0.18:
            body = _twin(rng, bodies[-1], radius, speed)
        else:
            shape = shapes.random_shape(rng, frames)
            pose = motion.object_pose(rng, frames, radius, speed)
            body = Body(shape, _skins(rng, wardrobe, shape), pose)
        bodies.append(body)
    for _ in range(int(rng.choice([0, 1, 2], p=[0.8, 0.14, 0.06]))):
        shape, pose = shapes.bar(rng, frames), motion.bar_pose(rng, frames, speed)
        bodies.append(Body(shape, _skins(rng, wardrobe, shape), pose, occluder=True))
    return tuple(_in_world(body, camera) if rng.random() < 0.5 else body for body in bodies)


def _in_world(body: Body, camera: Affine) -> Body:
    """``body`` with a pose that is meant in the world, not in the frame."""
    return Body(body.shape, body.skins, compose(camera, body.pose), body.occluder)


def _twin(rng: np.random.Generator, body: Body, radius: float, speed: float) -> Body:
    """Another body of the same skins, and mostly of the same shape and size."""
    frames, shape = len(body.pose), body.shape
    if rng.random() < 0.3:
        other = shapes.blob(rng, frames)
        shape = other if 0 in body.skins else shape
    else:
        radius = float(np.sqrt(np.abs(np.linalg.det(body.pose[0, :, :2]))))
    return Body(shape, body.skins, motion.object_pose(rng, frames, radius, speed))


def _clutter(rng: np.random.Generator, wardrobe: Wardrobe) -> Body:
    """A body that stands still in the world."""
    shape = shapes.random_shape(rng, 1)
    pose = motion.object_pose(rng, 1, rng.uniform(0.05, 0.35), 0.0)
    pose[..., 2] = rng.uniform(-MARGIN, 1 + MARGIN, 2)
    return Body(shape, _skins(rng, wardrobe, shape), pose)


def _look(rng: np.random.Generator, frames: int) -> Look:
    drift = np.cumsum(rng.normal(0, rng.choice([0.0, 0.01, 0.02]), frames))
    return Look(
        gain=np.exp(drift - drift[0]),
        blur=rng.uniform(0.001, 0.005) if rng.random() < 0.25 else 0.0,
        grain=float(rng.choice([0.0, 4.0, 12.0])),
        shutter=rng.uniform(0.2, 0.8) if rng.random() < 0.25 else 0.0,
    )


def _shadow(rng: np.random.Generator) -> Shadow:
    return Shadow(
        shift=(rng.normal(0, 0.03), rng.uniform(0.0, 0.06)),
        softness=rng.uniform(0.005, 0.03),
        strength=rng.uniform(0.15, 0.6),
    )
