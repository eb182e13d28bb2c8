import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qsam2_deploy._common.files import file_digest
from qsam2_deploy.calibration import CalibrationConfig, calibrate_checkpoint
from qsam2_deploy.report import ReportJob, write_report
from tests.calibration.conftest import _few_threads, float_checkpoint, photos  # noqa: F401

LOG = [
    {"step": 1, "stage": "a", "seconds": 6.0, "learning_rate": 1e-3, "losses": {"dice": 0.9}},
    {"step": 2, "stage": "a", "seconds": 12.0, "learning_rate": 1e-3, "losses": {"dice": 0.5}},
    {"step": 2, "stage": "a", "seconds": 13.0, "scores": {"generated J&F": 41.5}},
]


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Files that a report is made from."""

    quantized: Path
    source: Path
    photos: Path


@pytest.fixture(scope="session")
def inputs(
    float_checkpoint,  # noqa: F811
    photos,  # noqa: F811
    tmp_path_factory,
) -> Inputs:
    """A small checkpoint calibrated to W4A4, with a log beside it."""
    output = tmp_path_factory.mktemp("report") / "small_w4a4.pt"
    calibrate_checkpoint(
        float_checkpoint,
        photos,
        output,
        config=CalibrationConfig(bits="w4a4", limit=4, vrc="trace", vrc_lambda=0.01),
        model_config=float_checkpoint.with_suffix(".yaml"),
        image_size=96,
    )
    lines = "".join(json.dumps(line) + "\n" for line in LOG)
    output.with_name("small_w4a4.log.jsonl").write_text(lines)
    return Inputs(output, float_checkpoint, photos)


def write_scores(path: Path, model: Path, score: float, **changes: Any) -> Path:
    """Write results as ``qsam2-eval --json`` does."""
    settings = {"prompt": "mask", "dataset": "DAVIS", "model": model.name}
    settings["model_sha256"] = file_digest(model)
    data = {"schema_version": 1, "rule": "davis", "J": score, "F": score, "J&F": score}
    path.write_text(json.dumps({**data, "objects": 3, "settings": settings, **changes}))
    return path


@pytest.fixture(scope="session")
def full_report(inputs, tmp_path_factory) -> tuple[Path, ...]:
    """The files of a report with everything on it."""
    folder = tmp_path_factory.mktemp("full")
    model = folder / "exported.onnx"
    model.write_bytes(bytes(2_500_000))
    scores = (
        write_scores(folder / "q.json", inputs.quantized, 50.0),
        write_scores(folder / "x.json", model, 60.0),
    )
    job = ReportJob(
        checkpoint=inputs.quantized,
        output=folder / "page",
        float_checkpoint=inputs.source,
        data=inputs.photos,
        images=4,
        scores=scores,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("qsam2_deploy.report.findings._SHOWN", 2)  # drawing is what takes long
        return write_report(job)


@pytest.fixture
def refused(inputs, tmp_path) -> Callable[..., None]:
    """Make a report with some changes, which must fail, and leave nothing behind."""

    def check(error: type[Exception], message: str, **changes: Any) -> None:
        output = changes.pop("output", tmp_path / "page")
        before = set(tmp_path.rglob("*"))
        with pytest.raises(error, match=message):
            write_report(ReportJob(**{"checkpoint": inputs.quantized, "output": output, **changes}))
        assert set(tmp_path.rglob("*")) == before

    return check
