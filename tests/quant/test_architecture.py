"""Recognition, configurations from strangers, and building."""

import pytest
import torch

from qsam2_deploy.errors import CheckpointError
from qsam2_deploy.quant.checkpoints.architecture import (
    OFFICIAL_NAMES,
    build_model,
    checked_config,
    effective_config,
    official_config,
    read_config,
    recognise_architecture,
)
from tests.support.small_config import small_config


@pytest.mark.parametrize("name", OFFICIAL_NAMES)
def test_official_models_are_recognised(name):
    with torch.device("meta"):
        # Large models would take seconds to initialise; names and shapes are all that counts.
        shapes = _shapes(name)
    assert recognise_architecture(shapes) == name


def _shapes(name: str) -> dict[str, torch.Tensor]:
    trunk = official_config(name)["model"]["image_encoder"]["trunk"]
    blocks = sum(trunk.get("stages", (2, 3, 16, 3)))
    state = {f"image_encoder.trunk.blocks.{i}.norm1.weight": torch.empty(1) for i in range(blocks)}
    width = trunk["embed_dim"]
    state["image_encoder.trunk.patch_embed.proj.bias"] = torch.empty(width)
    state["no_mem_embed"] = torch.empty(1, 1, 256)
    if name.startswith("sam2.1"):
        state["no_obj_embed_spatial"] = torch.empty(1, 64)
        state["obj_ptr_tpos_proj.bias"] = torch.empty(64)
    return state


def test_a_really_built_official_model_is_recognised():
    for name in ("sam2_hiera_tiny", "sam2.1_hiera_tiny"):
        state = build_model(official_config(name)).state_dict()
        assert recognise_architecture(state) == name


def test_other_models_are_not_recognised():
    assert recognise_architecture({}) is None
    assert recognise_architecture(build_model(small_config()).state_dict()) is None
    mixed = _shapes("sam2.1_hiera_tiny")
    del mixed["no_obj_embed_spatial"]
    assert recognise_architecture(mixed) is None


def test_flags_are_those_of_the_official_builder():
    pytest.importorskip("hydra")
    from sam2.build_sam import build_sam2_video_predictor

    official = build_sam2_video_predictor("configs/sam2.1/sam2.1_hiera_t.yaml", device="cpu")
    ours = build_model(official_config("sam2.1_hiera_tiny"))
    assert type(ours) is type(official)
    assert _flags(ours) == {**_flags(official), "fill_hole_area": 0}
    assert _flags(ours.sam_mask_decoder) == _flags(official.sam_mask_decoder)
    assert {k: v.shape for k, v in ours.state_dict().items()} == {
        k: v.shape for k, v in official.state_dict().items()
    }


def _flags(module: torch.nn.Module) -> dict[str, object]:
    return {
        k: v
        for k, v in vars(module).items()
        if isinstance(v, (bool, int, float, str)) and not k.startswith("_")
    }


def test_models_are_ready_for_inference():
    model = build_model(small_config())
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())
    assert all(p.dtype == torch.float32 for p in model.parameters())


def test_image_size_reaches_model_and_rotary_embeddings():
    model = build_model(small_config(128), image_size=192)
    assert model.image_size == 192
    for layer in model.memory_attention.layers:
        assert layer.self_attn.freqs_cis.shape[0] == 12 * 12
        assert layer.cross_attn_image.freqs_cis.shape[0] == 12 * 12


@pytest.mark.parametrize("size", [0, -32, 100, 1000, True, 128.0, None])
def test_bad_image_sizes_are_refused(size):
    config = small_config()
    config["model"]["image_size"] = size
    with pytest.raises(CheckpointError, match="positive multiple of 32, but got"):
        build_model(config)


def test_building_leaves_the_configuration_alone():
    config = small_config()
    effective_config(config, 256)
    assert config == small_config()


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "torch.load",
        "sam2.build_sam.build_sam2",
        "sam2.modeling.sam2_base.torch.hub.load",  # the prefix alone proves nothing
        "sam2.modeling.backbones.hieradet.g_pathmgr",
        "sam2.modeling.sam2_base.SAM2Base.load_state_dict",
        "sam2.modeling.sam2_utils.get_1d_sine_pe",  # a function, no model class
        "sam2.modeling.nothing.Here",
        7,
    ],
)
def test_only_model_classes_of_sam2_can_be_named(target):
    config = small_config()
    config["model"]["memory_encoder"]["fuser"]["layer"] = {"_target_": target}
    with pytest.raises(CheckpointError, match=r"sam2"):
        build_model(config)


def test_a_text_is_no_memory_attention():
    config = small_config()
    config["model"]["memory_attention"] = "text"
    assert effective_config(config)["model"]["memory_attention"] == "text"


def test_a_tensor_in_place_of_a_name_is_told_on_one_line():
    config = small_config()
    config["model"]["memory_encoder"]["_target_"] = torch.full((70,), -1.0)
    with pytest.raises(CheckpointError) as refused:
        checked_config(config)
    assert "\n" not in str(refused.value)


def test_weights_path_is_refused(tmp_path):
    config = small_config()
    config["model"]["image_encoder"]["trunk"]["weights_path"] = str(tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="weights_path"):
        build_model(config)


def test_wrong_options_are_one_sentence():
    with pytest.raises(CheckpointError, match="does not describe a SAM2 model"):
        build_model(small_config(no_such_option=1))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: [1", "not valid YAML"),
        ("other: 1", "no mapping 'model'"),
        ("- 1", "no mapping 'model'"),
        ("", "no mapping 'model'"),
        ("model: {a: '${missing}'}", "not valid YAML"),
        ("model: {a: '${oc.env:HOME}'}", "resolver"),
        ("model: !!python/object/apply:os.getcwd []", "not valid YAML"),
        ("model: {_target_: os.system}", "only classes of sam2.modeling"),
    ],
)
def test_bad_configuration_files(tmp_path, text, message):
    path = tmp_path / "model.yaml"
    path.write_text(text)
    with pytest.raises(CheckpointError, match=message):
        read_config(path)


def test_unreadable_configuration_files(tmp_path):
    with pytest.raises(CheckpointError, match="No such file"):
        read_config(tmp_path / "missing.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(CheckpointError, match=r"cannot read|not valid YAML"):
        read_config(tmp_path / "binary.yaml")


def test_numbers_in_short_notation_are_numbers(tmp_path):
    path = tmp_path / "model.yaml"
    path.write_text("model: {scale: 1e-6, size: '${side}'}\nside: 64\n")
    assert read_config(path)["model"] == {"scale": 1e-6, "size": 64}


def test_unknown_official_names():
    with pytest.raises(CheckpointError, match="sam2_hiera_tiny"):
        official_config("sam3")
