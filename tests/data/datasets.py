"""Small datasets on disk in the layouts of the readers."""

from pathlib import Path

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 48, 64


def square(x, y, side=16, value=1):
    """Return labels [HEIGHT, WIDTH] with one square."""
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[max(0, y) : y + side, max(0, x) : x + side] = value
    return labels


def frame(index, labels=None):
    """Return an RGB frame on which the objects are bright."""
    rng = np.random.default_rng(index)
    shape = (HEIGHT, WIDTH) if labels is None else labels.shape
    pixels = rng.integers(0, 90, (*shape, 3), np.uint8)
    if labels is not None:
        pixels[labels > 0] += 140
    return pixels


def write_image(path, pixels, palette=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    if palette:
        image.putpalette(bytes(range(256)) * 3)
    image.save(path, quality=95) if path.suffix == ".jpg" else image.save(path)
    return path


def write_frames(folder, labels, suffix=".jpg"):
    for index, item in enumerate(labels):
        write_image(folder / f"{index:05d}{suffix}", frame(index, item))


def write_davis(root, sequences, *, palette=True, resolution="480p"):
    """Write sequences, ``{name: [labels, ...]}``."""
    root = Path(root)
    for name, labels in sequences.items():
        write_frames(root / "JPEGImages" / resolution / name, labels)
        for index, item in enumerate(labels):
            path = root / "Annotations" / resolution / name / f"{index:05d}.png"
            write_image(path, item, palette=palette)
    return root


def write_sav(root, videos, frames):
    """Write videos, ``{name: {object id: {frame: labels}}}``."""
    root = Path(root)
    for name, objects in videos.items():
        write_frames(root / "JPEGImages_24fps" / name, [None] * frames)
        for object_id, masks in objects.items():
            for index, item in masks.items():
                folder = root / "Annotations_6fps" / name / f"{object_id:03d}"
                write_image(folder / f"{index:05d}.png", item, palette=True)
    return root


def moving(frames, step=2, value=1):
    """Return labels of a square that moves to the right."""
    return [square(4 + step * index, 12, value=value) for index in range(frames)]
