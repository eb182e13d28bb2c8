"""The command qsam2-train."""

import os
import shutil

import pytest
import torch
import yaml

from qsam2_deploy.cli.train import main
from qsam2_deploy.quant.checkpoints.checkpoint import load_checkpoint
from qsam2_deploy.training.run import loop
from qsam2_deploy.training.run.log import read_log
from tests.cli.refusal import assert_refused
from tests.support.small_config import small_config
from tests.training.jobs import validate_little, write_job
from tests.training.small import tiny_config
from tests.training.test_qat import write_float, write_quantized

ALL_DATA = "recipe.yaml --davis davis --sequences a,b,c --validate c"


def run_command(line):
    return main([*line.split(), "--device", "cpu"])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a finished run: ``full.pt`` and what appears beside it."""
    torch.set_num_threads(1)  # sums come in the same order everywhere
    folder = tmp_path_factory.mktemp("finished")
    write_job(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        validate_little(patch)
        assert run_command(f"{ALL_DATA} -o full.pt") == 0
    return folder


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    validate_little(monkeypatch)
    write_job(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def wrong_files(tmp_path_factory):
    """A job, and files beside it with which it does not work."""
    folder = tmp_path_factory.mktemp("wrong")
    write_job(folder)
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text())
    first, second = recipe["stages"]
    generated = {**first, "data": {"generated": 1}}
    for name, content in {
        "bad": {**recipe, "speed": 3},
        "source": {**recipe, "data": {"photos": {}}},
        "alone": {key: value for key, value in recipe.items() if key != "model"},
        "nomodel": {**recipe, "model": "none.yaml"},
        "later": {**recipe, "stages": [generated, second]},
    }.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))
    (folder / "junk.yaml").write_text("stages: [")
    write_float(folder / "float.pt")
    write_quantized(folder / "quantized.pt", source=folder / "float.pt")
    return folder


@pytest.fixture
def wrong(wrong_files, tmp_path, monkeypatch):
    """A copy of them, as the current folder."""
    shutil.copytree(wrong_files, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    validate_little(monkeypatch)


def weights(path):
    return torch.load(path, weights_only=True)["model"]


def test_a_whole_run(finished):
    names = {path.name for path in finished.iterdir()}
    assert {"full.pt", "full.state", "full.log.jsonl", "full.curves.png"} <= names
    assert len(names) == 7
    checkpoint = load_checkpoint(finished / "full.pt")
    assert checkpoint.model.image_size == 64
    assert checkpoint.quantization is None
    assert all(value.dtype == torch.float32 for value in weights(finished / "full.pt").values())
    lines = read_log(finished / "full.log.jsonl")
    assert [line["step"] for line in lines if "losses" in line] == [1, 2, 3, 4]
    scores = [line["scores"] for line in lines if "scores" in line]
    assert len(scores) == 2
    # Sequence c is scored, as --validate says.
    assert {"generated J&F", "videos J&F", "videos J&F click", "videos IoU box"} <= set(scores[0])


def test_what_it_prints(folder, capsys):
    write_job(folder, stages=yaml.safe_load((folder / "recipe.yaml").read_text())["stages"][:1])
    assert run_command("recipe.yaml --davis davis -o new.pt") == 0
    out, err = capsys.readouterr()
    assert out == "wrote new.pt\n"
    assert err.count("images step") == 3
    assert "total" in err
    assert "IoU box" in err


def test_half(finished, folder):
    """The run is finished, so --resume only writes the checkpoint again."""
    for path in finished.glob("full.*"):
        shutil.copy(path, folder)
    assert run_command(f"{ALL_DATA} -o full.pt --resume --half") == 0
    half, full = weights("full.pt"), weights(finished / "full.pt")
    for name, value in full.items():
        assert half[name].dtype == torch.float16
        assert torch.equal(half[name], value.half())
    assert load_checkpoint("full.pt").model.image_size == 64


def test_resume(finished, folder, monkeypatch, capsys):
    """Interrupted in the second stage and resumed, it ends with the same weights."""
    real = loop.TrainingRun._step

    def stopping(self, *arguments):
        if self.state.step == 3:
            raise KeyboardInterrupt
        return real(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop.TrainingRun, "_step", stopping)
        assert run_command(f"{ALL_DATA} -o full.pt") == 130
    assert not (folder / "full.pt").exists()
    capsys.readouterr()
    assert run_command(f"{ALL_DATA} -o full.pt") == 2
    assert "full.state holds the state of an earlier run; pass --resume" in capsys.readouterr().err
    assert run_command(f"{ALL_DATA} -o full.pt --resume") == 0
    found, wanted = weights("full.pt"), weights(finished / "full.pt")
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    steps = [line["step"] for line in read_log(folder / "full.log.jsonl") if "losses" in line]
    assert steps == [1, 2, 3, 4]


def test_resume_with_another_recipe(finished, folder, capsys):
    shutil.copy(finished / "full.state", folder)
    write_job(folder, seed=5)
    before = (folder / "full.state").read_bytes()
    assert run_command(f"{ALL_DATA} -o full.pt --resume") == 2
    said = capsys.readouterr().err
    assert "belongs to a run with another recipe, seed, architecture or data" in said
    assert (folder / "full.state").read_bytes() == before


@pytest.mark.parametrize("change", ["d_model", "blocks"])
def test_resume_with_another_architecture(finished, folder, capsys, change):
    for path in finished.glob("full.*"):
        shutil.copy(path, folder)
    model = small_config(128, d_model=64 if change == "d_model" else 32, memory_dim=16, embed_dim=8)
    if change == "blocks":
        model["model"]["image_encoder"]["trunk"]["stages"] = [1, 2, 4, 2]
    assert model != tiny_config(128)
    (folder / "tiny.yaml").write_text(yaml.safe_dump(model))
    before = {path: path.read_bytes() for path in folder.glob("full.*")}
    status = run_command(f"{ALL_DATA} -o full.pt --resume")
    said = "full.state belongs to a run with another recipe"
    assert_refused("qsam2-train", status, said, capsys)
    assert {path: path.read_bytes() for path in folder.glob("full.*")} == before
    assert len(before) == 4


def test_from_a_checkpoint(finished, folder):
    """Without from_scratch the first weights are those of --init; a tiny rate keeps them."""
    stage = {"name": "s", "steps": 1, "frames": 1, "clips": 1, "image_size": 96,
             "learning_rate": [1e-9, 1e-9]}  # fmt: skip
    write_job(folder, from_scratch=None, model=None, stages=[stage])
    assert run_command(f"recipe.yaml --init {finished / 'full.pt'} -o tuned.pt") == 0
    tuned, start = weights("tuned.pt"), weights(finished / "full.pt")
    for name, value in start.items():
        torch.testing.assert_close(tuned[name], value, rtol=0, atol=1e-6)
    assert load_checkpoint("tuned.pt").model.image_size == 96


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("none.yaml", "cannot read the recipe none.yaml: No such file"),
        ("bad.yaml", "bad.yaml has the unknown key 'speed'; expected some of stages"),
        ("junk.yaml", "junk.yaml is not valid YAML"),
        ("source.yaml", "there is no data source 'photos'; expected some of generated, videos"),
        ("alone.yaml", "alone.yaml names no 'model' to build; add it, or give a checkpoint"),
        ("nomodel.yaml", "cannot read the configuration none.yaml: No such file"),
        ("recipe.yaml", "stage images trains on 'pasted', but no such data was given"),
        ("later.yaml", "stage clips trains on 'videos', but no such data was given"),
        ("recipe.yaml --davis none", "there is no folder none"),
        ("recipe.yaml --davis davis --sequences z", "there is no sequence 'z'"),
        ("recipe.yaml --davis davis --validate z", "there is no sequence 'z'"),
        ("recipe.yaml --sequences a", "--sequences names DAVIS sequences; give their folder"),
        ("recipe.yaml --validate a", "--validate names DAVIS sequences; give their folder"),
        ("recipe.yaml --sa-v davis", "is no SA-V folder"),
        ("recipe.yaml --images results", "there is no folder results"),
        ("recipe.yaml --davis davis --init none.pt", "there is no checkpoint none.pt"),
        ("recipe.yaml --davis davis --init junk.yaml", "is truncated or not a PyTorch checkpoint"),
        ("recipe.yaml --davis davis --resume", "there is no training state new.state to resume"),
        ("recipe.yaml --davis davis --device tpu", "there is no device 'tpu'; expected cpu or cu"),
        ("recipe.yaml --davis davis -o no/new.pt", "the folder does not exist"),
        ("recipe.yaml --davis davis -o davis", "it is a folder; give a file name"),
        ("", "the following arguments are required: QUANTIZED.pt|RECIPE.yaml"),
        ("recipe.yaml --recipe recipe.yaml", "recipe.yaml is a recipe already; give --recipe tog"),
        ("recipe.yaml --teacher float.pt", "a teacher is for a quantized checkpoint"),
        ("float.pt", "float.pt is a float checkpoint, but its quantizers are to be trained"),
        ("none.pt", "there is no checkpoint none.pt"),
        ("float.pt --init float.pt", "--init is for float training with a recipe, but float.pt is"),
        ("recipe.yaml --davis davis --init quantized.pt", "quantized.pt is quantized; float trai"),
        ("quantized.pt --teacher quantized.pt", "the teacher quantized.pt is quantized; give the"),
        ("quantized.pt --half", "half precision is chosen when a model is quantized"),
        ("quantized.pt --recipe recipe.yaml", "recipe.yaml builds a model ('model', 'from_scratc"),
        ("quantized.pt --video none.mp4", "there is no video none.mp4; expected a video or a"),
        ("quantized.pt --video davis/JPEGImages/480p/a", "trains on frames without labels, but"),
    ],
)
def test_bad_input_is_one_sentence(wrong, arguments, message, capsys):
    before = sorted(os.listdir())
    output = [] if "-o" in arguments else ["-o", "new.pt"]
    assert_refused("qsam2-train", main([*arguments.split(), *output]), message, capsys)
    assert sorted(os.listdir()) == before


def test_a_damaged_frame_is_one_sentence(folder, capsys):
    for path in (folder / "davis/JPEGImages/480p/a").iterdir():
        path.write_bytes(b"junk")
    assert run_command("recipe.yaml --davis davis -o new.pt") == 2
    err = capsys.readouterr().err
    assert "davis/JPEGImages/480p/a/0000" in err
    assert len(err.splitlines()) == 1
    assert not list(folder.glob("new.*"))


def test_preview_shows_every_stage_and_trains_nothing(folder):
    from PIL import Image

    assert run_command(f"{ALL_DATA} --preview clips.png") == 0
    with Image.open("clips.png") as picture:
        size = picture.size
    # Two images of 32 pixels side by side, two clips of two frames of 64; plain and outlined.
    assert size == (2 * 64, 2 * 32 + 8 + 2 * 2 * 64)
    assert not list(folder.glob("*.state"))


@pytest.mark.slow
def test_a_quantized_checkpoint(folder, capsys):
    """With the built-in recipe, made short; unlabelled frames beside generated clips."""
    write_float(folder / "float.pt")
    write_quantized(folder / "quantized.pt", source=folder / "float.pt")
    video = "--video davis/JPEGImages/480p/a --teacher float.pt"
    assert run_command(f"quantized.pt --preview clips.png {video}") == 0
    assert run_command(f"quantized.pt -o trained.pt --scale 0.0001 {video}") == 0
    assert capsys.readouterr().out == "wrote clips.png\nwrote trained.pt\n"
    trained = load_checkpoint("trained.pt")
    assert trained.quantization["recipe"]["training"]["recipe"] == "qat.yaml"
    assert trained.quantization["recipe"]["training"]["steps"] == 2
    assert {line["stage"] for line in read_log(folder / "trained.log.jsonl")} == {"images", "clips"}


def test_neither_output_nor_preview(folder, capsys):
    assert run_command("recipe.yaml") == 2
    assert "no output was named; give the trained checkpoint with -o" in capsys.readouterr().err
