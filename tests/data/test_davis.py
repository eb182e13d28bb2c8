"""The reader of DAVIS."""

import os

import numpy as np
import pytest

from qsam2_deploy.data.datasets.davis import davis_sequences
from qsam2_deploy.errors import VideoError
from tests.data.datasets import HEIGHT, WIDTH, frame, moving, square, write_davis, write_image
from tests.support.external_data import DATA, needs_data

DAVIS = DATA / "davis"


def one_sentence(error, *parts):
    message = str(error.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_palette_numbers_are_objects(tmp_path):
    labels = [square(2, 2) + square(40, 20, value=2), square(4, 2)]
    (sequence,) = davis_sequences(write_davis(tmp_path, {"a": labels}))
    assert (sequence.name, sequence.frame_count, sequence.size) == ("a", 2, (HEIGHT, WIDTH))
    assert sequence.object_ids == (1, 2)
    assert sequence.annotated == (0, 1)
    first, second = sequence.masks(0), sequence.masks(1)
    assert first[2].dtype == np.bool_
    assert np.array_equal(first[1], labels[0] == 1)
    assert np.array_equal(first[2], labels[0] == 2)
    assert np.array_equal(second[1], labels[1] == 1)
    assert not second[2].any()
    assert sequence.frame(1).shape == (HEIGHT, WIDTH, 3)
    assert sequence.frame(1).dtype == np.uint8
    assert abs(sequence.frame(1).astype(int) - frame(1, labels[1])).mean() < 20


def test_binary_masks_are_object_1(tmp_path):
    labels = [item * 255 for item in moving(3)]
    (sequence,) = davis_sequences(write_davis(tmp_path, {"a": labels}, palette=False))
    assert sequence.object_ids == (1,)
    assert np.array_equal(sequence.masks(2)[1], labels[2] > 0)


def test_void_pixels_belong_to_nothing(tmp_path):
    labels = [square(2, 2) + square(40, 20, value=255) for _ in range(2)]
    (sequence,) = davis_sequences(write_davis(tmp_path, {"a": labels}))
    assert sequence.object_ids == (1,)
    assert np.array_equal(sequence.masks(0)[1], labels[0] == 1)


def test_names(tmp_path):
    root = write_davis(tmp_path, {name: moving(2) for name in ("a", "b", "c")})
    assert [s.name for s in davis_sequences(root)] == ["a", "b", "c"]
    assert [s.name for s in davis_sequences(root, ["c", "a"])] == ["c", "a"]
    assert [s.name for s in davis_sequences(root, "b")] == ["b"]
    split = root / "ImageSets" / "2017" / "val.txt"
    split.parent.mkdir(parents=True)
    split.write_text("c\nb\n")
    assert [s.name for s in davis_sequences(root, "val")] == ["c", "b"]
    assert [s.name for s in davis_sequences(root, str(split))] == ["c", "b"]


def test_names_in_a_file_as_windows_writes_it(tmp_path):
    root = write_davis(tmp_path, {name: moving(2) for name in "abc"})
    names = tmp_path / "names.txt"
    names.write_bytes(b"\xef\xbb\xbfc\r\n\r\na\r\n")
    assert [s.name for s in davis_sequences(root, str(names))] == ["c", "a"]


def test_split_of_davis_2016_lists_files(tmp_path):
    root = write_davis(tmp_path, {"a": moving(2), "b": moving(2)})
    split = root / "ImageSets" / "480p" / "val.txt"
    split.parent.mkdir(parents=True)
    line = "/JPEGImages/480p/b/{0:05d}.jpg /Annotations/480p/b/{0:05d}.png"
    split.write_text("\n".join(line.format(i) for i in range(2)))
    assert [s.name for s in davis_sequences(root, "val")] == ["b"]


def test_another_resolution(tmp_path):
    root = write_davis(tmp_path, {"a": moving(2)}, resolution="Full-Resolution")
    assert len(davis_sequences(root, resolution="Full-Resolution")) == 1
    with pytest.raises(VideoError, match=r"there is no folder .*480p"):
        davis_sequences(root)


class TestBadInput:
    @pytest.fixture
    def root(self, tmp_path):
        return write_davis(tmp_path, {"a": moving(4), "b": moving(4)})

    def test_unknown_name_lists_the_known(self, root):
        with pytest.raises(VideoError) as error:
            davis_sequences(root, ["a", "zebra"])
        one_sentence(error, "'zebra'", "known are: a, b")

    @pytest.mark.parametrize("names", [[], ()])
    def test_no_name(self, root, names):
        with pytest.raises(VideoError, match=r"no sequence .* was chosen"):
            davis_sequences(root, names)

    def test_no_root(self, tmp_path):
        with pytest.raises(VideoError) as error:
            davis_sequences(tmp_path / "none")
        one_sentence(error, "there is no folder", "none", "expected a dataset with JPEGImages")

    @pytest.mark.parametrize(
        ("file", "what"),
        [
            ("JPEGImages/480p/a/00002.jpg", "lacks 1 of 4 frames"),
            ("JPEGImages/480p/a/00003.jpg", "lacks 1 of 4 frames"),
            ("Annotations/480p/a/00001.png", "lacks 1 of 4 masks"),
            ("Annotations/480p/a/00000.png", "lacks 1 of 4 masks"),
        ],
    )
    def test_missing_file(self, root, file, what):
        (root / file).unlink()
        with pytest.raises(VideoError) as error:
            davis_sequences(root)
        one_sentence(error, "'a'", what, os.path.basename(file))

    def test_gap_in_frames_and_masks(self, root):
        (root / "JPEGImages/480p/a/00001.jpg").unlink()
        (root / "Annotations/480p/a/00001.png").unlink()
        with pytest.raises(VideoError, match="lacks 1 of 4 frames"):
            davis_sequences(root)

    def test_no_frames_at_all(self, root):
        for path in (root / "JPEGImages/480p/a").iterdir():
            path.unlink()
        with pytest.raises(VideoError, match="'a' has no frames"):
            davis_sequences(root)

    @pytest.mark.parametrize("index", [0, 2])
    def test_mask_of_another_size(self, root, index):
        write_image(root / f"Annotations/480p/a/{index:05d}.png", np.ones((10, 12), np.uint8))
        with pytest.raises(VideoError) as error:
            davis_sequences(root)[0].masks(index)
        one_sentence(error, "12x10 pixels", "its frame is 64x48")

    def test_frame_of_another_size(self, root):
        write_image(root / "JPEGImages/480p/a/00002.jpg", np.ones((10, 12, 3), np.uint8))
        with pytest.raises(VideoError, match="12x10 pixels, but the first one is 64x48"):
            davis_sequences(root)[0].frame(2)

    def test_no_object_in_the_first_mask(self, root):
        write_image(root / "Annotations/480p/a/00000.png", np.zeros((HEIGHT, WIDTH), np.uint8))
        with pytest.raises(VideoError) as error:
            davis_sequences(root)
        one_sentence(error, "00000.png", "shows no object")

    @pytest.mark.parametrize(
        "file", ["Annotations/480p/a/00001.png", "JPEGImages/480p/a/00001.jpg"]
    )
    def test_damaged_file(self, root, file):
        path = root / file
        path.write_bytes(path.read_bytes()[:40])
        (sequence, _) = davis_sequences(root)
        with pytest.raises(VideoError) as error:
            (sequence.masks if path.suffix == ".png" else sequence.frame)(1)
        one_sentence(error, "cannot read", path.name, "damaged")

    def test_picture_in_colours(self, root):
        write_image(root / "Annotations/480p/a/00001.png", frame(0))
        with pytest.raises(VideoError, match="is a picture in colours"):
            davis_sequences(root)[0].masks(1)

    def test_name_that_is_no_number(self, root):
        write_image(root / "Annotations/480p/a/first.png", square(1, 1))
        with pytest.raises(VideoError, match=r"first\.png is not named by a number"):
            davis_sequences(root)


def test_grey_mask_of_three_equal_channels(tmp_path):
    root = write_davis(tmp_path, {"a": moving(2)})
    grey = np.repeat(square(3, 3, value=255)[..., None], 3, axis=2)
    write_image(root / "Annotations/480p/a/00000.png", grey)
    assert np.array_equal(davis_sequences(root)[0].masks(0)[1], grey[..., 0] > 0)


@needs_data(DAVIS)
def test_real_sequences():
    sequences = davis_sequences(DAVIS)
    assert len(sequences) == 15
    assert all(s.object_ids == (1,) and s.size == (480, 854) for s in sequences)
    assert 41000 < sequences[0].masks(3)[1].sum() < 41500
