"""Tiny videos, folders and images for tests; every frame shows its own number."""

import io
import math
import struct
import wave
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

from qsam2_deploy._common.rgb import RgbDecoder

HEIGHT, WIDTH = 48, 64
SOUND_RATE = 44100
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
    """Write a numbered video (numbers below 64).

    ``rotation``: degrees counterclockwise by which players turn it; for .mp4 files.
    """
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for index in range(frames):
            image = frame_image(index, height, width)
            picture = av.VideoFrame.from_ndarray(image, format="rgb24")
            for packet in stream.encode(picture):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    if rotation is not None:
        _set_display_matrix(path, rotation)
    return path


def write_large_video(path: Path, *, container_options: dict[str, str] | None = None) -> Path:
    """Write 15 frames of noise, more bytes than FFmpeg reads at once."""
    random = np.random.default_rng(0)
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream("mpeg4", rate=25, options={"b": "20M"})
        stream.height, stream.width, stream.pix_fmt = 144, 176, "yuv420p"
        for _ in range(15):
            noise = random.integers(0, 255, (144, 176, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24")))
        container.mux(stream.encode())
    assert path.stat().st_size > 200_000
    return path


def write_timed_video(
    path: Path,
    times: list[float],
    *,
    sound: float | None = None,
    sound_codec: str = "aac",
    pixel_aspect: Fraction | None = None,
) -> Path:
    """Write a numbered video whose frames are shown at ``times``, in seconds.

    ``sound``: seconds of a tone that rises, so that every moment of it can be told.
    """
    unit = Fraction(1, 25 if path.suffix == ".avi" else 1000)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"bf": "0"})
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        stream.codec_context.time_base = unit
        if pixel_aspect is not None:
            stream.codec_context.sample_aspect_ratio = pixel_aspect
        audio = None
        if sound is not None:
            rate = 48000 if sound_codec == "libopus" else SOUND_RATE
            audio = container.add_stream(sound_codec, rate=rate, layout="mono")
        for index, time in enumerate(times):
            picture = av.VideoFrame.from_ndarray(frame_image(index), format="rgb24")
            picture.pts, picture.time_base = round(time / unit), unit
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
        if audio is not None:
            for frame in _tone(sound, audio.codec_context.format.name):
                container.mux(audio.encode(frame))
            container.mux(audio.encode())
    return path


def _tone(seconds: float, sample_format: str) -> Iterator[av.AudioFrame]:
    time = np.arange(round(seconds * SOUND_RATE)) / SOUND_RATE
    wave_ = 0.3 * np.sin(2 * np.pi * (440 + 200 * time) * time)
    for begin in range(0, len(wave_), 1024):
        samples = wave_[None, begin : begin + 1024].astype(np.float32)
        if sample_format == "u8":
            samples = (samples * 100 + 128).astype(np.uint8)
        if sample_format == "s16":
            samples = (samples * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(samples, format=sample_format, layout="mono")
        frame.rate, frame.pts, frame.time_base = SOUND_RATE, begin, Fraction(1, SOUND_RATE)
        yield frame


def frame_times(path: Path) -> list[float]:
    """Return when the frames of a video file are shown, in seconds from the first."""
    with av.open(str(path)) as container:
        times = [frame.time for frame in container.decode(video=0)]
    return [time - times[0] for time in times]


def read_sound(path: Path) -> tuple[float, np.ndarray]:
    """Return when sound begins, in seconds from the first frame, and its samples."""
    with av.open(str(path)) as container:
        first = next(container.decode(video=0)).time
    with av.open(str(path)) as container:
        frames = list(container.decode(audio=0))
    samples = np.concatenate([frame.to_ndarray()[0].astype(float) for frame in frames])
    return frames[0].time - first, samples


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


def write_sound_with_cover(path: Path) -> Path:
    """Write an AAC file whose ID3 tag holds a picture."""
    with av.open(str(path), "w", format="adts") as container:
        stream = container.add_stream("aac", rate=44100, layout="mono")
        silence = av.AudioFrame(format="fltp", layout="mono", samples=1024)
        silence.planes[0].update(bytes(silence.planes[0].buffer_size))
        silence.rate = 44100
        for index in range(20):
            silence.pts = index * 1024
            for packet in stream.encode(silence):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    path.write_bytes(_id3_tag(frame_image(5)) + path.read_bytes())
    return path


def _id3_tag(image: np.ndarray) -> bytes:
    """ID3v2.3 with one APIC frame: the front cover."""
    picture = io.BytesIO()
    Image.fromarray(image).save(picture, "PNG")
    body = b"\0image/png\0\x03\0" + picture.getvalue()
    frame = b"APIC" + struct.pack(">IH", len(body), 0) + body
    # The length is written in seven bits per byte.
    size = bytes(len(frame) >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\x03\0\0" + size + frame


def _set_display_matrix(path: Path, degrees: int) -> None:
    """Write the rotation into the track header of an MP4 file; not every PyAV can."""
    data = bytearray(path.read_bytes())
    cosine, sine = (round(f(math.radians(degrees))) << 16 for f in (math.cos, math.sin))
    matrix = struct.pack(">9i", cosine, -sine, 0, sine, cosine, 0, 0, 0, 1 << 30)
    # ISO 14496-12, TrackHeaderBox of version 0: the matrix is 40 bytes after the box's name.
    start = data.index(b"tkhd") + 44
    assert data[start - 40] == 0
    data[start : start + len(matrix)] = matrix
    path.write_bytes(data)


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
