from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest
from PIL import Image

from qsam2_deploy.errors import EngineError, InputError, PromptError, VideoError
from qsam2_deploy.predictors import video_predictor
from qsam2_deploy.predictors.inference_state import InferenceState
from qsam2_deploy.predictors.tensor_like import TensorLike
from qsam2_deploy.predictors.video_predictor import SAM2VideoPredictor
from qsam2_deploy.spec import (
    IMAGE_ENCODER,
    MASK_DECODER,
    MEMORY_ATTENTION,
    MEMORY_ENCODER,
    NO_OBJ_SCORE,
)
from qsam2_deploy.tracking import tracker
from qsam2_deploy.tracking.memory import MemoryBank
from tests.predictors.fake_backend import FakeBackend
from tests.support.media_samples import frame_image

HEIGHT, WIDTH, FRAMES = 20, 30, 12
BOX = (3, 3, 20, 15)


class CountingFrames:
    """A video that writes down which frames were decoded."""

    width, height, fps, warning = WIDTH, HEIGHT, None, None

    def __init__(self) -> None:
        self.decoded: list[int] = []

    def __len__(self) -> int:
        return FRAMES

    def __getitem__(self, index: int) -> np.ndarray:
        if not 0 <= index < FRAMES:
            raise IndexError(index)
        self.decoded.append(index)
        rng = np.random.default_rng(index)
        return rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)

    def close(self) -> None: ...
    def __enter__(self) -> CountingFrames:
        return self

    def __exit__(self, *_: object) -> None: ...


@pytest.fixture
def frames(monkeypatch) -> CountingFrames:
    frames = CountingFrames()
    monkeypatch.setattr(video_predictor, "open_indexed", lambda *_, **__: frames)
    return frames


@pytest.fixture
def predictor(backend) -> Iterator[SAM2VideoPredictor]:
    with SAM2VideoPredictor(backend, show_progress=False) as opened:
        yield opened


@pytest.fixture
def state(predictor, frames) -> InferenceState:
    return predictor.init_state("video.mp4")


def _click(
    predictor: SAM2VideoPredictor, state: InferenceState, frame: int = 0, obj: int = 1,
    x: float = 8, **more: Any,
) -> Any:  # fmt: skip
    return predictor.add_new_points_or_box(state, frame, obj, points=[(x, 9)], labels=[1], **more)


def _propagate(predictor: SAM2VideoPredictor, state: InferenceState, **span: Any) -> list[int]:
    return [frame for frame, _, _ in predictor.propagate_in_video(state, **span)]


# ---------------------------------------------------------------- states and frames
def test_a_state_answers_as_the_official_dictionary(predictor, state):
    assert state["num_frames"] == FRAMES
    assert (state["video_height"], state["video_width"]) == (HEIGHT, WIDTH)
    assert state["obj_ids"] == []
    _click(predictor, state, obj=7)
    assert state["obj_ids"] == [7]
    for key in ("output_dict", "_features", ""):
        with pytest.raises(KeyError):
            state[key]


def test_frames_are_decoded_when_they_are_needed(predictor, state, frames):
    assert frames.decoded == [0]  # for the size
    _click(predictor, state, frame=5)
    assert frames.decoded == [0, 5]
    for found, masks in zip(
        (6, 7, 8), (r for r in predictor.propagate_in_video(state, start_frame_idx=6)), strict=False
    ):
        assert masks[0] == found
        assert found in frames.decoded
        assert max(frames.decoded) <= found + 1


def test_clicks_on_one_frame_encode_it_once(
    predictor, state, frames,
    backend
):  # fmt: skip
    for x in (4, 8, 12):
        _click(predictor, state, frame=3, x=x)
    predictor.propagate_in_video_preflight(state)
    assert frames.decoded == [0, 3]
    assert backend.names().count(IMAGE_ENCODER) == 1


def test_only_a_few_frames_are_kept(predictor, state):
    _click(predictor, state)
    _propagate(predictor, state)
    assert len(state._features) <= 4


def test_prompted_frames_are_not_decoded_again(predictor, state, frames):
    for index in range(FRAMES):
        _click(predictor, state, frame=index)
    predictor.propagate_in_video_preflight(state)
    decoded = len(frames.decoded)
    assert _propagate(predictor, state) == list(range(FRAMES))
    assert len(frames.decoded) == decoded


# ---------------------------------------------------------------- results
def test_masks_are_of_the_video_size(predictor, state):
    _click(predictor, state, obj=4)
    frame, ids, masks = _click(predictor, state, obj=2, x=20)
    assert (frame, ids) == (0, [4, 2])
    assert masks.shape == (2, 1, HEIGHT, WIDTH)
    assert masks.dtype == np.float32
    assert isinstance(masks, TensorLike)
    assert (masks[0] > 0.0).cpu().numpy().any()


def test_an_object_without_mask_on_the_frame_is_absent(predictor, state):
    _click(predictor, state, obj=1)
    _, _, masks = _click(predictor, state, frame=3, obj=2)
    assert (masks[0] == NO_OBJ_SCORE).all()
    assert (masks[1] != NO_OBJ_SCORE).all()


def test_masks_do_not_overlap_if_so_wished(backend, frames):
    with SAM2VideoPredictor(backend, non_overlap_masks=True) as predictor:
        state = predictor.init_state("v")
        _click(predictor, state, obj=1)
        _, _, masks = _click(predictor, state, obj=2, x=20)
        assert ((masks > 0).sum(0) <= 1).all()
        assert (masks > 0).any((1, 2, 3)).all()


@pytest.mark.parametrize(
    ("span", "expected"),
    [
        ({}, range(2, FRAMES)),
        ({"start_frame_idx": 5}, range(5, FRAMES)),
        ({"start_frame_idx": 5, "max_frame_num_to_track": 0}, range(5, 6)),
        ({"start_frame_idx": 5, "max_frame_num_to_track": 3}, range(5, 9)),
        ({"start_frame_idx": 0}, range(FRAMES)),
        ({"reverse": True}, range(2, -1, -1)),
        ({"reverse": True, "start_frame_idx": 6, "max_frame_num_to_track": 2}, range(6, 3, -1)),
        ({"reverse": True, "start_frame_idx": 0}, range(0)),
        ({"start_frame_idx": FRAMES}, range(0)),
    ],
)
def test_order_of_frames(predictor, state, span, expected):
    _click(predictor, state, frame=2)
    assert _propagate(predictor, state, **span) == list(expected)


def test_reverse_looks_at_later_frames(predictor, state, backend):
    _click(predictor, state, frame=5)
    _propagate(predictor, state, reverse=True)
    assert backend.last(MEMORY_ATTENTION)["memory_tpos"].tolist() == [6, 3, 2, 1, 0]


def test_the_first_prompt_of_any_object_is_where_it_starts(predictor, state):
    _click(predictor, state, frame=6, obj=1)
    _click(predictor, state, frame=4, obj=2)
    assert _propagate(predictor, state)[0] == 4


# ---------------------------------------------------------------- options
def test_corrected_frames_may_become_conditioning_frames(backend, frames):
    for wanted, expected in ((False, [0]), (True, [0, 3])):
        with SAM2VideoPredictor(backend, add_all_frames_to_correct_as_cond=wanted) as predictor:
            state = predictor.init_state("v")
            _click(predictor, state)
            _propagate(predictor, state)
            _click(predictor, state, frame=3)
            predictor.propagate_in_video_preflight(state)
            bank = state.objects[1].bank
            assert list(bank.conditioning) == expected
            assert (3 in bank.tracked) != wanted


def test_tracked_frames_around_prompts_may_be_forgotten(backend, frames):
    for wanted, expected in ((False, list(range(1, 9))), (True, [1])):
        with SAM2VideoPredictor(backend, clear_non_cond_mem_around_input=wanted) as predictor:
            state = predictor.init_state("v")
            _click(predictor, state)
            _propagate(predictor, state, max_frame_num_to_track=8)
            _click(predictor, state, frame=9)
            predictor.propagate_in_video_preflight(state)
            assert list(state.objects[1].bank.tracked) == expected


# ---------------------------------------------------------------- long videos
def _everything_that_can_be_done(predictor: SAM2VideoPredictor, state: InferenceState) -> list[Any]:
    found = [_click(predictor, state, frame=4), _click(predictor, state, frame=2, obj=2)]
    found += predictor.propagate_in_video(state)
    found += predictor.propagate_in_video(state, start_frame_idx=4, reverse=True)
    found.append(_click(predictor, state, frame=7, x=20))
    found.append(_click(predictor, state, frame=1, obj=2, x=3))
    found.append(predictor.clear_all_prompts_in_frame(state, 1, 2))
    found += predictor.propagate_in_video(state, start_frame_idx=6)
    found.append(_click(predictor, state, frame=0, obj=3))
    found += predictor.propagate_in_video(state, start_frame_idx=9, reverse=True)
    found.append(predictor.remove_object(state, 1))
    return found + list(predictor.propagate_in_video(state))


@pytest.mark.parametrize("in_memory", [1, 3])
def test_frames_that_wait_on_disk_are_what_they_were(backend, frames, monkeypatch, in_memory):
    """To the bit, whatever is done; the frames of a short video would all stay in memory."""
    found = []
    for spilled in (False, True):
        with SAM2VideoPredictor(backend, show_progress=False) as predictor:
            monkeypatch.setattr(tracker, "frames_in_reach", lambda _: in_memory)
            state = predictor.init_state("v")
            if not spilled:
                state.new_bank = MemoryBank
            found.append(_everything_that_can_be_done(predictor, state))
            on_disk = [len(track.bank.tracked) - in_memory for track in state.objects.values()]
            assert min(on_disk) > 4
    assert len(found[0]) == len(found[1])
    for plain, spilled in zip(*found, strict=True):
        np.testing.assert_equal(spilled, plain)


# ---------------------------------------------------------------- removing
def test_remove_object(predictor, state):
    _click(predictor, state, frame=0, obj=1)
    _click(predictor, state, frame=2, obj=1)
    _click(predictor, state, frame=0, obj=2)
    ids, shown = predictor.remove_object(state, 1)
    assert ids == [2]
    assert [frame for frame, _ in shown] == [0, 2]
    assert [masks.shape for _, masks in shown] == [(1, 1, HEIGHT, WIDTH)] * 2
    assert predictor.remove_object(state, 2, need_output=False) == ([], [])


def test_remove_an_unknown_object(predictor, state):
    _click(predictor, state, obj=3)
    assert predictor.remove_object(state, 9) == ([3], [])
    with pytest.raises(PromptError, match=r"object 9: it does not exist; the object ids are \[3\]"):
        predictor.remove_object(state, 9, strict=True)


def test_clear_and_reset(predictor, state):
    _click(predictor, state)
    cleared = predictor.clear_all_prompts_in_frame(state, 0, 1)
    assert cleared is not None
    assert (cleared[2] == NO_OBJ_SCORE).all()
    assert predictor.clear_all_prompts_in_frame(state, 0, 1, need_output=False) is None
    with pytest.raises(PromptError, match="no points, box or mask was given for object 1"):
        _propagate(predictor, state)
    predictor.reset_state(state)
    assert state.obj_ids == []


# ---------------------------------------------------------------- wrong use
@pytest.mark.parametrize("frame", [FRAMES, -1, 10**6])
def test_no_such_frame(predictor, state, frame):
    message = f"there is no frame {frame}: the video has 12 frames, numbered from 0 to 11"
    with pytest.raises(PromptError, match=message):
        _click(predictor, state, frame=frame)
    with pytest.raises(PromptError, match=message):
        predictor.add_new_mask(state, frame, 1, np.ones((HEIGHT, WIDTH), bool))
    assert state.obj_ids == []


@pytest.mark.parametrize(("start", "reverse"), [(-3, False), (-1, True), (FRAMES, True)])
def test_propagation_starts_inside_of_the_video(predictor, state, start, reverse):
    _click(predictor, state)
    with pytest.raises(PromptError, match=f"there is no frame {start}"):
        _propagate(predictor, state, start_frame_idx=start, reverse=reverse)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"box": BOX, "clear_old_points": False}, "cannot add a box without clearing old points"),
    ({"points": [(1, 1)]}, "points and labels must be provided together"),
    ({"labels": [1]}, "points and labels must be provided together"),
    ({}, "at least one of points or box"),
    ({"points": [(1, 1)], "labels": [1, 0]}, "one label for each point"),
    ({"points": [(np.nan, 1)], "labels": [1]}, "points must be finite"),
    ({"box": (1, 2, 3)}, "box must be numbers that fit"),
]


@pytest.mark.parametrize(("prompt", "message"), WRONG)
def test_wrong_prompts_leave_no_object(predictor, state, prompt, message):
    with pytest.raises(PromptError, match=message):
        predictor.add_new_points_or_box(state, 0, 1, **prompt)
    assert state.obj_ids == []


def test_wrong_masks_leave_no_object(predictor, state):
    with pytest.raises(PromptError, match=r"shape \(height, width\)"):
        predictor.add_new_mask(state, 0, 1, np.ones((1, HEIGHT, WIDTH)))
    assert state.obj_ids == []


def test_propagating_without_prompts(predictor, state):
    with pytest.raises(PromptError, match="for any object; add a prompt before propagating"):
        _propagate(predictor, state)


def test_no_such_video(predictor, tmp_path):
    with pytest.raises(VideoError):
        predictor.init_state(tmp_path / "none.mp4")


def test_a_closed_predictor(predictor, state):
    predictor.__exit__(None, None, None)
    with pytest.raises(EngineError, match="closed"):
        _click(predictor, state)
    predictor._backend.__enter__()


# ---------------------------------------------------------------- numbers that are not finite
@pytest.mark.parametrize("output", ["object_score", "mask_logits", "pointers"])
def test_a_prompt_that_fails_leaves_nothing_behind(predictor, state, backend, output):
    _click(predictor, state, obj=1)
    backend.poison(MASK_DECODER, output)
    with pytest.raises(EngineError, match="not finite for this prompt"):
        _click(predictor, state, obj=2)
    with pytest.raises(EngineError, match="not finite for this prompt"):
        _click(predictor, state, obj=1, x=20, clear_old_points=False)
    if output == "pointers":
        with pytest.raises(EngineError, match="not finite for this prompt"):
            predictor.add_new_mask(state, 0, 3, np.ones((HEIGHT, WIDTH), bool))
    assert state.obj_ids == [1]
    assert len(state.objects[1].points[0].labels) == 1
    backend.heal()
    assert len(_propagate(predictor, state)) == FRAMES


def test_a_prompt_whose_memory_fails_never_enters_the_bank(predictor, state, backend):
    _click(predictor, state)
    backend.poison(MEMORY_ENCODER, "memory")
    with pytest.raises(EngineError, match="not finite for this prompt"):
        _propagate(predictor, state)
    assert state.objects[1].bank.conditioning == {}
    backend.heal()
    assert len(_propagate(predictor, state)) == FRAMES


def test_a_bad_frame_is_left_out_and_may_be_tracked_later(predictor, state, backend):
    _click(predictor, state)
    backend.poison(MASK_DECODER, "object_score")
    with pytest.warns(RuntimeWarning, match="left out of the memory"):
        results = list(predictor.propagate_in_video(state, max_frame_num_to_track=1))
    assert (results[1][2] == NO_OBJ_SCORE).all()
    assert list(state.objects[1].bank.tracked) == []
    backend.heal()
    _propagate(predictor, state, start_frame_idx=1, max_frame_num_to_track=1)
    assert list(state.objects[1].bank.tracked) == [1, 2]
    _, _, masks = _click(predictor, state, frame=1, x=20)
    assert np.isfinite(masks).all()


# ---------------------------------------------------------------- real files
def test_a_folder_of_images(predictor, tmp_path):
    for index in range(3):
        rng = np.random.default_rng(index)
        pixels = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{index:05d}.png")
    state = predictor.init_state(
        str(tmp_path), offload_video_to_cpu=True, async_loading_frames=True
    )
    predictor.add_new_points(state, frame_idx=0, obj_id=1, box=BOX)
    assert _propagate(predictor, state) == [0, 1, 2]


# ---------------------------------------------------------------- encoding ahead
class _Parallel(FakeBackend):
    """A fake that lets two components run at the same time."""

    concurrent = True
    fail_at: int | None = None
    encoded = 0

    def run(self, component: str, inputs: Any) -> Any:
        if component == IMAGE_ENCODER:
            self.encoded += 1
            if self.encoded - 1 == self.fail_at:
                raise EngineError("the encoder is broken")
        return super().run(component, inputs)


def _at_once(items: Any, _: Any) -> Iterator[Any]:
    """Take the place of ``look_ahead``: nothing is made ahead."""
    for item in items:
        nothing: Future[None] = Future()
        nothing.set_result(None)
        yield item, nothing


def _busy_user(predictor: SAM2VideoPredictor) -> list[tuple[int, list[int], np.ndarray]]:
    """Prompt, correct, add and remove objects, also in the middle of a propagation."""
    state, record = predictor.init_state("v"), []
    record.append(_click(predictor, state))
    record.append(_click(predictor, state, frame=4, obj=2, x=20))
    for frame, ids, masks in predictor.propagate_in_video(state):
        record.append((frame, list(ids), masks))
        if frame == 3:
            record.append(_click(predictor, state, frame=2, x=12))
        if frame == 6:
            predictor.remove_object(state, 2)
        if frame == 8:
            predictor.clear_all_prompts_in_frame(state, 2, 1)
    _click(predictor, state, frame=6, obj=5, x=15)
    for span in ({"reverse": True, "start_frame_idx": 9}, {"start_frame_idx": 3}):
        record += predictor.propagate_in_video(state, **span)
    return record


def test_encoding_ahead_changes_no_bit(frames, monkeypatch):
    with SAM2VideoPredictor(_Parallel(), show_progress=False) as predictor:
        ahead = _busy_user(predictor)
    with SAM2VideoPredictor(FakeBackend(), show_progress=False) as predictor:
        half_ahead = _busy_user(predictor)
    monkeypatch.setattr(video_predictor, "look_ahead", _at_once)
    with SAM2VideoPredictor(FakeBackend(), show_progress=False) as predictor:
        expected = _busy_user(predictor)
    assert len(expected) == FRAMES + 2 + 1 + 10 + 9
    for found in (ahead, half_ahead):
        assert [r[:2] for r in found] == [r[:2] for r in expected]
        assert all(np.array_equal(a[2], b[2]) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("concurrent", [True, False])
def test_an_encoder_that_fails_ends_the_propagation_at_its_frame(frames, concurrent):
    backend = _Parallel()
    backend.concurrent, backend.fail_at = concurrent, 5
    with SAM2VideoPredictor(backend, show_progress=False) as predictor:
        state, seen = predictor.init_state("v"), []
        _click(predictor, state)
        with pytest.raises(EngineError, match="the encoder is broken"):
            seen.extend(frame for frame, _, _ in predictor.propagate_in_video(state))
        assert seen == list(range(5))
        backend.fail_at = None
        assert _propagate(predictor, state, start_frame_idx=5) == list(range(5, FRAMES))
    assert not any(thread.name.startswith("look-ahead") for thread in threading.enumerate())


def test_leaving_a_propagation_ends_the_thread(predictor, state):
    _click(predictor, state)
    for frame, _, _ in predictor.propagate_in_video(state):
        if frame == 2:
            break
    assert not any(thread.name.startswith("look-ahead") for thread in threading.enumerate())


def test_fewer_memory_frames(frames, backend):
    with SAM2VideoPredictor(backend, memory_frames=3, show_progress=False) as predictor:
        state = predictor.init_state("v")
        _click(predictor, state)
        _propagate(predictor, state)
        assert backend.last(MEMORY_ATTENTION)["memory_tpos"].tolist() == [6, 1, 0]
    with pytest.raises(InputError, match="memory_frames must be from 1 to 7"):
        SAM2VideoPredictor(backend, memory_frames=8)
    assert backend.entered == 0


def test_frames_in_memory(predictor):
    images = [frame_image(i) for i in range(3)]
    state = predictor.init_state(images)
    assert (state.num_frames, state.frame_size) == (3, images[0].shape[:2])
    _click(predictor, state)
    assert _propagate(predictor, state) == [0, 1, 2]
    with pytest.raises(VideoError, match="frame 0 of the list must be uint8 RGB"):
        predictor.init_state([images[0].astype(float)])


def test_folder_is_read_as_upstream_reads_it(predictor, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.fromarray(frame_image(0))
    image.save(tmp_path / "0.jpg", exif=exif)
    assert predictor.init_state(str(tmp_path)).frame_size == (48, 64)
    turned = predictor.init_state(str(tmp_path), ignore_orientation=False)
    assert turned.frame_size == (64, 48)
    image.save(tmp_path / "1.png")
    with pytest.warns(UserWarning, match="1 of 2 files"):
        assert predictor.init_state(str(tmp_path)).num_frames == 1
