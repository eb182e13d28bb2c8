"""The readers of SA-V, and run-length masks."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from qsam2_deploy.data.datasets.rle import decode_rle, text_of_runs
from qsam2_deploy.data.datasets.sav import sav_sequences
from qsam2_deploy.errors import VideoError
from tests.data.datasets import HEIGHT, WIDTH, moving, square, write_frames, write_image, write_sav
from tests.support.media_samples import write_video

FRAMES = 9


def masks_from(first, **changes):
    labels = {i: item for i, item in enumerate(moving(FRAMES)) if i % 4 == 0 and i >= first}
    return {**labels, **changes}


def encode(mask, text=True):
    """Encode a mask as COCO does: the reverse of what is tested."""
    flat = np.asarray(mask, bool).T.reshape(-1)
    edges = np.flatnonzero(np.diff(flat, prepend=False, append=False))
    bounds = [0, *edges.tolist(), flat.size]
    runs = [b - a for a, b in itertools.pairwise(bounds)]
    return {"size": list(mask.shape), "counts": text_of_runs(runs) if text else runs}


class TestValidation:
    @pytest.fixture
    def root(self, tmp_path):
        videos = {"sav_1": {0: masks_from(0), 2: masks_from(4)}, "sav_2": {1: masks_from(0)}}
        return write_sav(tmp_path, videos, FRAMES)

    def test_objects_with_own_annotations(self, root):
        first, second = sav_sequences(root)
        assert (first.name, first.frame_count, first.size) == ("sav_1", FRAMES, (HEIGHT, WIDTH))
        assert first.object_ids == (0, 2)
        assert first.annotated == (0, 4, 8)
        assert list(first.masks(0)) == [0]
        assert list(first.masks(4)) == [0, 2]
        assert first.masks(1) == {}
        assert np.array_equal(first.masks(4)[2], moving(FRAMES)[4] > 0)
        assert first.frame(8).shape == (HEIGHT, WIDTH, 3)
        assert second.object_ids == (1,)

    def test_names(self, root, tmp_path):
        assert [s.name for s in sav_sequences(root, ["sav_2"])] == ["sav_2"]
        (tmp_path / "list.txt").write_text("sav_2\nsav_1\n")
        names = [s.name for s in sav_sequences(root, str(tmp_path / "list.txt"))]
        assert names == ["sav_2", "sav_1"]
        with pytest.raises(VideoError, match="known are: sav_1, sav_2"):
            sav_sequences(root, ["sav_3"])

    def test_no_root(self, tmp_path):
        with pytest.raises(VideoError, match="there is no folder"):
            sav_sequences(tmp_path / "none")

    def test_empty_root(self, tmp_path):
        with pytest.raises(VideoError, match="is no SA-V folder; expected JPEGImages_24fps"):
            sav_sequences(tmp_path)

    def test_missing_annotations(self, tmp_path):
        write_frames(tmp_path / "JPEGImages_24fps" / "a", [None])
        with pytest.raises(VideoError, match="expected both"):
            sav_sequences(tmp_path)

    def test_missing_frame(self, root):
        (root / "JPEGImages_24fps/sav_1/00003.jpg").unlink()
        with pytest.raises(VideoError, match=r"not complete: .*00003\.jpg"):
            sav_sequences(root)

    def test_mask_without_frame(self, root):
        write_image(root / "Annotations_6fps/sav_1/000/00012.png", square(1, 1))
        with pytest.raises(VideoError, match=r"00012\.png has no frame"):
            sav_sequences(root)

    def test_object_without_masks(self, root):
        for path in (root / "Annotations_6fps/sav_2/001").iterdir():
            path.unlink()
        with pytest.raises(VideoError, match="there is no mask in"):
            sav_sequences(root)

    def test_video_without_objects(self, root):
        (root / "Annotations_6fps/sav_0").mkdir()
        write_frames(root / "JPEGImages_24fps" / "sav_0", [None])
        with pytest.raises(VideoError, match="holds no object"):
            sav_sequences(root)

    def test_folder_that_is_no_object(self, root):
        (root / "Annotations_6fps/sav_1/cat").mkdir()
        with pytest.raises(VideoError, match="not named by an object number"):
            sav_sequences(root)

    def test_mask_of_another_size(self, root):
        write_image(root / "Annotations_6fps/sav_1/000/00004.png", np.ones((9, 7), np.uint8))
        with pytest.raises(VideoError, match="7x9 pixels, but its frame is 64x48"):
            sav_sequences(root)[0].masks(4)

    def test_damaged_mask(self, root):
        (root / "Annotations_6fps/sav_1/000/00004.png").write_bytes(b"no image")
        with pytest.raises(VideoError, match=r"cannot read .*00004\.png"):
            sav_sequences(root)[0].masks(4)


class TestTraining:
    @pytest.fixture
    def root(self, tmp_path):
        write_video(tmp_path / "v.mp4", FRAMES)
        self.labels = moving(FRAMES)
        masklet = [[encode(self.labels[i] > 0), encode(self.labels[i] == 0)] for i in (0, 4)]
        masklet.append([encode(self.labels[8] > 0)])
        self.data = {
            "video_frame_count": float(FRAMES),
            "video_height": float(HEIGHT),
            "video_width": float(WIDTH),
            "masklet": masklet,
            "masklet_id": [3, 5],
        }
        self.write(tmp_path)
        return tmp_path

    def write(self, root, **changes):
        (root / "v_manual.json").write_text(json.dumps({**self.data, **changes}))

    def test_sequence(self, root):
        (sequence,) = sav_sequences(root)
        assert (sequence.name, sequence.frame_count, sequence.size) == ("v", FRAMES, (48, 64))
        assert sequence.object_ids == (3, 5)
        assert sequence.annotated == (0, 4, 8)
        assert sequence.masks(1) == {}
        assert list(sequence.masks(8)) == [3]
        assert np.array_equal(sequence.masks(4)[3], self.labels[4] > 0)
        assert np.array_equal(sequence.masks(4)[5], self.labels[4] == 0)

    def test_frames_in_any_order(self, root):
        (sequence,) = sav_sequences(root)
        forward = [sequence.frame(i) for i in range(FRAMES)]
        assert not np.array_equal(forward[0], forward[5])
        for index in (5, 2, 2, 8, 0):
            assert np.array_equal(sequence.frame(index), forward[index])

    def test_no_video(self, root):
        (root / "v.mp4").unlink()
        with pytest.raises(VideoError, match="there is no video"):
            sav_sequences(root)

    def test_damaged_video(self, root):
        (root / "v.mp4").write_bytes(b"no video")
        with pytest.raises(VideoError, match="cannot decode"):
            sav_sequences(root)[0].frame(0)

    def test_short_video(self, root):
        self.write(root, video_frame_count=20)
        with pytest.raises(VideoError, match="ends before frame 15"):
            sav_sequences(root)[0].frame(15)

    def test_video_of_another_size(self, root):
        self.write(root, video_width=60)
        with pytest.raises(VideoError, match="64x48 pixels, but its annotations say 60x48"):
            sav_sequences(root)[0].frame(0)

    def test_mask_of_another_size(self, root):
        self.write(root, masklet=[[encode(np.ones((3, 4)))]])
        with pytest.raises(VideoError, match="4x3 pixels, but the video is 64x48"):
            sav_sequences(root)[0].masks(0)

    @pytest.mark.parametrize("text", ["{", "[]", "{}", '{"masklet": 3}'])
    def test_damaged_annotations(self, root, text):
        (root / "v_manual.json").write_text(text)
        with pytest.raises(VideoError, match="as SA-V annotations"):
            sav_sequences(root)

    def test_no_object(self, root):
        self.write(root, masklet_id=[])
        with pytest.raises(VideoError, match="holds no object"):
            sav_sequences(root)


class TestRle:
    def test_known_text(self):
        # Runs 2, 3, 1 down the columns of a 2x3 mask: as pycocotools encodes it.
        mask = decode_rle({"size": [2, 3], "counts": "231"}, "test")
        assert np.array_equal(mask, [[False, True, True], [False, True, False]])

    def test_known_text_of_long_runs(self):
        # The rectangle [20:60, 30:80] of a 100x100 mask; the text is that of pycocotools.
        mask = np.zeros((100, 100), bool)
        mask[20:60, 30:80] = True
        entry = {"size": [100, 100], "counts": "\\n2X1l1" + "0" * 97 + "lm1"}
        assert np.array_equal(decode_rle(entry, "test"), mask)

    @given(arrays(np.bool_, st.tuples(st.integers(1, 40), st.integers(1, 40))), st.booleans())
    def test_round_trip(self, mask, text):
        assert np.array_equal(decode_rle(encode(mask, text), "test"), mask)

    @pytest.mark.parametrize(
        "entry",
        [
            None,
            {},
            {"size": [2, 3]},
            {"size": [2, 3], "counts": "2"},
            {"size": [2, 3], "counts": [9, -3]},
            {"size": [2, 3], "counts": "n"},
            {"size": [2], "counts": "231"},
            {"size": [2, 3], "counts": [2, "x", 1]},
        ],
    )
    def test_damaged(self, entry):
        with pytest.raises(VideoError, match=r"a mask of file\.json is damaged"):
            decode_rle(entry, "file.json")
