"""What --json wrote can be read back."""

import json

import pytest

from qsam2_deploy.errors import InputError
from qsam2_deploy.evaluation.results import Evaluation, ObjectResult, SequenceResult
from qsam2_deploy.evaluation.score_file import read_scores

RESULT = Evaluation(
    sequences=(
        SequenceResult("a", (ObjectResult(1, 50., 60., 9, 3), ObjectResult(2, 80., 90., 9, 0)), 10),
        SequenceResult("b", (ObjectResult(1, 20.0, 0.0, 4, 1),), 5, 2.0),
    ),
    rule="davis",
    settings={"prompt": "click", "dataset": "DAVIS", "model": "m.onnx", "model_sha256": "ab"},
)  # fmt: skip


def test_round_trip(tmp_path):
    path = tmp_path / "scores.json"
    path.write_text(RESULT.to_json())
    found = read_scores(path)
    assert (found.j, found.f, found.j_and_f) == (50.0, 50.0, 50.0)
    assert (found.objects, found.benchmark) == (3, "DAVIS, click, 3 objects")
    assert (found.model, found.model_sha256) == ("m.onnx", "ab")


def test_means_are_over_objects():
    assert [item.j_and_f for item in RESULT.objects] == [55.0, 85.0, 10.0]
    assert [(item.j, item.f) for item in RESULT.sequences] == [(65.0, 75.0), (20.0, 0.0)]
    assert RESULT.j_and_f == 50.0  # not that of the sequences, 40


@pytest.mark.parametrize("key", ["J", "J&F", "objects", "rule", "settings"])
def test_a_missing_or_wrong_entry_is_refused(tmp_path, key):
    path = tmp_path / "scores.json"
    data = json.loads(RESULT.to_json())
    del data["settings"]["dataset"]
    for wrong in ({k: v for k, v in data.items() if k != key}, {**data, key: None}):
        if key == "rule" and key in wrong:
            continue  # any name will do
        path.write_text(json.dumps(wrong))
        with pytest.raises(InputError, match="are damaged or no results of qsam2-eval"):
            read_scores(path)
