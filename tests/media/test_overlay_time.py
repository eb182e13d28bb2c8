"""Time, sound and shape of a video come back in its overlay."""

import json
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from qsam2_deploy.media.reading.sources import open_frames
from qsam2_deploy.media.writing import sound_copy
from qsam2_deploy.media.writing.video_writer import VideoWriter
from qsam2_deploy.predictors.segment_video import segment_video
from tests.predictors.test_segment_video import CLICK, FakeSegmenter
from tests.support.media_samples import (
    SOUND_RATE,
    decode_all,
    frame_number,
    frame_times,
    read_sound,
    write_folder,
    write_timed_video,
    write_video,
)

STEADY = [i / 25 for i in range(30)]
VARIABLE = [0.0, 0.042, 0.125, 0.292, 0.542, 0.833, 1.208]

# PyAV 14.0 does not tell how long the last frame is; then it is as long as frames are on average.
ONE_FRAME = 0.04 if hasattr(av.VideoFrame, "duration") else 0.2


def overlay(source, path, **values):
    return segment_video(
        source, "m.onnx", [CLICK], overlay=path, segmenter=FakeSegmenter, show_progress=False,
        **values,
    )  # fmt: skip


def duration(path):
    with av.open(str(path)) as container:
        return container.duration / 1e6


@pytest.mark.parametrize("source", ["in.mp4", "in.mkv"])
@pytest.mark.parametrize("target", ["out.mp4", "out.mov", "out.mkv", "out.webm"])
@pytest.mark.parametrize("times", [STEADY, VARIABLE])
def test_times_and_duration(tmp_path, source, target, times):
    source = write_timed_video(tmp_path / source, times)
    overlay(source, tmp_path / target, json_path=tmp_path / "out.json")
    assert frame_times(tmp_path / target) == pytest.approx(times, abs=0.0015)
    assert duration(tmp_path / target) == pytest.approx(duration(source), abs=ONE_FRAME)
    data = json.loads((tmp_path / "out.json").read_text())
    assert [frame["time"] for frame in data["frames"]] == pytest.approx(times, abs=0.0015)


def animation(path):
    """Return when the frames of an animated image are shown, in seconds, and the frames."""
    times, frames = [0.0], []
    with Image.open(path) as image:
        assert image.info["loop"] == 0
        for number in range(image.n_frames):
            image.seek(number)
            frames.append(np.array(image.convert("RGB")))
            times.append(times[-1] + image.info["duration"] / 1000)
    return times[:-1], frames


@pytest.mark.parametrize("target", ["out.gif", "out.webp"])
@pytest.mark.parametrize("times", [STEADY, VARIABLE])
def test_animated_overlay(tmp_path, target, times):
    """A GIF counts hundredths of a second."""
    source = write_timed_video(tmp_path / "in.mp4", times, sound=1.0)
    assert overlay(source, tmp_path / target).warnings == ()
    shown, frames = animation(tmp_path / target)
    assert shown == pytest.approx(times, abs=0.006 if target == "out.gif" else 0.0015)
    assert [frame_number(frame) for frame in frames] == list(range(len(times)))


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "webm", "gif", "webp"])
def test_name_with_percent(tmp_path, suffix):
    """FFmpeg takes such a name for a list of pictures, unless it is told otherwise."""
    source = write_video(tmp_path / "in.mp4", 3)
    path = tmp_path / f"50%d.{suffix}"
    overlay(source, path)
    frames = animation(path)[1] if suffix in ("gif", "webp") else decode_all(path)
    assert [frame_number(frame) for frame in frames] == [0, 1, 2]
    assert sorted(file.name for file in tmp_path.iterdir()) == [path.name, "in.mp4"]


def test_gif_leaves_out_what_is_shown_too_shortly(tmp_path):
    """Browsers would show it for a tenth of a second, so all would be slow."""
    source = write_timed_video(tmp_path / "in.mp4", [i / 60 for i in range(30)])
    overlay(source, tmp_path / "out.gif")
    times, frames = animation(tmp_path / "out.gif")
    assert [frame_number(frame) for frame in frames] == list(range(0, 30, 2))
    assert times == pytest.approx([i / 30 for i in range(15)], abs=0.006)


@pytest.mark.parametrize("target", ["out.gif", "out.webp"])
def test_animated_overlay_of_odd_size(tmp_path, target):
    write_folder(tmp_path / "f", ["0.png", "1.png"], height=49, width=65)
    overlay(tmp_path / "f", tmp_path / target)
    assert [frame.shape for frame in animation(tmp_path / target)[1]] == [(49, 65, 3)] * 2


@pytest.mark.skipif(ONE_FRAME > 0.1, reason="PyAV 14.0 copies no Opus")
def test_sound_of_webm(tmp_path):
    source = write_timed_video(tmp_path / "in.mkv", STEADY, sound=1.6, sound_codec="libopus")
    assert overlay(source, tmp_path / "out.webm").warnings == ()
    assert packets(tmp_path / "out.webm") == packets(source)


def test_sound_that_webm_does_not_hold(tmp_path):
    source = write_timed_video(tmp_path / "in.mp4", STEADY, sound=1.6)
    (warning,) = overlay(source, tmp_path / "two.webm").warnings
    assert "two.webm cannot hold the sound of the input (aac)" in warning


@pytest.mark.parametrize("name", ["in.avi", "in.h264"])
def test_files_without_times_are_of_constant_rate(tmp_path, name):
    write_video(tmp_path / name, 20, options={"bf": "3"})
    overlay(tmp_path / name, tmp_path / "out.mp4")
    assert frame_times(tmp_path / "out.mp4") == pytest.approx([i / 25 for i in range(20)], abs=1e-4)


def test_part_of_a_video_begins_at_zero(tmp_path):
    source = write_timed_video(tmp_path / "in.mkv", VARIABLE)
    overlay(source, tmp_path / "o.mp4", json_path=tmp_path / "o.json", start=2, max_frames=3)
    assert frame_times(tmp_path / "o.mp4") == pytest.approx([0, 0.167, 0.417], abs=0.0015)
    data = json.loads((tmp_path / "o.json").read_text())
    assert [frame["time"] for frame in data["frames"]] == pytest.approx(VARIABLE[2:5], abs=0.0015)


@pytest.mark.parametrize("suffix", ["webp", "avif"])
def test_animated_image_keeps_its_times(tmp_path, suffix):
    if f".{suffix}" not in Image.registered_extensions():
        pytest.skip(f"this Pillow writes no {suffix}")
    folder = write_folder(tmp_path / "f", [f"{i}.png" for i in range(4)])
    images = [Image.open(folder / f"{i}.png") for i in range(4)]
    images[0].save(
        tmp_path / f"in.{suffix}", save_all=True, append_images=images[1:],
        duration=[100, 300, 50, 400], lossless=True,
    )  # fmt: skip
    overlay(tmp_path / f"in.{suffix}", tmp_path / "out.mp4")
    assert frame_times(tmp_path / "out.mp4") == pytest.approx([0, 0.1, 0.4, 0.45], abs=0.0015)
    assert duration(tmp_path / "out.mp4") == pytest.approx(0.85, abs=0.002)


def test_folder_has_no_times(tmp_path):
    folder = write_folder(tmp_path / "f", ["0.png", "1.png"])
    overlay(folder, tmp_path / "out.mp4", json_path=tmp_path / "out.json")
    assert frame_times(tmp_path / "out.mp4") == pytest.approx([0, 1 / 24], abs=1e-4)
    data = json.loads((tmp_path / "out.json").read_text())
    assert all("time" not in frame for frame in data["frames"])


@pytest.mark.parametrize("target", ["out.mp4", "out.mkv"])
def test_shape_of_pixels_is_kept(tmp_path, target):
    source = write_timed_video(tmp_path / "in.mp4", STEADY[:3], pixel_aspect=Fraction(2))
    overlay(source, tmp_path / target)
    with av.open(str(tmp_path / target)) as container:
        assert container.streams.video[0].sample_aspect_ratio == 2


def test_shape_of_pixels_turns_with_the_frame(tmp_path, monkeypatch):
    source = write_timed_video(tmp_path / "in.mp4", STEADY[:3], pixel_aspect=Fraction(2))
    with open_frames(source) as frames:
        assert frames.pixel_aspect == 2
    monkeypatch.setattr("qsam2_deploy.media.reading.decoder.frame_rotation", lambda _: 90)
    with open_frames(source) as frames:
        assert frames.pixel_aspect == Fraction(1, 2)


@pytest.mark.parametrize("target", ["out.mp4", "out.mov", "out.mkv"])
@pytest.mark.parametrize("times", [STEADY, VARIABLE])
def test_sound_is_copied_whole(tmp_path, target, times):
    source = write_timed_video(tmp_path / "in.mp4", times, sound=1.6)
    assert overlay(source, tmp_path / target).warnings == ()
    assert packets(tmp_path / target) == packets(source)
    assert duration(tmp_path / target) == pytest.approx(duration(source), abs=0.04)
    assert [frame_number(f) for f in decode_all(tmp_path / target)] == list(range(len(times)))


def packets(path):
    with av.open(str(path)) as container:
        return [bytes(p) for p in container.demux(audio=0) if p.size]


@pytest.mark.parametrize("target", ["out.mp4", "out.mkv"])
def test_sound_of_a_part_fits_the_pictures(tmp_path, target):
    source = write_timed_video(tmp_path / "in.mp4", STEADY, sound=1.6)
    overlay(source, tmp_path / target, start=10, max_frames=12)
    begin, whole = read_sound(source)
    part_begin, part = read_sound(tmp_path / target)
    assert part_begin + len(part) / SOUND_RATE == pytest.approx(12 / 25, abs=0.03)
    piece = part[4096:12288]
    found = np.correlate(whole, piece, mode="valid").argmax() / SOUND_RATE + begin
    assert found - (4096 / SOUND_RATE + part_begin) == pytest.approx(10 / 25, abs=0.002)


def test_sound_of_a_part_of_an_avi_file(tmp_path):
    source = write_timed_video(tmp_path / "in.avi", STEADY, sound=1.6, sound_codec="ac3")
    overlay(source, tmp_path / "whole.mkv")
    overlay(source, tmp_path / "part.mkv", start=10, json_path=tmp_path / "part.json")
    assert packets(tmp_path / "whole.mkv") == packets(source)
    assert len(packets(tmp_path / "part.mkv")) == pytest.approx(1.2 / 1536 * SOUND_RATE, abs=2)
    data = json.loads((tmp_path / "part.json").read_text())
    assert data["frames"][0]["time"] == 0.4


def test_sound_packets_out_of_order_do_not_end_the_run(tmp_path, monkeypatch):
    source = write_timed_video(tmp_path / "in.mp4", STEADY, sound=1.6)
    times = iter([0.3, 0.1, 0.2, *[0.4 + i / 50 for i in range(100)]])

    def shuffled(self, packet):
        packet.pts = packet.dts = round(next(times) / packet.time_base)
        return original(self, packet)

    original = sound_copy.SoundCopy._copy
    monkeypatch.setattr(sound_copy.SoundCopy, "_copy", shuffled)
    overlay(source, tmp_path / "out.mp4")
    assert len(packets(tmp_path / "out.mp4")) == len(packets(source)) - 2
    assert len(decode_all(tmp_path / "out.mp4")) == len(STEADY)


def test_sound_can_be_left_out(tmp_path):
    source = write_timed_video(tmp_path / "in.mp4", STEADY, sound=1.6)
    overlay(source, tmp_path / "out.mp4", audio=False)
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert not container.streams.audio


@pytest.mark.parametrize("known", [True, False])
def test_sound_that_the_file_cannot_hold_is_told(tmp_path, monkeypatch, known):
    """Also where only writing the header shows it."""
    if not known:
        monkeypatch.setattr(sound_copy, "_fits", lambda *_: True)
    source = write_timed_video(tmp_path / "in.mkv", STEADY, sound=1.6, sound_codec="tta")
    (warning,) = overlay(source, tmp_path / "out.mp4").warnings
    assert "out.mp4 cannot hold the sound of the input (" in warning
    assert len(decode_all(tmp_path / "out.mp4")) == len(STEADY)
    assert overlay(source, tmp_path / "out.mkv").warnings == ()
    assert len(list(tmp_path.iterdir())) == 3


def test_interrupted_run_has_the_sound_of_its_frames(tmp_path):
    source = write_timed_video(tmp_path / "in.mp4", STEADY, sound=1.6)
    with (
        open_frames(source) as frames,
        VideoWriter(
            tmp_path / "out.mp4", height=48, width=64, fps=25, sound=frames.sound
        ) as writer,
    ):
        for frame in frames:
            writer.write(frame, frames.shown)
            if frames.shown.time >= 0.5:
                break
    assert duration(tmp_path / "out.mp4") == pytest.approx(0.56, abs=0.03)
