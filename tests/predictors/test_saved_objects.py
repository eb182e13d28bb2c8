"""Objects that outlive their video."""

import functools
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from qsam2_deploy.cli.segment import main
from qsam2_deploy.errors import EngineError, InputError, PromptError
from qsam2_deploy.predictors.segment_video import segment_video
from qsam2_deploy.predictors.segmenter import VideoSegmenter
from qsam2_deploy.tracking.object_file import model_digest, read_objects
from qsam2_deploy.tracking.results import Prompt
from tests.predictors.fake_backend import FakeBackend, fake_spec
from tests.predictors.stream import HEIGHT, WIDTH, bank_of, click, frame, same

SPLITS = (1, 3, 9, 30)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("split", SPLITS)
def test_the_next_video_goes_on_as_if_it_were_one(tmp_path, split, stride):
    """To the bit; with a stride, if the first video has a multiple of it."""
    backend = FakeBackend(fake_spec(memory_temporal_stride_for_eval=stride))
    split *= stride
    with VideoSegmenter(backend) as whole:
        whole.track(frame(0), [click(1), click(7, 20)])
        for index in range(1, split):
            whole.track(frame(index), [click(1, 12)] if index == 2 else [])
        path = tmp_path / "objects.safetensors"
        whole.save_objects(path)
        expected = [whole.track(frame(index)) for index in range(split, split + 25)]
    with VideoSegmenter(backend) as second:
        assert second.load_objects(path) == (1, 7)
        found = [second.track(frame(index)) for index in range(split, split + 25)]
    assert [result.frame_index for result in found] == list(range(25))
    for a, b in zip(found, expected, strict=True):
        assert same(a, b)


def test_in_the_middle_of_a_video_of_another_size(segmenter, tmp_path):
    segmenter.track(frame(0), [click(3)])
    segmenter.track(frame(1))
    path = tmp_path / "o"
    segmenter.save_objects(path, [3])
    segmenter.reset()
    small = np.zeros((HEIGHT // 2, WIDTH // 2, 3), np.uint8)
    segmenter.track(small, [click(1, 2, 2)])
    assert segmenter.load_objects(path) == (3,)
    assert segmenter.object_ids == (1, 3)
    # It is looked for from the next frame on.
    assert [o.object_id for o in segmenter.refine(click(1, 3, 3)).objects] == [1]
    result = segmenter.track(small)
    assert [o.object_id for o in result.objects] == [1, 3]
    assert result[3].mask.shape == small.shape[:2]
    assert sorted(bank_of(segmenter, 3).conditioning) == [-1]
    assert sorted(bank_of(segmenter, 3).tracked) == [0, 1]


def test_chosen_objects(segmenter, tmp_path):
    segmenter.track(frame(0), [click(1), click(2, 20), click(3, 5)])
    segmenter.save_objects(tmp_path / "o", [3, 1])
    segmenter.reset()
    assert segmenter.load_objects(tmp_path / "o") == (3, 1)


def test_another_library_reads_the_file(segmenter, tmp_path):
    torch = pytest.importorskip("torch", reason="shows bfloat16")
    safetensors = pytest.importorskip("safetensors.torch")
    segmenter.track(frame(0), [click(7)])
    segmenter.track(frame(1))
    segmenter.save_objects(tmp_path / "o")
    found = safetensors.load_file(tmp_path / "o")
    assert found["7.frames"].tolist() == [-2, -1]
    assert found["7.conditioning"].tolist() == [True, False]
    assert found["7.memories"].dtype == torch.bfloat16
    bank = bank_of(segmenter, 7)
    assert torch.equal(found["7.pointers"][1], torch.from_numpy(bank.tracked[1].pointer))
    bits = found["7.memories"].view(torch.uint16).numpy()
    np.testing.assert_array_equal(bits[0], bank.conditioning[0].memory)


def test_what_cannot_be_saved(segmenter, tmp_path):
    with pytest.raises(PromptError, match="there is no object to save; give a prompt first"):
        segmenter.save_objects(tmp_path / "o")
    segmenter.track(frame(0), [click(1)])
    with pytest.raises(PromptError, match=r"there is no object 4 to save; tracked are \[1\]"):
        segmenter.save_objects(tmp_path / "o", [4])
    with pytest.raises(InputError, match="the folder does not exist"):
        segmenter.save_objects(tmp_path / "none" / "o")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_loaded(segmenter, tmp_path):
    segmenter.track(frame(0), [click(1)])
    path = tmp_path / "objects"
    segmenter.save_objects(path)
    with pytest.raises(PromptError, match=r"object 1 of .*: one of this number is tracked already"):
        segmenter.load_objects(path)
    segmenter.remove(1)
    with pytest.raises(InputError, match=r"there is no file .*none"):
        segmenter.load_objects(tmp_path / "none")
    with pytest.raises(InputError, match=r"cannot read .*: Is a directory"):
        segmenter.load_objects(tmp_path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"damaged one \(a tensor is outside of the file\)"):
        segmenter.load_objects(path)
    path.write_text('{"objects": []}')
    with pytest.raises(InputError, match="is no file of objects, or a damaged one"):
        segmenter.load_objects(path)
    assert segmenter.object_ids == ()
    segmenter.__exit__(None, None, None)
    with pytest.raises(EngineError, match="closed"):
        segmenter.load_objects(path)
    segmenter.__enter__()


def test_objects_of_another_model(segmenter, tmp_path):
    segmenter.track(frame(0), [click(1)])
    segmenter.save_objects(tmp_path / "o")
    other = FakeBackend(fake_spec(num_maskmem=5))
    with VideoSegmenter(other) as different:
        message = r"are of another model \('fake'\), .* give the model they were saved with"
        with pytest.raises(InputError, match=message):
            different.load_objects(tmp_path / "o")
    assert model_digest(segmenter.spec) != model_digest(other.spec)


def _parts(data: bytes) -> tuple[dict, bytes]:
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def _file(header: dict, rest: bytes) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + rest


def _set(name: str, index: int, value: bytes):
    def change(header: dict, rest: bytearray) -> None:
        size = len(value)
        begin = header[name]["data_offsets"][0] + index * size
        rest[begin : begin + size] = value

    return change


def _say(name: str, key: str, value: object):
    def change(header: dict, _: bytearray) -> None:
        header[name][key] = value

    return change


def _drop(name: str):
    def change(header: dict, _: bytearray) -> None:
        del header[name]

    return change


def _rename(old: str, new: str):
    def change(header: dict, _: bytearray) -> None:
        header[new] = header.pop(old)

    return change


NAN = np.float32(np.nan).tobytes()
WRONG = [
    (_set("1.pointers", 3, NAN), "numbers are not finite"),
    (_set("1.mask_logits", 0, NAN), "numbers are not finite"),
    (_set("1.memories", 0, b"\xc0\x7f"), "numbers are not finite"),
    (_set("1.scores", 0, np.float64(np.inf).tobytes()), "numbers are not finite"),
    (_set("1.conditioning", 0, b"\x02"), "neither 0 nor 1"),
    (_set("1.conditioning", 0, b"\x00"), "no frame with a prompt"),
    (_set("1.has_memory", 0, b"\x00"), "do not fit together"),
    (_set("1.frames", 0, np.int64(0).tobytes()), "not in the past"),
    (_set("1.frames", 1, np.int64(-2).tobytes()), "do not fit together"),
    (_set("1.frames", 0, np.int64(-(1 << 60)).tobytes()), "not in the past"),
    (_say("1.pointers", "dtype", "BF16"), "another size than it says"),
    (_say("1.pointers", "dtype", "F16"), "F16"),
    (_say("1.pointers", "shape", [1 << 62, 1 << 62]), "another size than it says"),
    (_say("1.pointers", "shape", [-2, -32]), "outside of the file"),
    (_say("1.pointers", "shape", [32, 2]), "pointers is not of the shape and type"),
    (_say("1.pointers", "shape", 3), "int"),
    (_say("1.pointers", "data_offsets", [0, 1 << 70]), "outside of the file"),
    (_say("1.pointers", "data_offsets", [0.5, 4]), "outside of the file"),
    (_say("__metadata__", "version", "9"), "it is of the form 'qsam2-objects' '9'"),
    (_drop("1.scores"), "scores"),
    (_drop("__metadata__"), "__metadata__"),
    (_rename("1.scores", "x.scores"), "an object has the number 'x'"),
    (_rename("1.scores", "99999999999999999999.scores"), "an object has the number '9999"),
]


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_a_changed_file_is_refused_in_one_sentence(segmenter, tmp_path, change, message):
    segmenter.track(frame(0), [click(1)])
    segmenter.track(frame(1))
    path = tmp_path / "o"
    segmenter.save_objects(path)
    assert read_objects(path, -1, segmenter.spec, segmenter._tracker.memories)
    header, rest = _parts(path.read_bytes())
    rest = bytearray(rest)
    change(header, rest)
    path.write_bytes(_file(header, bytes(rest)))
    segmenter.reset()
    with pytest.raises(InputError, match=message):
        segmenter.load_objects(path)
    assert segmenter.object_ids == ()


# ---------------------------------------------------------------- from file to file
@pytest.fixture
def video(tmp_path):
    folder = tmp_path / "video"
    folder.mkdir()
    for index in range(8):
        Image.fromarray(frame(index, 48, 64)).save(folder / f"{index:05d}.png")
    return folder


def _masks(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.iterdir())]


def test_two_runs_give_the_masks_of_one(video, model_path, tmp_path):
    segment = functools.partial(segment_video, video, model_path, backend="ort")
    prompts = [Prompt(4, points=[(20, 20)], labels=[1]), Prompt(9, box=(2, 2, 30, 30))]
    segment(prompts, masks_dir=tmp_path / "whole")
    objects = tmp_path / "seen.objects"
    summary = segment(prompts, max_frames=3, save_objects=objects, masks_dir=tmp_path / "begin")
    assert summary.outputs["objects"] == objects
    summary = segment([], objects=objects, start=3, masks_dir=tmp_path / "end")
    assert [item.object_id for item in summary.objects] == [4, 9]
    found = _masks(tmp_path / "begin") + _masks(tmp_path / "end")
    assert found == _masks(tmp_path / "whole")
    assert len(found) == 8


def test_objects_and_prompts_and_the_command(video, model_path, tmp_path, capsys):
    objects, line = tmp_path / "o", [str(video), "--model", str(model_path), "--backend", "ort"]
    assert main([*line, "--click", "20,20", "--save-objects", str(objects)]) == 0
    assert capsys.readouterr().out.endswith(f"objects: {objects}\n")
    more = ["--objects", str(objects), "--click", "2@4:9,9", "--save-objects", str(objects)]
    assert main([*line, *more]) == 0
    assert "object 2: visible on" in capsys.readouterr().out
    with VideoSegmenter(model_path, "ort") as segmenter:
        assert segmenter.load_objects(objects) == (1, 2)


WRONG_FILES = [
    (["--click", "9,9", "--save-objects", "MODEL"], "would overwrite the model"),
    (["--click", "9,9", "--save-objects", "VIDEO"], "it is a folder; give a file name"),
    (["--objects", "none", "--out", "x.mp4"], "there is no file none"),
    (["--objects", "none", "--everything", "--out", "x.mp4"], "without objects of another video"),
    (["--objects", "MODEL", "--out", "x.mp4"], "is no file of objects"),
]


@pytest.mark.parametrize(("options", "message"), WRONG_FILES)
def test_wrong_files_of_objects(video, model_path, tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    names = {"MODEL": str(model_path), "VIDEO": str(video)}
    options = [names.get(option, option) for option in options]
    before = model_path.read_bytes()
    line = [str(video), "--model", str(model_path), "--backend", "ort", "--quiet", *options]
    assert main(line) == 2
    assert message in capsys.readouterr().err
    assert model_path.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["video"]
