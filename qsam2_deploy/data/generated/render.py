"""Rendering of scenes at any resolution, with the exact visible pixels of every body."""

from __future__ import annotations

import numpy as np

from .._opencv import opencv
from ..changes.affine import Affine, compose, magnification, pixel_matrix, stretch
from ..changes.layers import box_between, darken
from ..sample import Frames
from .placed import Labels, PlacedBody, SkinCache, Vector, place
from .scene import MARGIN, Body, Look, Scene, Shadow


def _draw_shadow(frame: Frames, body: PlacedBody, time: int, shadow: Shadow) -> None:
    cv2 = opencv()
    side = frame.shape[0]
    shift = side * np.array(shadow.shift)
    width = max(int(side * shadow.softness), 1) | 1
    low = np.min([piece.low[time] for piece in body.pieces], 0) + shift
    high = np.max([piece.high[time] for piece in body.pieces], 0) + shift
    box = box_between(low, high, (side, side), 2 * width)
    if box.empty:
        return
    coverage = np.zeros(box.size, np.uint8)
    for piece in body.pieces:
        coverage = cv2.max(coverage, piece.coverage(time, box, shift))
    for _ in range(2):
        coverage = cv2.blur(coverage, (width, width), borderType=cv2.BORDER_CONSTANT)
    darken(frame, box, coverage, shadow.strength)


def _world(scene: Scene, size: int) -> Frames:
    """The backdrop with its clutter: [C, C, 3], C = (1 + 2 MARGIN) size."""
    side = round(size * (1 + 2 * MARGIN))
    canvas = scene.backdrop.image(side)
    scale = side / (1 + 2 * MARGIN)
    matrix = stretch(scale, scale, scale * MARGIN, scale * MARGIN)
    cache = SkinCache()
    for body in scene.clutter:
        place(body, matrix).draw(canvas, None, 0, 0, cache)
    return canvas


def _seen_by(camera: Affine, world: Frames, size: int) -> Frames:
    """What the camera [2, 3] sees of the world: [size, size, 3]."""
    cv2 = opencv()
    unit = (1 + 2 * MARGIN) / world.shape[0]
    seen = compose(stretch(size, size), compose(camera, stretch(unit, unit, -MARGIN, -MARGIN)))
    frame: Frames = cv2.warpAffine(
        world, pixel_matrix(seen), (size, size),
        flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101,
    )  # fmt: skip
    return frame


def _smear_of(body: Body, time: int, size: int, shutter: float) -> Vector | None:
    """Motion blur of a body in pixels, at most half its radius; None below one pixel."""
    pose = body.pose
    if shutter == 0.0 or len(pose) == 1:
        return None
    before, after = max(time - 1, 0), min(time + 1, len(pose) - 1)
    smear = (pose[after, :, 2] - pose[before, :, 2]) * (shutter * size / (after - before))
    length = np.hypot(*smear)
    limit = 0.5 * size * magnification(pose[time])
    return np.asarray(smear * min(1.0, limit / length)) if length >= 1.0 else None


def _expose(rng: np.random.Generator, frame: Frames, look: Look, time: int) -> Frames:
    """``frame`` [H, W, 3] with the light, blur and grain of ``look``."""
    cv2 = opencv()
    if look.blur:
        frame = cv2.GaussianBlur(frame, (0, 0), look.blur * frame.shape[0])
    gain = float(look.gain[time])
    if look.grain:
        grain = np.frombuffer(rng.bytes(frame.size), np.uint8).reshape(frame.shape)
        strength = look.grain / 128
        return np.asarray(cv2.addWeighted(frame, gain, grain, strength, -127.5 * strength))
    return frame if gain == 1.0 else np.asarray(cv2.convertScaleAbs(frame, alpha=gain))


def render(rng: np.random.Generator, scene: Scene, size: int) -> tuple[Frames, Labels]:
    """Return frames [T, size, size, 3] and labels [T, size, size] of a scene.

    ``rng`` makes the grain alone.
    """
    count = len(scene.camera)
    frames = np.empty((count, size, size, 3), np.uint8)
    labels = np.zeros((count, size, size), np.uint8)
    world, cache = _world(scene, size), SkinCache()
    placed = [place(body, stretch(size, size)) for body in scene.bodies]
    for time in range(count):
        frame = _seen_by(scene.camera[time], world, size)
        for number, (body, pixels) in enumerate(zip(scene.bodies, placed, strict=True), 1):
            if scene.shadow is not None:
                _draw_shadow(frame, pixels, time, scene.shadow)
            smear = _smear_of(body, time, size, scene.look.shutter)
            pixels.draw(frame, labels[time], time, number, cache, smear)
        frames[time] = _expose(rng, frame, scene.look, time)
    return frames, labels


def first_labels(scene: Scene, size: int) -> Labels:
    """Return the labels [size, size] of the first frame, without any colours."""
    labels = np.zeros((size, size), np.uint8)
    for number, body in enumerate(scene.bodies, 1):
        place(body, stretch(size, size), slice(0, 1)).draw_labels(labels, 0, number)
    return labels
