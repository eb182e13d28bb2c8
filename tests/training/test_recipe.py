"""Recipes, and every message of a bad one."""

import pytest

from qsam2_deploy.errors import InputError
from qsam2_deploy.training.config import LossWeights, Stage, TrainConfig
from qsam2_deploy.training.inputs.sources import settings_from_mapping
from qsam2_deploy.training.recipe import default_qat_recipe, read_recipe

GOOD = """
model: ../small.yaml
seed: 3
ema: 9.9e-1
data:
  generated: {max_objects: 2}
stages:
  - name: images
    steps: 10
    frames: 1
    clips: 4
    image_size: 64
    learning_rate: [5e-4, 1e-4]
    data: {generated: 3, videos: 5e-1}
    losses: {affinity: 1}
  - {name: clips, steps: 5, frames: 4, clips: 2, image_size: 128, mask_loss: balanced}
"""
STAGE = "{name: a, steps: 1, frames: 1, clips: 1, image_size: 32"


def read(tmp_path, text):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return read_recipe(path)


def test_the_default_for_quantized_checkpoints():
    recipe = read_recipe(default_qat_recipe())
    assert recipe.model is None
    assert recipe.train.skip_missing_data
    assert {stage.image_size for stage in recipe.train.stages} == {0}
    assert all(stage.distill.any for stage in recipe.train.stages)
    assert recipe.train.stages[-1].images.every == 3
    settings_from_mapping(recipe.data, seed=0, where="the default")


def test_pairs_of_shares_and_widths(tmp_path):
    text = f"quantizers: {{lower: [[2e-1, 8], [0.5, 4]]}}\nstages: [{STAGE}}}]"
    assert read(tmp_path, text).train.quantizers.lower == ((0.2, 8), (0.5, 4))
    with pytest.raises(InputError, match=r"quantizers: lower\[0\] must have 2 entries, but got 1"):
        read(tmp_path, text.replace("[2e-1, 8]", "[8]"))


def test_good(tmp_path):
    recipe = read(tmp_path, GOOD)
    assert recipe.model == tmp_path / "../small.yaml"
    assert recipe.data == {"generated": {"max_objects": 2}}
    assert recipe.train == TrainConfig(
        seed=3,
        ema=0.99,
        stages=(
            Stage(
                "images",
                steps=10,
                frames=1,
                clips=4,
                image_size=64,
                learning_rate=(5e-4, 1e-4),  # plain YAML 1.1 takes 5e-4 for text
                data={"generated": 3, "videos": 0.5},
                losses=LossWeights(affinity=1),
            ),
            Stage("clips", steps=5, frames=4, clips=2, image_size=128, mask_loss="balanced"),
        ),
    )
    assert isinstance(recipe.train.stages[0].learning_rate[0], float)


@pytest.mark.parametrize(("text", "value"), [("null", None), ("-1", -1.0), ("5e-1", 0.5)])
def test_a_value_that_may_be_left_out(tmp_path, text, value):
    path = tmp_path / "recipe.yaml"
    path.write_text(f"stages: [{STAGE}, object_bias: {text}}}]")
    assert read_recipe(path).train.stages[0].object_bias == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stages: [", "recipe.yaml is not valid YAML: .+"),
        ("a: [1\nb: 2", "recipe.yaml is not valid YAML: line 2: "),
        ("\x07", "recipe.yaml is not valid YAML: it is not a text file"),
        ("a: 2026-99-99", "recipe.yaml is not valid YAML: month must be in"),
        ("- 1", "must be a mapping with the key 'stages'"),
        ("", "must be a mapping with the key 'stages'"),
        ("seed: 1", "recipe.yaml lacks the key 'stages'"),
        ("stages: []", "a recipe needs at least one stage"),
        ("stages: 3", "recipe.yaml: stages must be a list, but got 3"),
        ("stages: [3]", r"stages\[0\] must be a mapping, but got 3"),
        (f"stages: [{STAGE}}}]\nspeed: 3", "unknown key 'speed'; expected some of stages, seed"),
        (f"stages: [{STAGE}, step: 3}}]", r"stages\[0\] has the unknown key 'step'; expected"),
        ("stages: [{name: a}]", r"stages\[0\] lacks the key 'steps'"),
        (f"stages: [{STAGE}, objects: many}}]", r"objects must be of type int, but got 'many'"),
        (f"stages: [{STAGE}, objects: true}}]", r"objects must be of type int, but got True"),
        (f"stages: [{STAGE}, objects: 1.5}}]", r"objects must be of type int, but got 1.5"),
        (f"stages: [{STAGE}, easy: [1]}}]", r"easy must have 2 entries, but got 1"),
        (f"stages: [{STAGE}, easy: [1, no]}}]", r"easy\[1\] must be of type float, but got False"),
        (f"stages: [{STAGE}, learning_rate: 5e-4}}]", r"learning_rate must be a list, but got '5"),
        (
            f"stages: [{STAGE}, learning_rate: [5f-4, 1]}}]",
            r"learning_rate\[0\] must be of type fl",
        ),
        (
            f"stages: [{STAGE}, object_bias: high}}]",
            r"object_bias must be of type float, but got 'h",
        ),
        (f"stages: [{STAGE}, mask_loss: l2}}]", r"mask_loss must be one of focal, balanced, but"),
        (f"stages: [{STAGE}, data: [generated]}}]", r"data must be of type Mapping, but got \["),
        (
            f"stages: [{STAGE}, data: {{generated: lots}}}}]",
            r"data: generated must be of type float",
        ),
        (f"stages: [{STAGE}, data: {{1: 1}}}}]", r"data must be of type str, but got 1"),
        (f"stages: [{STAGE}, losses: 3}}]", r"losses must be a mapping, but got 3"),
        (f"stages: [{STAGE}, prompts: {{box: 2}}}}]", r"prompts.box must be from 0 to 1"),
        (f"stages: [{STAGE}}}]\nfrom_scratch: 1", "from_scratch must be of type bool, but got 1"),
        (f"stages: [{STAGE}}}]\ndata: [videos]", "'data' must map names of sources to their sett"),
        (f"stages: [{STAGE}}}]\ndata: {{videos: 3}}", "'data' must map names of sources to their"),
    ],
)
def test_bad(tmp_path, text, message):
    with pytest.raises(InputError, match=message) as caught:
        read(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_unreadable(tmp_path):
    with pytest.raises(InputError, match=r"cannot read the recipe .*none.yaml: No such file"):
        read_recipe(tmp_path / "none.yaml")
    with pytest.raises(InputError, match=r"cannot read the recipe .*: Is a directory"):
        read_recipe(tmp_path)
    (tmp_path / "binary.yaml").write_bytes(bytes(range(128, 256)))
    with pytest.raises(InputError, match="is not valid YAML"):
        read_recipe(tmp_path / "binary.yaml")


def test_settings_of_sources():
    settings = settings_from_mapping(
        {"generated": {"speed": 2, "max_objects": 1}, "pasted": {"seed": 9}}, seed=5, where="r"
    )
    assert (settings.generated.speed, settings.generated.max_objects) == (2, 1)
    assert [settings.generated.seed, settings.videos.seed, settings.pasted.seed] == [5, 5, 9]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"photos": {}}, "r: there is no data source 'photos'; expected some of generated, videos"),
        ({"videos": {"colour": 1}}, "r: data: videos has the unknown key 'colour'; expected some"),
        ({"generated": {"speed": "fast"}}, "r: data: generated: speed must be of type float"),
        ({"generated": {"speed": 99}}, "speed"),
    ],
)
def test_bad_settings_of_sources(data, message):
    with pytest.raises(InputError, match=message):
        settings_from_mapping(data, seed=0, where="r")
