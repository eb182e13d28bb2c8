"""Segmenting a video from file to files, with a segmenter that only pretends."""

import json
import os
import signal
import threading

import numpy as np
import pytest
from PIL import Image

from qsam2_deploy.errors import EngineError, InputError, PromptError, VideoError
from qsam2_deploy.media.prompting.prompt_file import prompts_from_file
from qsam2_deploy.media.prompting.prompt_flags import prompts_from_flags
from qsam2_deploy.media.prompting.prompts import FramePrompt
from qsam2_deploy.predictors.segment_video import segment_video
from qsam2_deploy.predictors.segmenter import VideoSegmenter
from qsam2_deploy.spec import IMAGE_ENCODER
from qsam2_deploy.tracking.results import FrameResult, ObjectResult, Prompt
from tests.predictors.fake_backend import FakeBackend
from tests.support.media_samples import (
    HEIGHT,
    WIDTH,
    decode_all,
    frame_number,
    write_cut_video,
    write_folder,
    write_video,
)

CLICK = Prompt(points=((20, 20),), labels=(1,))
FRAMES = 20


class FakeSegmenter:
    """Tracks a square around the click; object 2 is visible on even frames only."""

    def __init__(self, model, *, backend, threads, memory_frames, cache, precision):
        self.arguments = (model, backend, threads, memory_frames)
        self.cache, self.engine = cache, f"{backend}, {precision}"
        self.seen = []
        self.prompted = {}
        self.entered = self.exited = False
        self.on_frame = lambda index: None
        FakeSegmenter.last = self

    def __enter__(self):
        self.entered = True
        return self

    def __exit__(self, *_):
        self.exited = True

    def stream(self, frames, prompts):
        for index, frame in enumerate(frames):
            yield self._track(frame, prompts.get(index, ()))

    def _track(self, frame, prompts):
        index = len(self.seen)
        self.seen.append(frame_number(frame))
        for prompt in prompts:
            self.prompted.setdefault(prompt.object_id, []).append(self.seen[-1])
        self.on_frame(index)
        return FrameResult(index, tuple(self._result(i) for i in self.prompted))

    def _result(self, object_id):
        visible = object_id != 2 or self.seen[-1] % 2 == 0
        mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
        mask[10:30, 10 * object_id : 10 * object_id + 20] = visible
        logits = np.where(mask, float(object_id), -5.0).astype(np.float32)
        return ObjectResult(object_id, mask, logits, 4.0 if visible else -4.0, visible)


def failing_at(frame, action):
    """Return a factory whose segmenter calls ``action`` on ``frame``."""

    def factory(*args, **kwargs):
        fake = FakeSegmenter(*args, **kwargs)
        fake.on_frame = lambda index: action() if index == frame else None
        return fake

    return factory


@pytest.fixture
def video(tmp_path):
    return write_video(tmp_path / "in.mp4", FRAMES)


@pytest.fixture
def run(tmp_path, video):
    def call(source=video, prompts=(CLICK,), **values):
        wanted = {
            "overlay": tmp_path / "out.mp4",
            "masks_dir": tmp_path / "masks",
            "json_path": tmp_path / "out.json",
            "contact_sheet": tmp_path / "sheet.png",
            "segmenter": FakeSegmenter,
            **values,
        }
        return segment_video(source, tmp_path / "model.onnx", prompts, **wanted)

    return call


def outputs(tmp_path):
    return {p.name for p in tmp_path.iterdir()} - {"in.mp4", "whole.mp4", "cut.mp4", "frames"}


def test_all_outputs(tmp_path, run):
    second = FramePrompt(5, Prompt(2, box=(20, 10, 40, 30)))
    summary = run(prompts=[CLICK, second], backend="ort", threads=2, memory_frames=3)

    assert (summary.frames, summary.width, summary.height) == (FRAMES, WIDTH, HEIGHT)
    assert not summary.interrupted
    assert summary.warnings == ()
    assert 0 < summary.segment_seconds <= summary.total_seconds
    assert summary.fps == pytest.approx(FRAMES / summary.total_seconds)
    one, two = summary.objects
    assert (one.object_id, one.frames, one.visible_frames, one.visible_share) == (1, 20, 20, 1.0)
    assert (two.object_id, two.frames, two.visible_frames) == (2, 15, 7)
    assert set(summary.outputs) == {"overlay", "masks", "json", "contact_sheet"}
    assert all(path.exists() for path in summary.outputs.values())
    assert outputs(tmp_path) == {"out.mp4", "masks", "out.json", "sheet.png"}

    fake = FakeSegmenter.last
    assert fake.arguments == (tmp_path / "model.onnx", "ort", 2, 3)
    assert fake.entered
    assert fake.exited
    assert fake.seen == list(range(FRAMES))
    assert fake.prompted == {1: [0], 2: [5]}

    drawn = decode_all(tmp_path / "out.mp4")
    plain = decode_all(tmp_path / "in.mp4")
    assert len(drawn) == FRAMES
    assert np.abs(drawn[8][20, 20].astype(int) - plain[8][20, 20]).max() > 30

    assert sorted(os.listdir(tmp_path / "masks")) == [f"{i:05d}.png" for i in range(FRAMES)]
    with Image.open(tmp_path / "masks" / "00006.png") as image:
        labels = np.array(image)
    assert set(np.unique(labels)) == {0, 1, 2}
    assert labels[20, 25] == 2, "object 2 has the higher logit where both are"

    data = json.loads((tmp_path / "out.json").read_text())
    assert data["complete"] is True
    assert data["fps"] == 25
    assert [f["frame"] for f in data["frames"]] == list(range(FRAMES))
    assert [len(f["objects"]) for f in data["frames"]] == [1] * 5 + [2] * 15
    assert sum(f["seconds"] for f in data["frames"]) == pytest.approx(
        summary.segment_seconds, abs=1e-3
    )


def test_numbers_are_those_of_the_source(tmp_path, run):
    later = FramePrompt(9, Prompt(2, box=(20, 10, 40, 30)))
    summary = run(prompts=[CLICK, later], start=7, max_frames=5)
    assert summary.frames == 5
    assert FakeSegmenter.last.seen == [7, 8, 9, 10, 11]
    assert FakeSegmenter.last.prompted == {1: [7], 2: [9]}
    assert sorted(os.listdir(tmp_path / "masks")) == [f"{i:05d}.png" for i in range(7, 12)]
    data = json.loads((tmp_path / "out.json").read_text())
    assert [f["frame"] for f in data["frames"]] == [7, 8, 9, 10, 11]
    assert data["complete"] is True


def test_folder_and_image(tmp_path, run):
    folder = write_folder(tmp_path / "frames", ["0.png", "1.png", "2.png"])
    assert run(folder).frames == 3
    assert len(decode_all(tmp_path / "out.mp4")) == 3
    summary = run(folder / "1.png", overlay=tmp_path / "out.png", masks_dir=None)
    assert summary.frames == 1
    with Image.open(tmp_path / "out.png") as image:
        assert image.size == (WIDTH, HEIGHT)


def test_images_of_a_pattern_are_never_overwritten(tmp_path, run):
    folder = write_folder(tmp_path / "f", ["0.png", "1.png"])
    source = str(folder / "%d.png")
    with pytest.raises(InputError, match="would lie among the input's frames"):
        run(source, overlay=folder / "2.png")
    with pytest.raises(InputError, match="is the folder of the input's frames"):
        run(source, masks_dir=folder)
    assert run(source, masks_dir=tmp_path / "masks").frames == 2
    assert sorted(os.listdir(folder)) == ["0.png", "1.png"]


def test_files_that_were_left_out_are_told(tmp_path, run):
    folder = write_folder(tmp_path / "f", ["0.jpg", "1.jpg", "0.png"])
    (warning,) = run(folder, masks_dir=tmp_path / "masks").warnings
    assert warning.startswith("1 of 3 files of ")


def test_image_overlay_of_a_video_is_refused(tmp_path, run):
    with pytest.raises(VideoError, match="is an image, but there is more than one frame"):
        run(overlay=tmp_path / "out.png")
    assert outputs(tmp_path) == set()
    assert run(overlay=tmp_path / "out.png", max_frames=1).frames == 1


def signal_once():
    signal.raise_signal(signal.SIGINT)


def raise_interrupt():
    raise KeyboardInterrupt


@pytest.mark.parametrize(("action", "whole"), [(signal_once, 7), (raise_interrupt, 6)])
def test_ctrl_c_keeps_what_was_done(tmp_path, run, action, whole):
    before = signal.getsignal(signal.SIGINT)
    summary = run(segmenter=failing_at(6, action))
    assert summary.interrupted
    assert summary.frames == whole
    assert signal.getsignal(signal.SIGINT) is before
    assert FakeSegmenter.last.exited
    assert len(decode_all(tmp_path / "out.mp4")) == whole
    assert len(os.listdir(tmp_path / "masks")) == whole
    data = json.loads((tmp_path / "out.json").read_text())
    assert data["complete"] is False
    assert len(data["frames"]) == whole
    assert outputs(tmp_path) == {"out.mp4", "masks", "out.json", "sheet.png"}


def test_second_ctrl_c_does_not_wait(run):
    def twice():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        pytest.fail("the second signal must not return")

    assert run(segmenter=failing_at(6, twice)).frames == 6


def test_failing_engine_keeps_what_was_done(tmp_path, run):
    def fail():
        raise EngineError("the engine gave numbers that are not finite")

    with pytest.raises(EngineError):
        run(segmenter=failing_at(4, fail))
    assert len(decode_all(tmp_path / "out.mp4")) == 4
    assert json.loads((tmp_path / "out.json").read_text())["complete"] is False


def test_failure_on_the_first_frame_leaves_nothing(tmp_path, run):
    def fail():
        raise EngineError("no")

    with pytest.raises(EngineError):
        run(segmenter=failing_at(0, fail))
    assert outputs(tmp_path) == set()


def test_video_that_breaks_off(tmp_path, run):
    path = write_cut_video(tmp_path / "cut.mp4", 60)
    summary = run(path, prompts=[CLICK, FramePrompt(59, Prompt(2, box=(1, 1, 5, 5)))])
    assert 20 < summary.frames < 60
    damaged, late = summary.warnings
    assert f"{summary.frames} of 60 frames were decoded" in damaged
    assert "frame 59, which has a prompt, was never reached" in late
    assert len(decode_all(tmp_path / "out.mp4")) == summary.frames
    with pytest.raises(PromptError, match="so nothing was segmented"):
        run(path, prompts=[FramePrompt(59, CLICK)])


@pytest.mark.parametrize(
    ("prompts", "values", "message"),
    [
        ([], {}, "no prompt was given"),
        ([Prompt(points=((WIDTH, 5),), labels=(1,))], {}, "outside of the frame"),
        ([FramePrompt(FRAMES, CLICK)], {}, "the source has 20 frames, numbered from 0 to 19"),
        ([FramePrompt(2, CLICK)], {"start": 3}, "processing starts at frame 3"),
        ([FramePrompt(9, CLICK)], {"max_frames": 5}, "the last frame to be processed is 4"),
        ([Prompt(256, box=(1, 1, 5, 5))], {}, "object 256 cannot be written to a mask PNG"),
        ([Prompt(0, box=(1, 1, 5, 5))], {}, "object 0 cannot be written to a mask PNG"),
    ],
)
def test_bad_prompts_are_found_before_anything_is_written(tmp_path, run, prompts, values, message):
    FakeSegmenter.last = None
    with pytest.raises(PromptError, match=message):
        run(prompts=prompts, **values)
    assert outputs(tmp_path) == set()
    assert FakeSegmenter.last is None, "no model was loaded"


def test_object_numbers_are_free_without_masks(run):
    assert run(prompts=[Prompt(0, box=(1, 1, 5, 5))], masks_dir=None).objects[0].object_id == 0


def test_object_numbers_of_numpy_can_be_written(tmp_path, run):
    run(prompts=[Prompt(number, box=(1, 1, 5, 5)) for number in np.unique([1, 3])])
    frames = json.loads((tmp_path / "out.json").read_text())["frames"]
    assert [item["object"] for item in frames[0]["objects"]] == [1, 3]


def test_inputs_are_never_overwritten(tmp_path, run, video):
    before = video.read_bytes()
    link = tmp_path / "link.mp4"
    link.symlink_to(video)
    for name in (video, link):
        with pytest.raises(InputError, match="would overwrite the input"):
            run(overlay=name)
    with pytest.raises(InputError, match="would overwrite the model"):
        run(json_path=tmp_path / "model.onnx")
    with pytest.raises(InputError, match="given for two outputs"):
        run(overlay=tmp_path / "x.mp4", json_path=tmp_path / "x.mp4")
    folder = write_folder(tmp_path / "frames", ["0.png"])
    with pytest.raises(InputError, match="would overwrite the input"):
        run(folder, masks_dir=folder)
    with pytest.raises(InputError, match="would lie among the input's frames"):
        run(folder, contact_sheet=folder / "sheet.png")
    assert video.read_bytes() == before
    assert os.listdir(folder) == ["0.png"]


@pytest.mark.parametrize(
    ("form", "frame", "source"),
    [
        ("yolo", "images/00000.jpg", "images"),
        ("yolo", "images/00000.jpg", "images/00000.jpg"),
        ("yolo", "images/00000.jpg", "images/*.jpg"),
        ("cutouts", "1/00000.png", "1"),
        ("cutouts", "1/00000.png", "1/*.png"),
        ("object_masks", "001/00000.png", "001"),
        ("masks", "00000.png", "00000.png"),
    ],
)
def test_inputs_inside_an_output_folder_are_never_overwritten(tmp_path, run, form, frame, source):
    out = tmp_path / "out"
    out.mkdir()
    write_folder((out / frame).parent, [frame.rpartition("/")[2]])
    before = (out / frame).read_bytes()
    with pytest.raises(InputError, match="would replace an input or another output"):
        run(out / source, **({"masks_dir": out} if form == "masks" else {"formats": {form: out}}))
    assert (out / frame).read_bytes() == before


@pytest.mark.parametrize("what", ["mask", "list", "mask in list", "objects"])
def test_prompts_and_objects_are_never_overwritten(tmp_path, run, what):
    mask = tmp_path / "00000.png"
    Image.fromarray(np.full((HEIGHT, WIDTH), 255, np.uint8)).save(mask)
    listed = tmp_path / "prompts.json"
    entry = {"mask": mask.name} if what == "mask in list" else {"points": [[5, 5]]}
    listed.write_text(json.dumps([entry]))
    file, values = {
        "mask": (mask, {"prompts": prompts_from_flags(masks=[f"@0:{mask}"])}),
        "list": (listed, {"prompts": prompts_from_file(listed)}),
        "mask in list": (mask, {"prompts": prompts_from_file(listed)}),
        "objects": (mask, {"objects": mask}),  # which is not read before
    }[what]
    before = file.read_bytes()
    link = tmp_path / "link"
    link.symlink_to(file)
    # Objects may be saved to where they came from.
    for output in ("json_path", "contact_sheet", *(("save_objects",) if what != "objects" else ())):
        with pytest.raises(InputError, match=f"would overwrite .*{file.name}, which is an input"):
            run(**values, **{output: link})
    if file == mask and what != "objects":
        with pytest.raises(InputError, match="would replace an input or another output"):
            run(**values, masks_dir=tmp_path)
    assert file.read_bytes() == before


def test_saved_objects_replace_no_other_output(tmp_path, run):
    folder = write_folder(tmp_path / "frames", ["0.png", "1.png"])
    with pytest.raises(InputError, match="given for two outputs"):
        run(save_objects=tmp_path / "out.json")
    with pytest.raises(InputError, match="would lie among the input's frames"):
        run(folder, save_objects=folder / "1.png")
    with pytest.raises(InputError, match="would replace an input or another output"):
        run(save_objects=tmp_path / "x_1.webm", formats={"cutouts": tmp_path / "x.webm"})
    assert sorted(os.listdir(folder)) == ["0.png", "1.png"]


def test_outputs_that_cannot_be_written_are_found_first(tmp_path, run):
    FakeSegmenter.last = None
    for values in (
        {"overlay": tmp_path / "no" / "out.mp4"},
        {"json_path": tmp_path / "no" / "out.json"},
        {"contact_sheet": tmp_path / "no" / "s.png"},
        {"masks_dir": tmp_path / "no" / "masks"},
    ):
        with pytest.raises(InputError, match="the folder does not exist; create it first"):
            run(**values)
    assert outputs(tmp_path) == set()
    assert FakeSegmenter.last is None


def test_frame_limit_must_be_positive(run):
    with pytest.raises(InputError, match="at least 1, but is 0"):
        run(max_frames=0)


def test_nothing_to_write_is_fine_for_a_library(tmp_path, run):
    none = dict.fromkeys(["overlay", "masks_dir", "json_path", "contact_sheet"])
    summary = run(**none)
    assert summary.frames == FRAMES
    assert summary.outputs == {}
    assert outputs(tmp_path) == set()


def test_progress_shows_frames_per_second(run, capfd):
    run(show_progress=True)
    shown = capfd.readouterr().err
    assert "segmenting" in shown
    assert f"{FRAMES}/{FRAMES}" in shown
    assert "frame/s" in shown


def interrupted_backend(frame):
    """Return a backend whose encoder, in the thread ahead, gets Ctrl-C on ``frame``."""
    backend = FakeBackend()
    backend.concurrent, encoded, run = True, [], backend.run

    def interrupting(component, inputs):
        if component == IMAGE_ENCODER:
            encoded.append(threading.current_thread().name)
            if len(encoded) == frame + 1:
                signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        return run(component, inputs)

    backend.run = interrupting
    return backend, encoded


def test_the_segmenter_itself_is_stopped_while_it_is_ahead(tmp_path, run):
    backend, encoded = interrupted_backend(8)
    summary = run(segmenter=lambda *_, **__: VideoSegmenter(backend))
    assert summary.interrupted
    assert summary.frames in (8, 9), "the frame that was being tracked, or the one after it"
    assert len(encoded) in (summary.frames, summary.frames + 1)
    assert all(name.startswith("look-ahead") for name in encoded)
    assert not any(t.name.startswith("look-ahead") for t in threading.enumerate())
    assert len(decode_all(tmp_path / "out.mp4")) == summary.frames
    assert json.loads((tmp_path / "out.json").read_text())["complete"] is False


def test_encoding_ahead_writes_the_same_files(tmp_path, run):
    second = FramePrompt(5, Prompt(2, box=(20, 10, 40, 30)))
    written = []
    for concurrent in (True, False):
        backend = FakeBackend()
        backend.concurrent = concurrent
        segmenter = VideoSegmenter(backend)
        run(prompts=[CLICK, second], segmenter=lambda *_, s=segmenter, **__: s)
        masks = [path.read_bytes() for path in sorted((tmp_path / "masks").iterdir())]
        written.append((masks, [drawn.tobytes() for drawn in decode_all(tmp_path / "out.mp4")]))
    assert written[0] == written[1]
    masks, drawn = written[0]
    assert len(masks) == FRAMES
    assert len(set(drawn)) == FRAMES, "each result is drawn on its own frame"
