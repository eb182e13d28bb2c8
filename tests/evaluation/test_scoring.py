"""Which frames count, and how scores become results."""

import json

import numpy as np
import pytest

from qsam2_deploy.data.datasets.davis import davis_sequences
from qsam2_deploy.data.datasets.sav import sav_sequences
from qsam2_deploy.errors import VideoError
from qsam2_deploy.evaluation.results import Evaluation, ObjectResult, SequenceResult
from qsam2_deploy.evaluation.rules import DAVIS, IMAGES, SA_V, FrameScore
from qsam2_deploy.evaluation.scoring import evaluate
from qsam2_deploy.evaluation.table import format_table
from tests.data.datasets import HEIGHT, WIDTH, moving, square, write_davis, write_sav


class Replay:
    """A model that answers with the ground truth, changed on some frames."""

    info = {"model": "replay"}

    def __init__(self, changed=None, read=False):
        self.changed, self.read = changed or {}, read
        self.prompts = None

    def track(self, sequence, prompts):
        self.prompts = prompts
        for index in range(sequence.frame_count):
            if self.read:
                sequence.frame(index)
            masks = sequence.masks(index)
            change = self.changed.get(index)
            yield masks if change is None else {i: change(m) for i, m in masks.items()}

    def segment(self, image, prompts):
        return next(self.track(image, prompts))


def emptied(mask):
    return np.zeros_like(mask)


@pytest.fixture
def davis(tmp_path):
    return davis_sequences(write_davis(tmp_path, {"a": moving(6), "b": moving(4)}))


class TestDavis:
    def test_perfect(self, davis):
        result = evaluate(Replay(), davis, DAVIS)
        assert (result.j, result.f, result.j_and_f) == (100, 100, 100)
        assert [item.objects[0].frames for item in result.sequences] == [4, 2]

    def test_first_and_last_frame_do_not_count(self, davis):
        result = evaluate(Replay({0: emptied, 5: emptied}), davis[:1], DAVIS)
        assert result.j == 100

    def test_a_frame_between_counts(self, davis):
        result = evaluate(Replay({1: emptied}), davis[:1], DAVIS)
        assert (result.j, result.f) == (75, 75)
        assert result.sequences[0].objects[0].worst_frame == 1

    def test_mean_is_over_objects_not_sequences(self, tmp_path):
        two = [square(2, 2) + square(40, 20, value=2)] * 3
        sequences = davis_sequences(write_davis(tmp_path, {"a": two, "b": moving(4)}))

        class NoObjectOne(Replay):
            def track(self, sequence, prompts):
                for masks in super().track(sequence, prompts):
                    yield {i: m & (sequence.name == "b") for i, m in masks.items()}

        result = evaluate(NoObjectOne(), sequences, DAVIS)
        assert result.j == pytest.approx(100 / 3)
        assert [item.j for item in result.sequences] == [0, 100]

    def test_absent_object_that_is_predicted_absent(self, tmp_path):
        labels = moving(5)
        labels[2] = np.zeros_like(labels[2])
        sequences = davis_sequences(write_davis(tmp_path, {"a": labels}))
        assert evaluate(Replay(), sequences, DAVIS).j == 100

    def test_missing_entry_is_an_empty_mask(self, davis):
        class Silent(Replay):
            def track(self, sequence, prompts):
                yield from ({} for _ in range(sequence.frame_count))

        assert evaluate(Silent(), davis, DAVIS).j_and_f == 0

    def test_prompts_are_given(self, davis):
        model = Replay()
        evaluate(model, davis[:1], DAVIS, prompt="click")
        assert model.prompts[0].click is not None
        assert model.prompts[0].mask is None

    def test_too_short(self, tmp_path):
        sequences = davis_sequences(write_davis(tmp_path, {"a": moving(2)}))
        with pytest.raises(VideoError, match=r"a has no frame to score.*at least 3"):
            evaluate(Replay(), sequences, DAVIS)

    def test_result_of_another_size(self, davis):
        with pytest.raises(
            VideoError, match="frame 2 of a is 64x47 pixels, but the frame is 64x48"
        ):
            evaluate(Replay({2: lambda mask: mask[1:]}), davis, DAVIS)

    def test_too_few_frames(self, davis):
        class Short(Replay):
            def track(self, sequence, prompts):
                yield sequence.masks(0)

        with pytest.raises(VideoError, match="have 1 frames, but it has 6"):
            evaluate(Short(), davis, DAVIS)


class TestSav:
    @pytest.fixture
    def video(self, tmp_path):
        empty, moves = np.zeros((HEIGHT, WIDTH), np.uint8), moving(21)
        late = {i: empty if i < 8 else moves[i] for i in range(0, 21, 4)}
        objects = {0: {i: moves[i] for i in range(0, 21, 4)}, 1: late}
        return sav_sequences(write_sav(tmp_path, {"v": objects}, 21))

    def frames(self, result):
        return {item.object_id: item.frames for item in result.sequences[0].objects}

    def test_only_annotated_frames_without_first_and_last(self, video):
        result = evaluate(Replay(), video, SA_V)
        # Annotated are 0, 4, ..., 20. Object 1 appears in 8, so 4 does not count for it.
        assert self.frames(result) == {0: 4, 1: 3}
        assert result.j == 100

    def test_frames_between_annotations_do_not_count(self, video):
        assert evaluate(Replay({5: emptied, 0: emptied, 20: emptied}), video, SA_V).j == 100

    def test_predicted_too_early(self, video):
        result = evaluate(Replay({4: lambda mask: ~emptied(mask)}), video, SA_V)
        assert self.frames(result) == {0: 4, 1: 4}
        assert result.sequences[0].objects[1].j == 75

    def test_object_that_is_in_no_inner_frame_does_not_count(self):
        absent, here = (FrameScore(0, 1, 1, present, present) for present in (False, True))
        assert not SA_V.select([here, absent, absent, here])
        assert not SA_V.select([here])
        assert SA_V.select([here, here, here]) == [here]


def test_images_count_every_object():
    scores = [FrameScore(0, 0.5, 0.5, True, True)]
    assert list(IMAGES.select(scores)) == scores


class TestTime:
    def test_reading_frames_is_no_model_time(self, davis, monkeypatch):
        import time

        from qsam2_deploy.data.datasets.davis import DavisSequence

        def slow(self, index):
            time.sleep(0.02)
            return np.zeros((*self.size, 3), np.uint8)

        monkeypatch.setattr(DavisSequence, "frame", slow)
        (sequence,) = evaluate(Replay(read=True), davis[:1], DAVIS).sequences
        assert 0 < sequence.seconds < 0.06, "reading took 6 times 0.02 s"
        assert sequence.fps == pytest.approx(6 / sequence.seconds)

    def test_results_of_an_earlier_run_have_none(self, davis):
        result = evaluate(Replay(), davis, DAVIS)
        assert result.fps is None
        assert result.sequences[0].fps is None


def example():
    objects = (ObjectResult(1, 50.0, 70.0, 8, 3), ObjectResult(4, 90.0, 80.0, 8, 5))
    one = SequenceResult("bear", objects, 10, 2.0)
    other = SequenceResult("cow", (ObjectResult(1, 10.0, 30.0, 3, 2),), 5, 0.5)
    return Evaluation((one, other), "davis", {"prompt": "mask"})


def test_json():
    data = json.loads(example().to_json())
    assert data["J"] == 50.0
    assert data["F"] == 60.0
    assert data["J&F"] == 55.0
    assert data["objects"] == 3
    assert data["frames_per_second"] == 6.0
    assert data["settings"] == {"prompt": "mask"}
    bear = data["sequences"]["bear"]
    assert (bear["J"], bear["F"], bear["J&F"], bear["frames"]) == (70.0, 75.0, 72.5, 10)
    assert bear["objects"]["4"] == {
        "J": 90.0,
        "F": 80.0,
        "J&F": 85.0,
        "scored_frames": 8,
        "worst_frame": 5,
    }


def test_table():
    lines = format_table(example()).splitlines()
    assert lines[0].split() == ["sequence", "object", "J&F", "J", "F", "fps"]
    rows = [line.split() for line in lines if not line.startswith("-")][1:]
    assert rows == [
        ["bear", "all", "72.50", "70.00", "75.00", "5.00"],
        ["1", "60.00", "50.00", "70.00"],
        ["4", "85.00", "90.00", "80.00"],
        ["cow", "1", "20.00", "10.00", "30.00", "10.00"],
        ["mean", "of", "objects", "3", "55.00", "50.00", "60.00", "6.00"],
    ]
    assert len({len(line) for line in lines if line.startswith(("-", "sequence", "cow"))}) == 1
