"""Overlay video, JSON and contact sheet: whole, or not there."""

import errno
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from qsam2_deploy.errors import InputError, VideoError
from qsam2_deploy.media.writing.contact_sheet import GAP, TILE_WIDTH, ContactSheet
from qsam2_deploy.media.writing.image_writer import write_image
from qsam2_deploy.media.writing.json_writer import JsonWriter
from qsam2_deploy.media.writing.mask_writer import MaskWriter
from qsam2_deploy.media.writing.video_writer import VideoWriter
from qsam2_deploy.tracking.results import FrameResult, ObjectResult
from tests.support.media_samples import HEIGHT, WIDTH, decode_all, frame_image, frame_number

FULL_DISK = Path("/dev/full")
needs_full_disk = pytest.mark.skipif(not FULL_DISK.exists(), reason="this system has no /dev/full")


def write_frames(path, count, **values):
    with VideoWriter(path, **{"height": HEIGHT, "width": WIDTH, "fps": 25.0, **values}) as writer:
        for i in range(count):
            writer.write(frame_image(i))


def fill_disk(writer):
    """Make the writer's temporary file one that is always full."""
    temporary = writer._file.temporary
    temporary.unlink()
    temporary.symlink_to(FULL_DISK)


class TestVideo:
    def test_round_trip(self, tmp_path):
        import av

        path = tmp_path / "out.mp4"
        write_frames(path, 20, fps=30000 / 1001)
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            assert stream.codec_context.name == "h264"
            assert stream.codec_context.pix_fmt == "yuv420p"
            assert str(stream.average_rate) == "30000/1001"
        frames = decode_all(path)
        assert [frame_number(f) for f in frames] == list(range(20))
        assert os.listdir(tmp_path) == ["out.mp4"]

    def test_colours_come_back(self, tmp_path):
        path = tmp_path / "out.mp4"
        colour = np.full((64, 64, 3), (200, 60, 30), dtype=np.uint8)
        with VideoWriter(path, height=64, width=64, fps=25) as writer:
            writer.write(colour)
        assert np.abs(decode_all(path)[0].astype(int) - colour).max() <= 4

    def test_odd_sizes_get_one_more_row_and_column(self, tmp_path):
        path = tmp_path / "out.mp4"
        with VideoWriter(path, height=47, width=63, fps=25) as writer:
            writer.write(frame_image(5, 47, 63))
        assert decode_all(path)[0].shape == (48, 64, 3)

    @pytest.mark.parametrize("fps", [None, 0.0, math.inf, math.nan])
    def test_unknown_rate(self, tmp_path, fps):
        write_frames(tmp_path / "out.mp4", 2, fps=fps)
        assert len(decode_all(tmp_path / "out.mp4")) == 2

    @pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
    def test_what_was_written_stays_playable(self, tmp_path, error):
        path = tmp_path / "out.mp4"

        def run():
            with VideoWriter(path, height=HEIGHT, width=WIDTH, fps=25) as writer:
                for i in range(7):
                    writer.write(frame_image(i))
                raise error

        with pytest.raises(error):
            run()
        assert [frame_number(f) for f in decode_all(path)] == list(range(7))

    def test_no_frame_no_file(self, tmp_path):
        write_frames(tmp_path / "out.mp4", 0)
        assert os.listdir(tmp_path) == []

    def test_older_file_survives_a_failure(self, tmp_path):
        path = tmp_path / "out.mp4"
        path.write_text("older")
        write_frames(path, 0)
        assert path.read_text() == "older"

    @needs_full_disk
    def test_full_disk(self, tmp_path):
        noise = np.random.default_rng(0)
        writer = VideoWriter(tmp_path / "out.mp4", height=240, width=320, fps=25)
        fill_disk(writer)

        def run():
            with writer:
                for _ in range(60):
                    writer.write(noise.integers(0, 256, (240, 320, 3), dtype=np.uint8))

        with pytest.raises(InputError, match=r"cannot write .*out.mp4: the disk is full"):
            run()
        assert os.listdir(tmp_path) == []

    def test_bad_frames(self, tmp_path):
        with VideoWriter(tmp_path / "out.mp4", height=HEIGHT, width=WIDTH, fps=25) as writer:
            with pytest.raises(VideoError, match=r"must be uint8 of shape \(48, 64, 3\)"):
                writer.write(frame_image(0, 30, 30))
            with pytest.raises(VideoError, match="got float64"):
                writer.write(frame_image(0).astype(float))
        with pytest.raises(VideoError, match="is closed"):
            writer.write(frame_image(0))

    def test_bad_names(self, tmp_path):
        kinds = r"must end in \.mp4, \.mov, \.mkv, \.webm, \.gif or \.webp"
        with pytest.raises(VideoError, match=kinds):
            write_frames(tmp_path / "out.avi", 1)
        with pytest.raises(VideoError, match=r"must end in \.webm or \.mov"):
            write_frames(tmp_path / "out.mp4", 1, alpha=True)
        with pytest.raises(InputError, match="the folder does not exist; create it first"):
            write_frames(tmp_path / "none" / "out.mp4", 1)
        (tmp_path / "dir.mp4").mkdir()
        with pytest.raises(InputError, match="it is a folder"):
            write_frames(tmp_path / "dir.mp4", 1)

    def test_folder_that_is_read_only(self, tmp_path, monkeypatch):
        def refuse(**_):
            raise PermissionError(errno.EACCES, "Permission denied")

        # Not with real permissions, because root may write everywhere.
        monkeypatch.setattr("tempfile.mkstemp", refuse)
        with pytest.raises(InputError, match="permission denied; choose another output path"):
            write_frames(tmp_path / "out.mp4", 1)

    def test_missing_pyav_is_said(self, tmp_path, monkeypatch):
        from qsam2_deploy.errors import MissingDependencyError

        monkeypatch.setitem(__import__("sys").modules, "av", None)
        with pytest.raises(MissingDependencyError):
            write_frames(tmp_path / "out.mp4", 1)
        assert os.listdir(tmp_path) == []


def result(score=2.5):
    mask = np.zeros((4, 6), dtype=bool)
    mask[1:3, 2:5] = True
    empty = np.zeros((4, 6), dtype=bool)
    return FrameResult(
        0,
        (
            ObjectResult(1, mask, mask.astype(np.float32), score, True),
            ObjectResult(7, empty, empty.astype(np.float32), -1.0, False),
        ),
    )


class TestJson:
    def test_content(self, tmp_path):
        path = tmp_path / "out.json"
        writer = JsonWriter(path, {"source": "v.mp4", "fps": None})
        writer.write(3, result(), 0.25)
        writer.write(4, result(math.nan), 0.5, 0.1234567)
        assert not path.exists()
        writer.close(complete=True)
        data = json.loads(path.read_text(), parse_constant=pytest.fail)
        assert {k: v for k, v in data.items() if k != "frames"} == {
            "schema_version": 1, "source": "v.mp4", "fps": None, "complete": True,
        }  # fmt: skip
        assert data["frames"][0] == {
            "frame": 3,
            "seconds": 0.25,
            "objects": [
                {"object": 1, "score": 2.5, "visible": True, "area": 6, "box": [2, 1, 5, 3]},
                {"object": 7, "score": -1.0, "visible": False, "area": 0, "box": None},
            ],
        }
        assert data["frames"][1]["objects"][0]["score"] is None
        assert data["frames"][1]["time"] == 0.123457

    def test_no_frame_no_file(self, tmp_path):
        JsonWriter(tmp_path / "out.json", {}).close(complete=False)
        assert os.listdir(tmp_path) == []

    @needs_full_disk
    def test_full_disk(self, tmp_path):
        writer = JsonWriter(tmp_path / "out.json", {})
        writer.write(0, result(), 0.1)
        fill_disk(writer)
        with pytest.raises(InputError, match="the disk is full"):
            writer.close(complete=True)
        assert os.listdir(tmp_path) == []


class TestContactSheet:
    def sheet(self, path, count, tiles=6, step=1):
        sheet = ContactSheet(path, tiles=tiles)
        for i in range(0, count * step, step):
            sheet.add(i, frame_image(i % 64))
        return sheet

    def test_grid(self, tmp_path):
        path = tmp_path / "sheet.png"
        self.sheet(path, 20).close()
        height = round(HEIGHT * TILE_WIDTH / WIDTH)
        with Image.open(path) as image:
            assert image.size == (4 * (TILE_WIDTH + GAP) + GAP, 2 * (height + GAP) + GAP)
        assert os.listdir(tmp_path) == ["sheet.png"]

    @pytest.mark.parametrize("count", [1, 2, 5, 6, 7, 13, 40, 333])
    def test_frames_are_evenly_spaced_from_first_to_last(self, tmp_path, count):
        sheet = self.sheet(tmp_path / "sheet.png", count)
        assert len(sheet._kept) <= 4 * 6
        chosen = [index for index, _ in sheet._chosen()]
        assert len(chosen) == min(6, count)
        assert chosen[0] == 0
        assert chosen[-1] == count - 1
        gaps = np.diff(chosen)
        assert count == 1 or (gaps.min() >= 1 and gaps.max() <= 1.5 * gaps.min() + 1)
        sheet.close()

    def test_no_frame_no_file(self, tmp_path):
        ContactSheet(tmp_path / "sheet.png").close()
        assert os.listdir(tmp_path) == []

    def test_bad_name(self, tmp_path):
        with pytest.raises(VideoError, match=r"must end in \.png or \.jpg"):
            ContactSheet(tmp_path / "sheet.pdf")

    @needs_full_disk
    def test_full_disk(self, tmp_path):
        sheet = self.sheet(tmp_path / "sheet.png", 5)
        fill_disk(sheet)
        with pytest.raises(InputError, match="the disk is full"):
            sheet.close()
        assert os.listdir(tmp_path) == []


class TestMasks:
    def test_folder_that_cannot_be_made(self, tmp_path):
        with pytest.raises(InputError, match="the folder does not exist"):
            MaskWriter(tmp_path / "a" / "b")
        (tmp_path / "file").touch()
        with pytest.raises(InputError, match="it is a file, no folder"):
            MaskWriter(tmp_path / "file")

    def test_folder_made_for_nothing_goes_again(self, tmp_path):
        MaskWriter(tmp_path / "masks").close()
        assert not (tmp_path / "masks").exists()
        (tmp_path / "mine").mkdir()
        MaskWriter(tmp_path / "mine").close()
        assert (tmp_path / "mine").exists()

    def test_full_disk(self, tmp_path, monkeypatch):
        def save(self, path, **_):
            Path(path).write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(Image.Image, "save", save)
        writer = MaskWriter(tmp_path / "masks")
        with pytest.raises(InputError, match=r"00000.png: the disk is full"):
            writer.write(0, 4, 6, result())
        assert list((tmp_path / "masks").iterdir()) == []


def test_image_overlay(tmp_path):
    write_image(tmp_path / "out.png", frame_image(3))
    with Image.open(tmp_path / "out.png") as image:
        np.testing.assert_array_equal(np.array(image), frame_image(3))
