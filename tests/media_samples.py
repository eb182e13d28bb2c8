"""Tiny videos, folders and images for tests; every frame shows its own number."""

from __future__ import annotations

import wave
from pathlib import Path

import av
import numpy as np
from PIL import Image

from qsam2_deploy._rgb import RgbDecoder

HEIGHT, WIDTH = 48, 64
REORDERED = {"g": "12", "bf": "3", "b-adapt": "0", "sc_threshold": "0"}
OPEN_GOP = {"x264-params": "keyint=12:bframes=3:b-adapt=0:open-gop=1:scenecut=0"}


def frame_image(index: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Return uint8 ``[height, width, 3]`` whose upper left block and background tell ``index``."""
    image = np.zeros((height, width, 3), dtype=np.uint8)
    image[:, :, 2] = 40
    # Six bits of the number as bright or dark blocks: compression cannot blur them.
    for bit in range(6):
        if index >> bit & 1:
            image[: height // 2, bit * width // 6 : (bit + 1) * width // 6] = 220
    image[height // 2 :, : 1 + (index * 3) % width] = (200, 60, 30)
    return image


def frame_number(image: np.ndarray) -> int:
    """Return the number that :func:`frame_image` drew."""
    height, width = image.shape[:2]
    bits = 0
    for bit in range(6):
        block = image[2 : height // 2 - 2, bit * width // 6 + 2 : (bit + 1) * width // 6 - 2]
        bits |= int(block.mean() > 100) << bit
    return bits


def write_video(
    path: Path,
    frames: int = 30,
    *,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    rotation: int | None = None,
    rate: int = 25,
    height: int = HEIGHT,
    width: int = WIDTH,
) -> Path:
    """Write a numbered video (numbers below 64)."""
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        if rotation is not None:
            stream.set_display_rotation(rotation)
        for index in range(frames):
            image = frame_image(index, height, width)
            picture = av.VideoFrame.from_ndarray(image, format="rgb24")
            for packet in stream.encode(picture):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def write_cut_video(path: Path, frames: int = 60) -> Path:
    """Write a video whose last third is missing."""
    whole = path.with_name("whole.mp4")
    write_video(whole, frames, options=REORDERED, container_options={"movflags": "faststart"})
    data = whole.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    return path


def write_sound(path: Path) -> Path:
    """Write a WAV file."""
    with wave.open(str(path), "wb") as stream:
        stream.setnchannels(1)
        stream.setsampwidth(2)
        stream.setframerate(8000)
        stream.writeframes(bytes(16000))
    return path


def write_folder(folder: Path, names: list[str], height: int = HEIGHT, width: int = WIDTH) -> Path:
    """Write numbered images under ``names`` in that order."""
    folder.mkdir(exist_ok=True)
    for index, name in enumerate(names):
        Image.fromarray(frame_image(index, height, width)).save(folder / name, quality=95)
    return folder


def decode_all(path: Path) -> list[np.ndarray]:
    """Decode a video file plainly; of this package only the colours are used."""
    to_rgb = RgbDecoder()
    with av.open(str(path)) as container:
        return [to_rgb(frame) for frame in container.decode(video=0)]
