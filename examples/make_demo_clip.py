"""Draw the clip that the demo tracks: a clownfish swims past behind a column of rock.

    python examples/make_demo_clip.py            # writes to assets/

The scene is composed of the pieces of the generated training clips, so the mask of the fish is
exact in every frame. The column hides up to half of the fish and cuts it in two, while another fish
of the same kind is in sight.
The demo reads the files that this wrote; it does not need OpenCV, which this does.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from _clip import FPS, MASKS, VIDEO
from _fish import fish, fish_skins
from _reef import FLOOR, backdrop, boulder, coral, pillar, weed

from qsam2_deploy.data.changes.affine import Affine, about, compose, similarity
from qsam2_deploy.data.generated.render import render
from qsam2_deploy.data.generated.scene import Body, Look, Scene, Shadow
from qsam2_deploy.data.generated.skins import Skin
from qsam2_deploy.media.writing.image_writer import write_indexed_png
from qsam2_deploy.media.writing.video_writer import VideoWriter

FRAMES = 80
WIDTH, HEIGHT = 640, 360
SUPERSAMPLING = 2
SEED = 5
SLENDER = 0.25  # width of the column, as a share of the one that hides the whole fish

Frames = npt.NDArray[np.uint8]
Masks = npt.NDArray[np.bool_]


def main(argv: list[str] | None = None) -> None:
    """Draw the clip and write the video and one mask per frame."""
    parser = argparse.ArgumentParser(description="Draw the clip of the demo.")
    parser.add_argument("--video", type=Path, default=VIDEO)
    parser.add_argument("--masks", type=Path, default=MASKS)
    args = parser.parse_args(argv)
    frames, masks = draw()
    args.masks.mkdir(parents=True, exist_ok=True)
    with VideoWriter(args.video, height=HEIGHT, width=WIDTH, fps=FPS) as video:
        for index, (frame, mask) in enumerate(zip(frames, masks, strict=True)):
            video.write(frame)
            write_indexed_png(args.masks / f"{index:05d}.png", mask.astype(np.uint8))


def draw(frames: int = FRAMES, supersampling: int = SUPERSAMPLING) -> tuple[Frames, Masks]:
    """Return frames [T, 360, 640, 3] and the masks [T, 360, 640] of the fish to track."""
    rng = np.random.default_rng(SEED)
    scene, number = compose_scene(rng, frames)
    pictures, labels = render(rng, scene, WIDTH * supersampling)
    top = (WIDTH - HEIGHT) // 2 * supersampling  # a square is drawn, and a band of it is kept
    rows = slice(top, top + HEIGHT * supersampling)
    masks = _shrunk(labels[:, rows] == number, supersampling) >= 0.5
    return np.stack(list(_graded(pictures[:, rows], supersampling))), masks


def compose_scene(rng: np.random.Generator, frames: int) -> tuple[Scene, int]:
    """Return the scene and the number of the fish to track among its bodies, from 1."""
    share = np.linspace(0.0, 1.0, frames)
    camera = _camera(share)
    behind = [*_school(frames, share), _other_fish(frames, share), _fish(frames, share)]
    front = [
        pillar(rng, similarity(np.full(frames, 0.45), 0.02, np.array([0.52, 0.5]), SLENDER)),
        weed(rng, frames, (0.36, 0.79), 0.24, [70, 128, 60], 6),
        weed(rng, frames, (0.68, 0.80), 0.20, [98, 140, 56], 5),
        weed(rng, frames, (0.00, 0.86), 0.34, [44, 96, 62], 7),
        weed(rng, frames, (1.03, 0.85), 0.36, [40, 88, 66], 7),
    ]
    bodies = [_seen(body, camera) for body in behind]
    bodies += [_seen(body, _nearer(camera)) for body in front]
    scene = Scene(
        backdrop=backdrop(rng),
        clutter=_clutter(rng),
        camera=camera,
        bodies=tuple(bodies),
        look=Look(1.0 + 0.02 * np.sin(0.21 * np.arange(frames)), grain=2.0, shutter=0.3),
        shadow=Shadow(shift=(0.012, 0.04), softness=0.03, strength=0.15),
    )
    return scene, len(behind)


def _camera(share: npt.NDArray[np.float64]) -> Affine:
    """A slow pan to the right with the sway of a diver, [T, 2, 3]."""
    sway = np.stack([0.006 * np.sin(7 * share), 0.005 * np.sin(9 * share + 1)], -1)
    pan = np.stack([-0.035 * share, 0.0 * share], -1)
    roll = 0.006 * np.sin(5 * share)
    moved = about((0.5, 0.5), similarity(1.0 + 0.03 * share, roll, np.zeros(2)))
    moved[..., 2] += sway + pan
    return moved


def _nearer(camera: Affine) -> Affine:
    """What the camera's motion does to things in the foreground."""
    moved = camera.copy()
    moved[..., 2] += 0.5 * (camera[..., 2] - camera[:1, :, 2])
    return moved


def _seen(body: Body, camera: Affine) -> Body:
    return Body(body.shape, body.skins, compose(camera, body.pose), body.occluder)


def _fish(frames: int, share: npt.NDArray[np.float64]) -> Body:
    """The one to track: from the left to the right, behind the pillar."""
    x = 0.16 + 0.74 * share
    y = 0.50 + 0.030 * np.sin(2 * np.pi * share * 1.1) - 0.02 * share
    return Body(fish(frames), fish_skins(1), _swim(x, y, 0.089 + 0.004 * share))


def _other_fish(frames: int, share: npt.NDArray[np.float64]) -> Body:
    """Its look-alike: it comes in from the left, and is in sight while the first is half hidden."""
    x = -0.11 + 0.36 * share
    y = 0.345 + 0.015 * np.sin(2 * np.pi * share + 2)
    return Body(fish(frames, 0.4, 2.0), fish_skins(2), _swim(x, y, 0.066 + 0.0 * share))


def _school(frames: int, share: npt.NDArray[np.float64]) -> Iterator[Body]:
    """Small blue fish, far away, that swim to the left."""
    rng = np.random.default_rng(11)
    skins = {material: _blue(skin) for material, skin in fish_skins(3).items()}
    for _ in range(9):
        x = 0.80 + rng.normal(0, 0.085) - (0.13 + rng.normal(0, 0.01)) * share
        y = 0.36 + rng.normal(0, 0.035) + 0.008 * np.sin(6 * share + rng.uniform(0, 6))
        size = np.full(frames, rng.uniform(0.013, 0.019))
        pose = _swim(x, y, size)
        pose[..., 0] *= -1  # mirrored: it faces to the left
        yield Body(fish(frames, 0.7, rng.uniform(0, 6)), skins, pose)


def _blue(skin: Skin) -> Skin:
    """The skin as it looks through a lot of water."""
    grey = skin.source.mean(-1, keepdims=True)
    colours = np.array([60, 120, 160]) + 0.45 * (grey - 110)
    return Skin(np.clip(colours, 0, 255).astype(np.uint8))


def _swim(
    x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], radius: npt.NDArray[np.float64]
) -> Affine:
    """Poses [T, 2, 3] along a path, the nose pointing where the fish goes."""
    rise = np.arctan2(np.gradient(y), np.abs(np.gradient(x)))
    return similarity(radius, 0.7 * rise, np.stack([x, y], -1))


def _clutter(rng: np.random.Generator) -> tuple[Body, ...]:
    """Rocks and corals that are painted on the backdrop."""

    def rock(x: float, y: float, size: float, colour: list[int]) -> Body:
        return boulder(rng, similarity(np.full(1, size), 0.0, np.array([[x, y]])), colour)

    return (
        coral(rng, (0.86, FLOOR + 0.03), 0.14, [196, 92, 120]),
        coral(rng, (0.17, FLOOR + 0.03), 0.12, [150, 110, 170]),
        rock(0.90, FLOOR + 0.05, 0.10, [96, 98, 92]),
        rock(0.20, FLOOR + 0.05, 0.13, [88, 92, 90]),
        coral(rng, (0.29, FLOOR + 0.07), 0.09, [176, 196, 204]),
        rock(0.74, FLOOR + 0.08, 0.06, [120, 112, 96]),
    )


def _graded(pictures: Frames, supersampling: int) -> Iterator[Frames]:
    """Yield finished frames [360, 640, 3]: moving light from above and darker corners."""
    y, x = np.mgrid[0 : 1 : HEIGHT * 1j, 0 : 1 : WIDTH * 1j].astype(np.float32)
    corners = 1.06 - 0.42 * ((x - 0.5) ** 2 + (y - 0.45) ** 2)
    for time, picture in enumerate(pictures):
        small = _shrunk(picture[None], supersampling)[0]
        slant = x + 0.25 * y
        rays = np.sin(9 * slant + 0.05 * time) * np.sin(23 * slant - 0.07 * time + 1)
        light = corners * (1.0 + 0.07 * rays * (1.2 - y))
        yield np.clip(np.round(small * light[..., None]), 0, 255).astype(np.uint8)


def _shrunk(pictures: npt.NDArray[np.generic], factor: int) -> npt.NDArray[np.float32]:
    """Average blocks of ``factor`` x ``factor`` pixels of [T, H, W, ...]."""
    count, height, width, *rest = pictures.shape
    blocks = pictures.reshape(count, height // factor, factor, width // factor, factor, *rest)
    return blocks.mean((2, 4), dtype=np.float32)


if __name__ == "__main__":
    main()
