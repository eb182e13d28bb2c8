"""The library call behind qsam2-eval, on folders of PNG results."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from qsam2_deploy.errors import InputError, ModelFileError, PromptError, VideoError
from qsam2_deploy.evaluation import EvaluationConfig, exported_model, run_evaluation
from qsam2_deploy.evaluation.worst_frames import draw_comparison
from tests.data.datasets import frame, moving, square, write_davis, write_image, write_sav


@pytest.fixture
def davis(tmp_path):
    return write_davis(tmp_path / "davis", {"a": moving(6), "b": moving(4)})


@pytest.fixture
def results(tmp_path, davis):
    folder = tmp_path / "results"
    shutil.copytree(davis / "Annotations" / "480p", folder)
    return folder


class TestPngResults:
    def test_perfect(self, results, davis):
        assert run_evaluation(EvaluationConfig(results, "davis", davis)).j_and_f == 100

    def test_one_frame_wrong(self, results, davis):
        write_image(results / "a" / "00003.png", square(50, 30), palette=True)
        result = run_evaluation(EvaluationConfig(results, "davis", davis, sequences="a"))
        assert result.j == 75
        assert result.sequences[0].objects[0].worst_frame == 3

    def test_0_and_255(self, results, davis):
        for index, labels in enumerate(moving(4)):
            write_image(results / "b" / f"{index:05d}.png", labels * 255)
        assert run_evaluation(EvaluationConfig(results, "davis", davis)).j == 100

    def test_a_folder_per_object(self, tmp_path):
        objects = {3: {i: moving(13)[i] for i in range(0, 13, 4)}}
        root = write_sav(tmp_path / "sav", {"v": objects}, 13)
        shutil.copytree(root / "Annotations_6fps", tmp_path / "results")
        config = EvaluationConfig(tmp_path / "results", "sa-v", root)
        assert run_evaluation(config).j == 100
        (tmp_path / "results" / "v" / "003" / "00004.png").unlink()
        with pytest.raises(VideoError, match=r"not complete: there is no .*00004\.png"):
            run_evaluation(config)

    def test_no_sequence(self, results, davis):
        shutil.rmtree(results / "b")
        with pytest.raises(VideoError, match="there are no results for b; expected"):
            run_evaluation(EvaluationConfig(results, "davis", davis))

    def test_no_frame(self, results, davis):
        (results / "a" / "00002.png").unlink()
        with pytest.raises(VideoError, match=r"results for a are not complete.*00002\.png"):
            run_evaluation(EvaluationConfig(results, "davis", davis))

    def test_unknown_object(self, results, davis):
        write_image(results / "a" / "00003.png", square(5, 5, value=2), palette=True)
        with pytest.raises(VideoError, match="shows object 2, but a has the objects 1"):
            run_evaluation(EvaluationConfig(results, "davis", davis))

    def test_another_size(self, results, davis):
        write_image(results / "a" / "00003.png", np.ones((5, 6), np.uint8))
        with pytest.raises(VideoError, match="6x5 pixels, but its frame is 64x48"):
            run_evaluation(EvaluationConfig(results, "davis", davis))

    def test_damaged(self, results, davis):
        (results / "a" / "00003.png").write_bytes(b"no image")
        with pytest.raises(VideoError, match=r"cannot read .*00003\.png"):
            run_evaluation(EvaluationConfig(results, "davis", davis))


class TestOutputs:
    def test_json(self, results, davis, tmp_path):
        config = EvaluationConfig(results, "davis", davis, json_path=tmp_path / "out.json")
        run_evaluation(config)
        data = json.loads((tmp_path / "out.json").read_text())
        assert data["J&F"] == 100
        assert data["rule"] == "davis"
        assert data["frames_per_second"] is None
        settings = data["settings"]
        assert settings["prompt"] == "mask"
        assert settings["model"] == "results"
        assert settings["dataset"] == "davis"
        assert {"qsam2-deploy", "numpy", "python", "rule"} <= set(settings)
        assert str(tmp_path) not in (tmp_path / "out.json").read_text()

    def test_saved_masks_are_results_again(self, results, davis, tmp_path):
        write_image(results / "a" / "00003.png", square(20, 14), palette=True)
        masks = tmp_path / "masks"
        first = run_evaluation(EvaluationConfig(results, "davis", davis, masks_dir=masks))
        again = run_evaluation(EvaluationConfig(masks, "davis", davis))
        assert first.j < 100
        assert again.sequences == first.sequences
        assert sorted(p.name for p in (masks / "a").iterdir()) == [f"{i:05d}.png" for i in range(6)]
        with Image.open(masks / "a" / "00001.png") as image:
            assert image.mode == "P"

    def test_saved_masks_of_overlapping_objects(self, tmp_path):
        moves = moving(13)
        objects = {i: {k: moves[k] for k in range(0, 13, 4)} for i in (0, 2)}
        root = write_sav(tmp_path / "sav", {"v": objects}, 13)
        shutil.copytree(root / "Annotations_6fps", tmp_path / "results")
        masks = tmp_path / "masks"
        config = EvaluationConfig(tmp_path / "results", "sa-v", root, masks_dir=masks)
        run_evaluation(config)
        assert sorted(p.name for p in (masks / "v").iterdir()) == ["000", "002"]
        assert run_evaluation(EvaluationConfig(masks, "sa-v", root)).j == 100

    def test_plot(self, results, davis, tmp_path):
        write_image(results / "a" / "00003.png", square(50, 30), palette=True)
        plot = tmp_path / "worst.png"
        run_evaluation(EvaluationConfig(results, "davis", davis, plot_path=plot))
        with Image.open(plot) as image:
            sheet = np.array(image)
        assert sheet.shape[1] == 2 * 404 + 4
        # The worst object comes first: its prediction, of the object's colour, is far from the
        # white outline of the truth.
        tile = sheet[44:344, 4:404].astype(int)
        coloured = (abs(tile - (0, 158, 255)).sum(axis=2) < 60).nonzero()
        white = (tile.sum(axis=2) > 740).nonzero()
        assert coloured[1].mean() > white[1].mean() + 150
        assert len(white[0]) > 200

    @pytest.mark.parametrize("name", ["json_path", "plot_path", "masks_dir"])
    def test_missing_folder_is_said_before_the_work(self, results, davis, tmp_path, name):
        (results / "a" / "00000.png").write_bytes(b"never read")
        config = EvaluationConfig(results, "davis", davis, **{name: tmp_path / "no" / "out.png"})
        with pytest.raises(InputError, match="the folder does not exist"):
            run_evaluation(config)

    @pytest.mark.parametrize("place", ["results", "davis", "davis/Annotations/480p"])
    def test_saved_masks_replace_no_input(self, results, davis, tmp_path, place):
        before = {p: p.read_bytes() for p in tmp_path.rglob("*.png")}
        with pytest.raises(InputError, match=r"would replace an input|would be written into"):
            run_evaluation(EvaluationConfig(results, "davis", davis, masks_dir=tmp_path / place))
        assert {p: p.read_bytes() for p in tmp_path.rglob("*.png")} == before

    def test_masks_of_a_manifest_replace_no_annotation(self, results, davis, tmp_path):
        manifest = tmp_path / "m.jsonl"
        entry = {"video": "davis/JPEGImages/480p/a", "annotations": "davis/Annotations/480p/a"}
        manifest.write_text(json.dumps(entry))
        for values in ({"masks_dir": davis / "Annotations/480p"}, {"json_path": manifest}):
            with pytest.raises(InputError, match="would replace an input"):
                run_evaluation(EvaluationConfig(results, "manifest", manifest, **values))
        assert json.loads(manifest.read_text()) == entry

    def test_failure_leaves_no_file(self, results, davis, tmp_path):
        (results / "b" / "00002.png").write_bytes(b"no image")
        before = sorted(tmp_path.iterdir())
        config = EvaluationConfig(
            results, "davis", davis, json_path=tmp_path / "o.json", plot_path=tmp_path / "o.png"
        )
        with pytest.raises(VideoError):
            run_evaluation(config)
        assert sorted(tmp_path.iterdir()) == before

    def test_suffix_of_the_plot(self, results, davis, tmp_path):
        config = EvaluationConfig(results, "davis", davis, plot_path=tmp_path / "o.gif")
        with pytest.raises(VideoError, match=r"must end in \.png"):
            run_evaluation(config)


class TestModelFile:
    def test_absent(self, davis, tmp_path):
        with pytest.raises(ModelFileError, match="there is no model"):
            run_evaluation(EvaluationConfig(tmp_path / "m.onnx", "davis", davis))

    def test_of_another_kind(self, davis, tmp_path):
        (tmp_path / "m.tflite").write_bytes(b"")
        with pytest.raises(ModelFileError, match=r"cannot evaluate .*m\.tflite; expected"):
            run_evaluation(EvaluationConfig(tmp_path / "m.tflite", "davis", davis))


class TestConfig:
    def test_images_take_no_masks(self, tmp_path):
        with pytest.raises(PromptError, match="with a click or a box, not with a mask"):
            EvaluationConfig(tmp_path, "images", tmp_path, prompt="mask")

    def test_unknown_prompt(self, tmp_path):
        with pytest.raises(PromptError, match="one of mask, click, box"):
            EvaluationConfig(tmp_path, "davis", tmp_path, prompt="word")

    def test_defaults(self, tmp_path):
        assert EvaluationConfig(tmp_path, "davis", tmp_path).chosen_prompt == "mask"
        assert EvaluationConfig(tmp_path, "images", tmp_path).chosen_prompt == "click"


def test_images(tmp_path):
    root = tmp_path / "set"
    for name, x in (("a", 3), ("b", 30)):
        write_image(root / "images" / f"{name}.jpg", frame(0))
        write_image(root / "masks" / f"{name}.png", square(x, 4), palette=True)
        write_image(tmp_path / "results" / name / "00000.png", square(3, 4), palette=True)
    result = run_evaluation(EvaluationConfig(tmp_path / "results", "images", root))
    assert [item.j for item in result.sequences] == [100, 0]
    assert result.rule == "images"


def test_comparison_keeps_the_rest_of_the_frame():
    pixels = frame(3)
    predicted, truth = square(4, 4) > 0, square(30, 20) > 0
    drawn = draw_comparison(pixels, predicted, truth, 1)
    untouched = ~predicted & ~truth
    assert np.array_equal(drawn[untouched], pixels[untouched])
    assert (drawn[20, 30:46] == 255).all()
    assert not np.array_equal(drawn[12, 12], pixels[12, 12])


@pytest.mark.parametrize("count", [None, 3])
def test_memory_frames_reach_the_segmenter(davis, tmp_path, monkeypatch, count):
    """With a model that cannot be loaded: the segmenter is asked for before it is entered."""
    asked = []

    def segmenter(model, backend, **options):
        asked.append((model.name, options["memory_frames"]))
        raise ModelFileError("far enough")

    monkeypatch.setattr(exported_model, "VideoSegmenter", segmenter)
    (tmp_path / "m.onnx").write_bytes(b"")
    config = EvaluationConfig(tmp_path / "m.onnx", "davis", davis, memory_frames=count)
    with pytest.raises(ModelFileError, match="far enough"):
        run_evaluation(config)
    assert asked == [("m.onnx", count)]


@pytest.mark.parametrize("name", ["m.pt", "m.safetensors", "saved", "me/mine"])
def test_checkpoints_go_to_who_opens_them(davis, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    if name == "saved":
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").touch()
    elif "/" not in name:
        (tmp_path / name).touch()

    def opened(config, exclusive):
        raise InputError(f"opened {config.model}")

    config = EvaluationConfig(Path(name), "davis", davis)
    with pytest.raises(InputError, match=f"opened {name}"):
        run_evaluation(config, opened)
