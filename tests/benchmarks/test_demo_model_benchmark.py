"""The numbers of the model card: measured, kept while nothing changes, written between markers."""

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.accuracy import _demo_data as data
from benchmarks.accuracy._kept_parts import KeptParts
from benchmarks.accuracy._model_card import SECTIONS, filled
from qsam2_deploy.data.sample import Clip
from qsam2_deploy.errors import InputError, PromptError
from qsam2_deploy.evaluation.rules import DAVIS, IMAGES
from qsam2_deploy.evaluation.scoring import evaluate
from tests.support.drawn_clip import drawn_clip

ROOT = Path(__file__).parents[2]
CARD = ROOT / "assets" / "README.md"
HEIGHT, WIDTH, FRAMES = 60, 96, 6

LOG = [
    {"step": 100, "stage": "follow", "seconds": 60.0, "losses": {"total": 2.0}},
    {"step": 200, "stage": "follow", "seconds": 120.0, "losses": {"total": 1.0}},
    {"step": 200, "stage": "follow", "seconds": 120.0, "scores": {"generated J&F": 41.25}},
    {"step": 300, "stage": "prompts", "seconds": 170.0, "losses": {"total": 0.5}},
]


@dataclass(frozen=True)
class Run:
    """A finished run of the benchmark, and how to repeat it."""

    arguments: list[str]
    status: int
    report: dict
    card: str


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    torch = pytest.importorskip("torch", reason="running a checkpoint needs torch")
    for package in ("sam2", "onnx", "onnxruntime", "cv2"):
        pytest.importorskip(package, reason=f"the benchmark needs {package}")
    from benchmarks.accuracy import demo_model
    from tests.support.weights import small_config, write_checkpoint

    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("demo_model")
    model = write_checkpoint(folder / "tiny.pt", small_config(64))
    for name in (data.TRAIN[0], data.TEST[0]):
        _write_sequence(folder / "DAVIS", name)
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LOG))
    card, output = folder / "card.md", folder / "out.json"
    shutil.copy(CARD, card)
    arguments = ["--model", model, "--config", model.with_suffix(".yaml")]
    arguments += ["--davis", folder / "DAVIS", "--log", folder / "log.jsonl", "--quick"]
    arguments += ["-o", output, "--card", card, "--threads", 1]
    words = [str(word) for word in arguments]
    status = demo_model.main(words)
    return Run(words, status, json.loads(output.read_text()), card.read_text())


def _write_sequence(root: Path, name: str) -> None:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    frames = drawn_clip(FRAMES, HEIGHT, WIDTH)
    for index, share in enumerate(np.linspace(0.2, 0.6, FRAMES)):
        mask = np.hypot(x - share * WIDTH, y - 0.5 * HEIGHT) < 0.14 * HEIGHT
        for part, suffix, picture in (
            ("JPEGImages", "jpg", frames[index]),
            ("Annotations", "png", mask.astype(np.uint8) * 255),
        ):
            folder = root / part / "480p" / name
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(folder / f"{index:05d}.{suffix}")


@pytest.mark.slow
def test_every_part_is_measured(run):
    from benchmarks.accuracy.demo_model import PLAN

    results = run.report["results"]
    assert set(results["parts"]) == {", ".join(part) for part in PLAN} | {"file sizes"}
    for part in PLAN:
        scores = results["parts"][", ".join(part)]["results"]
        assert 0 <= scores["J&F"] <= 100
        assert scores["frames"] == (2 if part[0] == "images" else 4)
        # What only copies reads no frame, and so has no time.
        assert (scores["frames_per_second"] is None) == (part[1] == "first mask")
    assert set(results["bytes"]) == {"checkpoint", "onnx float", "onnx w8a8"}
    assert results["bytes"]["onnx w8a8"] < results["bytes"]["onnx float"]
    assert results["model"]["image_size"] == 64


@pytest.mark.slow
def test_status_tells_whether_the_exported_models_agree(run):
    rows = run.report["results"]["differences"]
    limits = run.report["results"]["limits"]
    assert {row["engine"] for row in rows} == set(limits) == {"onnx float", "onnx w8a8"}
    for row in rows:
        if row["dataset"] == "images":
            assert row["within"] is None
            if row["engine"] == "onnx float":  # a single frame, through which nothing can spread
                assert abs(row["difference"]) < 0.1
        elif row["engine"] == "onnx float":
            assert row["within"] == (abs(row["difference"]) <= limits["onnx float"])
        else:
            assert row["within"] == (row["difference"] >= -limits["onnx w8a8"])
    assert run.status == int(any(row["within"] is False for row in rows))


@pytest.mark.slow
def test_training_time_is_counted_by_stage(run):
    training = run.report["results"]["training"]
    follow, prompts = training["stages"]
    assert (follow["steps"], follow["seconds_per_step"]) == (200, 0.6)
    assert follow["images_per_second"] == pytest.approx(8 * 2 / 0.6, abs=0.01)
    assert (prompts["steps"], prompts["seconds_per_step"]) == (100, 0.5)
    assert prompts["images_per_second"] == pytest.approx(12 / 0.5)
    assert training["curve"] == [
        {"step": 200, "stage": "follow", "minutes": 2.0, "scores": {"generated J&F": 41.25}}
    ]


@pytest.mark.slow
def test_card_keeps_what_was_written_by_hand(run):
    pattern = r"<!-- (\w+) -->.*?<!-- /\1 -->"
    written, before = (
        re.split(pattern, text, flags=re.DOTALL) for text in (run.card, CARD.read_text())
    )
    assert written == before
    sections = re.findall(r"<!-- (\w+) -->\n(.*?)\n<!-- /\1 -->", run.card, re.DOTALL)
    assert [name for name, _ in sections] == list(SECTIONS)
    contents = dict(sections)
    assert f"| {data.TEST[0]} | 4 |" in contents["scores"]
    assert run.report["results"]["settings"]["model_sha256"] in contents["model"]
    assert "| follow | 128 | 8 x 2 | 200 | 2.0 | 0.60 | 26.7 |" in contents["training"]
    assert "1 thread for each engine" in contents["speed"]
    for _, content in sections:
        for table in re.findall(r"(?:^\|.*\n?)+", content, re.MULTILINE):
            assert len({line.count("|") for line in table.splitlines()}) == 1


@pytest.mark.slow
def test_second_run_measures_nothing_again(run, monkeypatch):
    from benchmarks.accuracy import demo_model

    monkeypatch.setattr(demo_model, "evaluate", None)
    monkeypatch.setattr(demo_model, "onnx_from_checkpoint", None)
    assert demo_model.main(run.arguments) == run.status
    again = json.loads(Path(run.arguments[run.arguments.index("-o") + 1]).read_text())
    assert again["results"] == run.report["results"]


@pytest.mark.slow
def test_card_without_a_marker_is_refused_before_the_work(run, tmp_path, capsys):
    from benchmarks.accuracy import demo_model

    card = tmp_path / "card.md"
    card.write_text(CARD.read_text().replace("<!-- speed -->", ""))
    arguments = [*run.arguments]
    arguments[arguments.index("--card") + 1] = str(card)
    arguments[arguments.index("-o") + 1] = str(tmp_path / "new.json")
    assert demo_model.main(arguments) == 2
    assert "section 'speed'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [card]


def test_parts_are_measured_again_if_a_setting_changed(tmp_path):
    path, calls = tmp_path / "out.json", []

    def measure():
        calls.append(1)
        return {"score": len(calls)}

    def part(settings, model):
        return KeptParts("b", path, {"model": model}).part("p", settings, measure)["score"]

    assert part({"frames": (1, 2)}, "a") == part({"frames": (1, 2)}, "a") == 1
    assert part({"frames": (1, 3)}, "a") == 2
    assert part({"frames": (1, 3)}, "b") == 3


def test_report_of_something_else_is_not_overwritten(tmp_path):
    path = tmp_path / "out.json"
    path.write_text('{"results": []}')
    with pytest.raises(InputError, match="delete it"):
        KeptParts("b", path, {})
    assert path.read_text() == '{"results": []}'


def test_filled_replaces_one_section_only():
    text = "a\n<!-- x -->\nold\n<!-- /x -->\nb <!-- y -->\\1<!-- /y -->"
    assert filled(text, {"x": "new \\1"}, "card").startswith(
        "a\n<!-- x -->\nnew \\1\n<!-- /x -->\nb"
    )
    with pytest.raises(InputError, match="section 'z'"):
        filled(text, {"z": ""}, "card")


def test_first_mask_is_right_exactly_where_nothing_moves():
    masks = np.zeros((5, 1, 16, 16), bool)
    masks[:, :, 4:8, 4:8] = True
    masks[2] = np.roll(masks[2], 8, axis=-1)
    clip = data.ClipSequence(Clip(np.zeros((5, 16, 16, 3), np.uint8), masks, "clip"))
    result = evaluate(data.FirstMask(), [clip], DAVIS)
    assert result.j == pytest.approx(100 * 2 / 3)  # of the frames 1, 2 and 3, the second is wrong
    with pytest.raises(PromptError):
        evaluate(data.FirstMask(), data.still_frames([clip], 1), IMAGES, prompt="box")


def test_stills_leave_out_frames_without_the_object():
    masks = np.ones((5, 1, 8, 8), bool)
    masks[2] = False
    frames = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 3), np.uint8)
    stills = data.still_frames([data.ClipSequence(Clip(frames, masks, "clip"))], 2)
    assert [still.name for still in stills] == ["clip/00000", "clip/00004"]
    assert stills[1].frame(0)[0, 0, 0] == 4


def test_seed_of_the_scored_clips_is_no_recipes():
    yaml = pytest.importorskip("yaml", reason="reading recipes needs pyyaml")
    validate = pytest.importorskip(
        "qsam2_deploy.training.run.validate", reason="training needs torch"
    )
    recipes = [yaml.safe_load(path.read_text()) for path in (ROOT / "recipes").glob("*.yaml")]
    seeds = {recipe["seed"] for recipe in recipes if "seed" in recipe}
    assert seeds
    assert data.HELD_OUT_SEED not in seeds | {seed + validate._HELD_OUT for seed in seeds}


def test_card_names_the_split():
    text = " ".join(CARD.read_text().replace("\\\n", " ").split())
    assert f"--sequences {','.join(data.TRAIN)}" in text
    assert not set(data.TRAIN) & set(data.TEST)
    assert all(name in text for name in data.TEST)
