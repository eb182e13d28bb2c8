"""Quantized checkpoints from file to file."""

import dataclasses
import hashlib
import shutil

import pytest
import torch

from qsam2_deploy.errors import CheckpointError, InputError
from qsam2_deploy.quant.checkpoints.architecture import build_model, effective_config
from qsam2_deploy.quant.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from qsam2_deploy.quant.checkpoints.entry import float_state, make_entry
from qsam2_deploy.quant.layers.modules import quantized_layers
from qsam2_deploy.training.model.qat import load_quantized, load_teacher, save_quantized
from qsam2_deploy.training.recipe import default_qat_recipe, read_recipe
from qsam2_deploy.training.run.log import read_log
from qsam2_deploy.training.train import TrainJob, sized_recipe, train_model
from tests.support.quantized_model import quantize_in_place
from tests.support.small_config import small_config
from tests.training.jobs import validate_little
from tests.training.small import tiny_config

RECIPE = """
warmup_steps: 1
ema: 0.5
save_every: 1
log_every: 1
skip_missing_data: true
data: {generated: {textures: 4}}
quantizers: {observe_first: 1, lower: [[0.5, 8]]}
stages:
  - {name: s, steps: 2, frames: 2, clips: 1, objects: 1, data: {generated: 1, videos: 1},
     prompts: {points: 0}, distill: {features: 1}}
"""
SIZE = 64
LAYERS = (
    "image_encoder.trunk.blocks.0",
    "memory_attention.layers.0.self_attn",
    "sam_mask_decoder.output_upscaling",
    "memory_encoder.out_proj",
)
"""Some of every kind; starting the quantizers of all would take a test's time."""


def write_float(path, config=None):
    config = effective_config(config or tiny_config(SIZE))
    torch.manual_seed(0)
    save_checkpoint(path, build_model(config).state_dict(), config=config)
    return path


def write_quantized(path, bits=4, *, source, **options):
    checkpoint = load_checkpoint(source)
    quantize_in_place(checkpoint.model, bits, **{"only": LAYERS, **options})
    widths = {"weight_bits": bits, "activation_bits": bits}
    entry = make_entry(
        checkpoint.model, recipe={"bits": f"w{bits}a{bits}"}, scope="all",
        source_sha256=checkpoint.sha256, vrc={"layer": {"std_ratio": 0.5}}, **widths,
    )  # fmt: skip
    state = float_state(checkpoint.model)
    save_checkpoint(path, state, config=checkpoint.config, quantization=entry)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The folder of ``float.pt``, ``q4.pt``, ``q8.pt``, ``half.pt`` and ``recipe.yaml``."""
    folder = tmp_path_factory.mktemp("files")
    source = write_float(folder / "float.pt")
    write_quantized(folder / "q4.pt", 4, source=source)
    write_quantized(folder / "q8.pt", 8, source=source)
    write_quantized(folder / "half.pt", 4, source=source, half=True)
    (folder / "recipe.yaml").write_text(RECIPE)
    return folder


def job(files, output, **changes):
    return TrainJob(
        **{
            "recipe": read_recipe(files / "recipe.yaml"),
            "output": output,
            "quantized": files / "q4.pt",
            "teacher": files / "float.pt",
            "device": "cpu",
            "quiet": True,
            **changes,
        }
    )


@pytest.fixture(scope="module")
def finished(files, tmp_path_factory):
    """The folder of a finished run: ``trained.pt`` and what is beside it."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        validate_little(patch)
        assert train_model(job(files, folder / "trained.pt")) == folder / "trained.pt"
    return folder


def test_a_whole_run(files, finished, tmp_path, monkeypatch):
    validate_little(monkeypatch)
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    output = tmp_path / "trained.pt"
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["trained.curves.png", "trained.log.jsonl", "trained.pt", "trained.state"]
    before, after = load_checkpoint(files / "q4.pt"), load_checkpoint(output)
    kept = ("scope", "weight_bits", "activation_bits", "source_sha256", "vrc", "format_version")
    assert {k: after.quantization[k] for k in kept} == {k: before.quantization[k] for k in kept}
    recipe = after.quantization["recipe"]
    assert recipe["bits"] == "w4a4"
    assert recipe["training"]["steps"] == 2
    assert recipe["training"]["start_sha256"] == before.sha256
    assert recipe["training"]["teacher_sha256"] == load_checkpoint(files / "float.pt").sha256
    trained, start = quantized_layers(after.model), quantized_layers(before.model)
    kinds = {type(layer).__name__ for layer in trained.values()}
    assert kinds == {"QuantLinear", "QuantConv2d", "QuantConvTranspose2d"}
    for name, layer in after.quantization["layers"].items():
        weight = trained[name].weight.detach().numpy()
        assert layer["weight_sha256"] == hashlib.sha256(weight.tobytes()).hexdigest()
        assert layer["weight"]["bits"] == layer["input"]["bits"] == 4
    assert any(not torch.equal(trained[n].weight, start[n].weight) for n in start)
    assert any("features" in line.get("losses", {}) for line in read_log(tmp_path / names[1]))
    # It can be trained again, as any quantized checkpoint can.
    again = tmp_path / "again.pt"
    train_model(job(files, again, quantized=output))
    assert load_checkpoint(again).quantization["recipe"]["training"]["start_sha256"] == after.sha256


@pytest.mark.parametrize("half", [False, True])
def test_a_reload_computes_the_same_to_the_bit(files, tmp_path, half):
    start = load_quantized(files / ("half.pt" if half else "q4.pt"))
    model = start.model
    with torch.no_grad():
        for index, parameter in enumerate(model.parameters()):
            parameter.mul_(1 + 1e-3 * (index % 7))
    save_quantized(tmp_path / "saved.pt", model, start, {"steps": 3})
    again = load_checkpoint(tmp_path / "saved.pt").model
    x = torch.randn(1, 3, SIZE, SIZE)
    with torch.no_grad():
        ours, theirs = model.forward_image(x), again.forward_image(x)
    for mine, other in zip(ours["backbone_fpn"], theirs["backbone_fpn"], strict=True):
        assert torch.equal(mine, other)
    norm = again.image_encoder.trunk.blocks[0].norm1.weight
    assert torch.equal(norm, norm.half().float()) == half
    layer = again.image_encoder.trunk.blocks[0].mlp.layers[0]
    assert not torch.equal(layer.weight, layer.weight.half().float())
    scale = layer.weight_quantizer.scale
    assert torch.equal(scale, scale.half().float()) == half


def test_other_bits_do_not_resume(files, finished, tmp_path, monkeypatch):
    validate_little(monkeypatch)
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    output = tmp_path / "trained.pt"
    state = (tmp_path / "trained.state").read_bytes()
    for changes in (
        {"quantized": files / "q8.pt"},
        {"teacher": None},
        {"quantized": None, "teacher": None, "init": files / "float.pt"},
    ):
        with pytest.raises(CheckpointError, match="architecture or data, or with other bits"):
            train_model(job(files, output, resume=True, **changes))
    assert (tmp_path / "trained.state").read_bytes() == state
    train_model(job(files, output, resume=True))


def test_a_recipe_without_sizes_takes_the_models(files, tmp_path):
    recipe = read_recipe(default_qat_recipe())
    sized = sized_recipe(job(files, tmp_path / "t.pt", recipe=recipe)).train
    assert {stage.image_size for stage in sized.stages} == {SIZE}


def test_a_float_checkpoint_is_refused(files):
    with pytest.raises(
        CheckpointError, match=r"float.pt is a float checkpoint, but its quantizers"
    ):
        load_quantized(files / "float.pt")


def test_teachers_that_are_refused(files, tmp_path):
    student = load_quantized(files / "q4.pt")
    assert load_teacher(files / "float.pt", student).quantization is None
    with pytest.raises(CheckpointError, match=r"the teacher .*q8.pt is quantized; give the float"):
        load_teacher(files / "q8.pt", student)
    other = write_float(tmp_path / "wide.pt", small_config(SIZE, d_model=64))
    with pytest.raises(CheckpointError, match=r"wide.pt is of another architecture than .*q4.pt"):
        load_teacher(other, student)
    deep = tiny_config(SIZE)
    deep["model"]["image_encoder"]["trunk"]["stages"] = [1, 2, 4, 2]
    other = write_float(tmp_path / "deep.pt", deep)
    with pytest.raises(CheckpointError, match=r"differ in image_encoder.trunk.blocks.*; give the"):
        load_teacher(other, student)


@pytest.mark.parametrize(
    ("changes", "recipe", "message"),
    [
        ({"half": True}, {}, "half precision is chosen when a model is quantized"),
        ({}, {"from_scratch": True}, "builds a model .'model', 'from_scratch'., but .*q4.pt holds"),
        ({"quantized": None}, {}, "a teacher is for a quantized checkpoint"),
        ({"teacher": None}, {"losses": {"focal": 0, "dice": 0, "iou": 0, "object_score": 0}},
         "trains on a teacher's losses alone"),
        ({}, {"distill": {}}, "has no stage that follows a teacher; set 'distill'"),
    ],
)  # fmt: skip
def test_what_does_not_go_together(files, tmp_path, changes, recipe, message, monkeypatch):
    import yaml

    validate_little(monkeypatch)
    content = yaml.safe_load(RECIPE)
    for key, value in recipe.items():
        (content if key == "from_scratch" else content["stages"][0])[key] = value
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match=message):
        train_model(
            dataclasses.replace(
                job(files, tmp_path / "t.pt", **changes), recipe=read_recipe(tmp_path / "r.yaml")
            )
        )
    assert [path.name for path in tmp_path.iterdir()] == ["r.yaml"]
