"""Prompts from flags and files."""

import json

import numpy as np
import pytest
from PIL import Image

from qsam2_deploy.errors import PromptError
from qsam2_deploy.media.prompting.mask_file import read_mask
from qsam2_deploy.media.prompting.prompt_file import prompts_from_file
from qsam2_deploy.media.prompting.prompt_flags import prompts_from_flags
from qsam2_deploy.media.prompting.prompts import FramePrompt
from qsam2_deploy.media.writing.palette import davis_palette
from qsam2_deploy.tracking.results import Prompt


def save_indexed(path, labels):
    image = Image.fromarray(labels.astype(np.uint8))
    image.putpalette(davis_palette().tobytes())
    image.save(path)
    return path


@pytest.mark.parametrize(
    ("text", "frame", "object_id", "point", "label"),
    [
        ("320,240", None, 1, (320, 240), 1),
        ("320.5, 240", None, 1, (320.5, 240), 1),
        ("320,240,0", None, 1, (320, 240), 0),
        ("2:320,240", None, 2, (320, 240), 1),
        ("@15:320,240", 15, 1, (320, 240), 1),
        ("2@15:320,240,0", 15, 2, (320, 240), 0),
    ],
)
def test_click(text, frame, object_id, point, label):
    expected = Prompt(object_id, points=(point,), labels=(label,))
    assert prompts_from_flags([text]) == [FramePrompt(frame, expected)]


def test_file_as_windows_writes_it(tmp_path):
    path = tmp_path / "p.json"
    path.write_bytes(b'\xef\xbb\xbf[{"points": [[3, 4]]}]\r\n')
    assert [item.prompt.points for item in prompts_from_file(path)] == [((3, 4),)]


def test_flags_for_one_object_and_frame_become_one_prompt():
    got = prompts_from_flags(["1,2", "3,4", "2:9,9"], ["5,6"], ["0,0,7,8", "2@3:1,1,2,2"])
    assert got == [
        FramePrompt(None, Prompt(1, ((1, 2), (3, 4), (5, 6)), (1, 1, 0), (0, 0, 7, 8))),
        FramePrompt(None, Prompt(2, ((9, 9),), (1,))),
        FramePrompt(3, Prompt(2, box=(1, 1, 2, 2))),
    ]


def test_mask_flag(tmp_path):
    mask = np.zeros((4, 6), dtype=bool)
    mask[1:3, 2:5] = True
    Image.fromarray(mask.astype(np.uint8) * 255).save(tmp_path / "m.png")
    (got,) = prompts_from_flags(masks=[f"3@7:{tmp_path / 'm.png'}"])
    assert (got.frame, got.prompt.object_id) == (7, 3)
    np.testing.assert_array_equal(got.prompt.mask, mask)
    (got,) = prompts_from_flags(masks=[str(tmp_path / "m.png")])
    assert (got.frame, got.prompt.object_id) == (None, 1)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"clicks": ["320"]}, "--click 320 is not a click; expected"),
        ({"clicks": ["a,b"]}, "is not a click"),
        ({"clicks": ["1,2,3,4"]}, "is not a click"),
        ({"clicks": ["1,nan"]}, "is not a click"),
        ({"clicks": ["x@2:1,2"]}, "is not a click"),
        ({"clicks": [f"{'9' * 5000}:1,2"]}, "is not a click"),
        ({"clicks": ["1,2,5"]}, "the label must be 1"),
        ({"negative_clicks": ["1,2,1"]}, "--negative-click 1,2,1 is not a click"),
        ({"boxes": ["1,2,3"]}, "--box 1,2,3 is not a box; expected"),
        ({"boxes": ["1,1,2,2", "1,1,3,3"]}, "object 1 has another box on that frame"),
        ({"masks": ["none.png"]}, "there is no mask none.png"),
        ({"masks": [r"C:\none.png"]}, r"there is no mask C:\\none.png"),
    ],
)
def test_bad_flags(flags, message):
    with pytest.raises(PromptError, match=message):
        prompts_from_flags(**flags)


class TestMaskFile:
    def test_palette_image_holds_objects_by_number(self, tmp_path):
        labels = np.zeros((4, 6))
        labels[0], labels[2] = 1, 3
        path = save_indexed(tmp_path / "m.png", labels)
        np.testing.assert_array_equal(read_mask(path, 3), labels == 3)
        with pytest.raises(PromptError, match="holds the objects 1, 3, but not object 2"):
            read_mask(path, 2)

    def test_single_object_may_have_any_number(self, tmp_path):
        labels = np.zeros((4, 6))
        labels[2] = 5
        path = save_indexed(tmp_path / "m.png", labels)
        np.testing.assert_array_equal(read_mask(path, 1), labels == 5)

    @pytest.mark.parametrize("bright", [1, 255])
    def test_grey_image(self, tmp_path, bright):
        pixels = np.zeros((4, 6), dtype=np.uint8)
        pixels[1] = bright
        Image.fromarray(pixels).save(tmp_path / "m.png")
        np.testing.assert_array_equal(read_mask(tmp_path / "m.png", 1), pixels > 0)

    def test_colour_image(self, tmp_path):
        pixels = np.zeros((4, 6, 3), dtype=np.uint8)
        pixels[1] = 255
        Image.fromarray(pixels).save(tmp_path / "m.png")
        np.testing.assert_array_equal(read_mask(tmp_path / "m.png", 1), pixels[..., 0] > 0)

    def test_empty_and_broken(self, tmp_path):
        Image.new("L", (6, 4)).save(tmp_path / "m.png")
        with pytest.raises(PromptError, match="is empty"):
            read_mask(tmp_path / "m.png", 1)
        (tmp_path / "m.png").write_text("no image")
        with pytest.raises(PromptError, match="cannot read the mask"):
            read_mask(tmp_path / "m.png", 1)


class TestPromptFile:
    def write(self, tmp_path, data):
        path = tmp_path / "prompts.json"
        path.write_text(data if isinstance(data, str) else json.dumps(data))
        return path

    def test_good(self, tmp_path):
        (tmp_path / "sub").mkdir()
        Image.new("L", (6, 4), 255).save(tmp_path / "sub" / "m.png")
        path = self.write(
            tmp_path,
            [
                {"points": [[3, 4], [5, 6]]},
                {"frame": 9, "object": 2, "points": [[1, 2]], "labels": [0], "box": [0, 0, 5, 6]},
                {"object": 3, "mask": "sub/m.png"},
            ],
        )
        first, second, third = prompts_from_file(path)
        assert first == FramePrompt(None, Prompt(1, ((3, 4), (5, 6)), (1, 1)))
        assert second == FramePrompt(9, Prompt(2, ((1, 2),), (0,), (0, 0, 5, 6)))
        assert third.prompt.object_id == 3
        assert third.prompt.mask.shape == (4, 6)
        assert third.prompt.mask.all()

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            ("{", "is not valid JSON"),
            ({"frame": 0}, "must hold a list"),
            ([], "must hold a list"),
            ([3], "prompt 1 of .* must be an object"),
            ([{"points": [[1, 2]]}, {"point": [1, 2]}], "prompt 2 .* unknown entry 'point'"),
            ([{"frame": -1}], "'frame' of .* must be a whole number from 0, but is -1"),
            ([{"frame": True}], "'frame' of .* must be a whole number"),
            ([{"object": "1"}], "'object' of .* must be a whole number"),
            ([{"points": [1, 2]}], "'points' of .* must be a list such as"),
            ([{"points": [[1, "2"]]}], "'points' of .* must be a list such as"),
            ([{"points": [[1, 2]], "labels": [2]}], "'labels' of .* must be a list of 1"),
            ([{"points": [[1, 2]], "labels": [1, 1]}], "has 1 points but 2 labels"),
            ([{"box": [1, 2, 3]}], "'box' of .* must be four numbers"),
            ([{"mask": 3}], "'mask' of .* must be the name"),
            ([{"mask": "none.png"}], "there is no mask .*none.png"),
        ],
    )
    def test_bad(self, tmp_path, data, message):
        with pytest.raises(PromptError, match=message):
            prompts_from_file(self.write(tmp_path, data))

    def test_absent(self, tmp_path):
        with pytest.raises(PromptError, match="there is no prompts file"):
            prompts_from_file(tmp_path / "none.json")
