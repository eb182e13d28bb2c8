"""Lists of videos: what they say, and what is wrong with them."""

import json
from pathlib import Path

import pytest

from qsam2_deploy.data.datasets.manifest import read_manifest
from qsam2_deploy.errors import InputError


def manifest(tmp_path, *lines):
    path = tmp_path / "m.jsonl"
    path.write_text("\n".join(x if isinstance(x, str) else json.dumps(x) for x in lines))
    return path


def test_entries(tmp_path):
    prompts = [{"points": [[1, 2]]}]
    path = manifest(
        tmp_path,
        {"video": "a.b.mp4", "prompts": prompts},
        "",
        {"video": "/far/frames/%05d.png", "prompts": "p.json", "name": "x y", "start": 3},
        {"video": "c", "annotations": "masks/c", "max_frames": 2},
        {"video": "https://host/d/e.mp4?token=f/g.h"},
    )
    first, second, third, fourth = read_manifest(path)
    assert (first.name, first.video) == ("a.b", tmp_path / "a.b.mp4")
    assert (first.prompts, first.annotations) == (tuple(prompts), None)
    assert (first.start, first.max_frames, first.folder) == (0, None, tmp_path)
    assert (second.name, second.video) == ("x y", Path("/far/frames/%05d.png"))
    assert (second.prompts, second.start) == (tmp_path / "p.json", 3)
    assert (third.prompts, third.annotations) == (None, tmp_path / "masks/c")
    assert third.max_frames == 2
    assert (fourth.name, fourth.video) == ("e", "https://host/d/e.mp4?token=f/g.h")
    assert third.origin == f"line 4 of {path}"


def test_as_windows_writes_it(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"video": "a.mp4"}\r\n\r\n{"video": "b.mp4"}\r\n')
    assert [entry.name for entry in read_manifest(path)] == ["a", "b"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2 of .* is not valid JSON"),
        ("[]", 'line 2 of .* must be an object with the path of a "video"'),
        ({"video": "-"}, 'must be an object with the path of a "video"'),
        ({"video": 3}, 'must be an object with the path of a "video"'),
        ({"video": "b.mp4", "prompt": []}, "has the unknown entry 'prompt'; expected some of: vid"),
        ({"video": "b.mp4", "prompts": []}, "'prompts' of line 2 of .* must be a list such as"),
        ({"video": "b.mp4", "start": -1}, "'start' of .* must be a whole number from 0, but is -1"),
        ({"video": "b.mp4", "start": True}, "must be a whole number from 0, but is True"),
        ({"video": "b.mp4", "max_frames": 0}, "'max_frames' .* whole number from 1, but is 0"),
        ({"video": "b.mp4", "max_frames": 10**30}, "whole number from 1"),
        ({"video": "b.mp4", "annotations": 1}, "'annotations' of .* must be a text, but is 1"),
        ({"video": "b.mp4", "name": "../b"}, "the name '../b', which cannot be that of a folder"),
        ({"video": "b.mp4", "name": ".b"}, "which cannot be that of a folder"),
        ({"video": "b.mp4", "name": "b" * 201}, "which cannot be that of a folder"),
        ({"video": ".."}, "which cannot be that of a folder"),
        ({"video": "sub/a.mkv"}, "line 1 of .* and line 2 have the same name 'a'"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path, line, message):
    path = manifest(tmp_path, {"video": "a.mp4"}, line)
    with pytest.raises(InputError, match=message):
        read_manifest(path)


def test_files_that_are_no_manifest(tmp_path):
    with pytest.raises(InputError, match=r"there is no manifest .*none\.jsonl"):
        read_manifest(tmp_path / "none.jsonl")
    with pytest.raises(InputError, match="cannot read"):
        read_manifest(tmp_path)
    with pytest.raises(InputError, match="is empty; expected a line such as"):
        read_manifest(manifest(tmp_path, "", ""))
    (tmp_path / "m.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot be read as text"):
        read_manifest(tmp_path / "m.jsonl")
