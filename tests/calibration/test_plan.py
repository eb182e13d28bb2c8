"""Which layer gets how many bits, and plans that make no sense."""

import pytest

from qsam2_deploy.calibration.plan import EDGES, parse_bits, plan_layers, read_plan
from qsam2_deploy.errors import InputError
from qsam2_deploy.quant.checkpoints.architecture import build_model
from qsam2_deploy.quant.layers.modules import LayerPlan, layers_in_scope
from tests.support.small_config import small_config

NAMES = ["a.first", "a.mlp.0", "a.mlp.1", "b.conv", "b.last"]


def test_bits_go_to_all_layers_but_the_edges():
    plan = plan_layers(NAMES, bits="w2a4", method="lsc", edges=["a.first", "b.l*"])
    assert plan == {
        "a.first": LayerPlan(8, 8),
        "a.mlp.0": LayerPlan(2, 4),
        "a.mlp.1": LayerPlan(2, 4),
        "b.conv": LayerPlan(2, 4),
        "b.last": LayerPlan(8, 8),
    }
    plan = plan_layers(NAMES, bits="w2a4", method="lsc", edges=["a.first"], edge_bits=None)
    assert set(plan.values()) == {LayerPlan(2, 4)}


def test_a_plan_goes_before_the_rest_and_its_last_pattern_counts():
    overrides = (("a.*", "w4a4"), ("a.mlp.1", "w3a8"), ("b.conv", "float"))
    plan = plan_layers(
        NAMES, bits="w2a2", method="minmax", edges=["a.first"], overrides=overrides, half_steps=True
    )
    assert {name: (p.weight_bits, p.input_bits) for name, p in plan.items()} == {
        "a.first": (4, 4),
        "a.mlp.0": (4, 4),
        "a.mlp.1": (3, 8),
        "b.last": (2, 2),
    }
    assert all(p.method == "minmax" and p.half_steps for p in plan.values())


def test_a_pattern_must_fit_a_layer():
    with pytest.raises(InputError, match=r"'c\.\*' fits no layer of the scope.*such as a\.first"):
        plan_layers(NAMES, bits="w8a8", method="lsc", overrides=(("c.*", "w4a4"),))


def test_something_must_be_left():
    with pytest.raises(InputError, match="leaves no layer to be quantized"):
        plan_layers(NAMES, bits="w8a8", method="lsc", overrides=(("*", "float"),))


@pytest.mark.parametrize("text", ["w1a8", "w8a9", "w16a16", "w0a0"])
def test_impossible_widths(text):
    with pytest.raises(InputError, match="must have 2 to 8 bits, but got"):
        parse_bits(text)


@pytest.mark.parametrize("text", ["8", "w8", "a8w8", "w8a8 ", "int8", ""])
def test_unknown_widths(text):
    with pytest.raises(InputError, match="must be given as w<weight bits>a<activation bits>"):
        parse_bits(text)


def test_a_plan_is_a_yaml_mapping(tmp_path):
    path = tmp_path / "plan.yaml"
    path.write_text("image_encoder.*: w2a4  # all of it\nmemory_encoder.*: float\n")
    assert read_plan(path) == (("image_encoder.*", "w2a4"), ("memory_encoder.*", "float"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: [", "is not valid YAML"),
        ("- a\n", "must map layer patterns to widths"),
        ("", "must map layer patterns to widths"),
        ("a.*: w9a8\n", r"widths of 'a\.\*' are wrong: .*2 to 8 bits, but got 9"),
        ("a.*: 4\n", r"widths of 'a\.\*' are wrong: .*such as w8a8, but got '4'"),
        (b"\xff\xfe\x00", "it is not a text file"),
    ],
)
def test_bad_plans(tmp_path, content, message):
    path = tmp_path / "plan.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=message):
        read_plan(path)


def test_a_plan_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match=r"cannot read the plan .*none\.yaml: No such file"):
        read_plan(tmp_path / "none.yaml")


def test_the_edges_are_layers_of_the_model_and_few():
    layers = layers_in_scope(build_model(small_config()), "all")
    plan = plan_layers(list(layers), bits="w2a2", method="lsc", edges=EDGES)
    wide = {name for name, p in plan.items() if p.weight_bits == 8}
    assert "image_encoder.trunk.patch_embed.proj" in wide
    assert "sam_mask_decoder.output_hypernetworks_mlps.3.layers.2" in wide
    assert len(wide) == 4 + 7  # four mask heads; only one form of the object score head is there
    sizes = {name: layer.weight.numel() for name, layer in layers.items()}
    assert sum(sizes[name] for name in wide) < 0.06 * sum(sizes.values())
