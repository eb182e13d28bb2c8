"""Files that would take far more memory, depth or time than their size says are refused."""

import json
import tracemalloc

import numpy as np
import pytest

from qsam2_deploy._common.contradictions import shown
from qsam2_deploy._common.files import read_bounded
from qsam2_deploy._common.json import MAX_DEPTH, loads_bounded, read_json
from qsam2_deploy._common.yaml import read_yaml
from qsam2_deploy.errors import InputError, PromptError
from qsam2_deploy.media.prompting.prompt_file import prompts_from_file
from tests.fuzz.text_changes import BOMBS


# ------------------------------------------------------------------ bytes
def test_a_device_without_an_end_is_not_read_to_its_end():
    with pytest.raises(ValueError, match="more than the 3000000 bytes"):
        read_bounded("/dev/zero", 3_000_000)


def test_a_high_limit_takes_no_memory(tmp_path):
    path = tmp_path / "small"
    path.write_bytes(b"small")
    tracemalloc.start()
    assert read_bounded(path, 1 << 40) == b"small"
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 << 20


@pytest.mark.parametrize(("size", "fits"), [(0, True), (99, True), (100, True), (101, False)])
def test_the_limit_is_what_it_says(tmp_path, size, fits):
    path = tmp_path / "file"
    path.write_bytes(bytes(size))
    if fits:
        assert read_bounded(path, 100) == bytes(size)
    else:
        with pytest.raises(ValueError, match="100 bytes"):
            read_bounded(path, 100)


# ------------------------------------------------------------------ JSON
@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 2_000, 100_000])
@pytest.mark.parametrize("brackets", ["[]", "{}"])
def test_deep_json(depth, brackets):
    begin = "[" if brackets == "[]" else '{"a":'
    text = begin * depth + "1" + brackets[1] * depth
    with pytest.raises(ValueError, match="nested more than 64 deep"):
        loads_bounded(text)
    shallow = begin * MAX_DEPTH + "1" + brackets[1] * MAX_DEPTH
    assert loads_bounded(shallow) == json.loads(shallow)


@pytest.mark.parametrize("text", ['"\\ud800"', '{"\\udfff": 1}', '[["a\\ud800"]]'])
def test_json_of_half_a_surrogate_pair(text):
    with pytest.raises(ValueError, match="no UTF-8"):
        loads_bounded(text)


def test_json_that_is_too_long_or_no_text(tmp_path):
    with pytest.raises(ValueError, match="more than 10 letters"):
        loads_bounded("[" + "1," * 10 + "1]", 10)
    path = tmp_path / "x.json"
    path.write_bytes(b'"\xff"')
    with pytest.raises(ValueError, match="utf-8"):
        read_json(path)


# ------------------------------------------------------------------ YAML
@pytest.mark.parametrize("bomb", BOMBS)
def test_yaml_that_stands_for_a_billion_values(tmp_path, bomb):
    path = tmp_path / "x.yaml"
    path.write_text(BOMBS[bomb])
    with pytest.raises(
        InputError, match=r"stands for more than|within itself|nested more"
    ) as caught:
        read_yaml(path, "recipe")
    assert "\n" not in str(caught.value)


def test_aliases_are_allowed(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("a: &a [1, 2]\nb: *a\nc: &c {d: *a}\ne: {<<: *c, f: 3}\n")
    assert read_yaml(path, "recipe")["e"] == {"d": [1, 2], "f": 3}


def test_yaml_whose_values_cannot_be_built(tmp_path):
    path = tmp_path / "x.yaml"
    for text in ("t: !!timestamp x", "d: 2001-99-99", "? [1]\n: x", "n: !!int x", "s: !!binary é"):
        path.write_text(text)
        with pytest.raises(InputError, match="is not valid YAML"):
            read_yaml(path, "recipe")


# ------------------------------------------------------------------ prompts
@pytest.mark.parametrize(
    "entry",
    [
        {"points": [[float("nan"), 1]]}, {"points": [[1e999, 1]]}, {"points": [[10**400, 1]]},
        {"box": [0, 0, float("inf"), 1]}, {"object": 10**30, "points": [[1, 1]]},
        {"frame": 1 << 40, "points": [[1, 1]]}, {"mask": "a\0b"}, {"mask": "a\nb"},
        {"a\nb": 1}, {"x" * 9999: 1},
    ],
)  # fmt: skip
def test_odd_prompts(tmp_path, entry):
    path = tmp_path / "prompts.json"
    path.write_text(json.dumps([entry]))
    with pytest.raises(PromptError) as caught:
        prompts_from_file(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


# ------------------------------------------------------------------ wording
def test_what_is_shown_of_a_file_is_short_and_on_one_line():
    for value in (np.zeros((9, 9)), "a\nb", "x" * 9999, {"a": ["\n"] * 500}, b"\xff\n", "\ud800"):
        told = shown(value)
        assert "\n" not in told
        assert len(told) <= 100
        assert told.encode()
