"""Checkpoints of transformers' ``Sam2VideoModel``: names, configuration, and the same outputs."""

import functools
import importlib
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from qsam2_deploy.errors import CheckpointError
from qsam2_deploy.export import onnx_from_checkpoint
from qsam2_deploy.quant.checkpoints.architecture import (
    OFFICIAL_NAMES,
    build_model,
    effective_config,
    official_config,
    recognise_architecture,
)
from qsam2_deploy.quant.checkpoints.checkpoint import load_checkpoint
from qsam2_deploy.quant.checkpoints.transformers_config import read_transformers_config
from qsam2_deploy.quant.checkpoints.transformers_names import official_state
from tests.support.small_config import small_config
from tests.support.transformers_layout import (
    D_MODEL,
    MEMORY_DIM,
    WIDTH,
    transformers_config,
    transformers_state,
    write_folder,
)
from tests.support.weights import random_state_dict

State = dict[str, torch.Tensor]
HERE = Path("x")
NEEDS_TRANSFORMERS = (
    "needs transformers, which is large and no dependency; run: pip install 'transformers>=4.57'"
)
NEEDS_SAFETENSORS = "needs safetensors; run: pip install 'qsam2-deploy[export]'"

# As the conversion scripts of transformers have them; what is left out is the default.
TRUNKS: dict[str, dict[str, Any]] = {
    "tiny": {},
    "small": {"blocks_per_stage": [1, 2, 11, 2], "global_attention_blocks": [7, 10, 13]},
    "base_plus": {
        "hidden_size": 112,
        "embed_dim_per_stage": [112, 224, 448, 896],
        "num_attention_heads_per_stage": [2, 4, 8, 16],
        "blocks_per_stage": [2, 3, 16, 3],
        "global_attention_blocks": [12, 16, 20],
        "window_positional_embedding_background_size": [14, 14],
    },
    "large": {
        "hidden_size": 144,
        "embed_dim_per_stage": [144, 288, 576, 1152],
        "num_attention_heads_per_stage": [2, 4, 8, 16],
        "blocks_per_stage": [2, 6, 36, 4],
        "global_attention_blocks": [23, 33, 43],
        "window_size_per_stage": [8, 4, 16, 8],
    },
}


def _config_of(name: str) -> dict[str, Any]:
    """Return the ``config.json`` of an official model."""
    version, _, size = name.partition("_hiera_")
    width = TRUNKS[size].get("hidden_size", 96)
    return {
        "model_type": "sam2_video",
        "enable_temporal_pos_encoding_for_object_pointers": version == "sam2.1",
        "enable_occlusion_spatial_embedding": version == "sam2.1",
        "vision_config": {
            "backbone_config": TRUNKS[size],
            "backbone_channel_list": [width << stage for stage in (3, 2, 1, 0)],
        },
    }


@functools.cache
def _official_shapes(name: str) -> State:
    """Return the tensors of an official model on the device ``meta``."""
    return {k: v.to("meta") for k, v in build_model(official_config(name)).state_dict().items()}


@pytest.fixture(scope="module")
def small() -> dict[str, Any]:
    return small_config(d_model=D_MODEL, memory_dim=MEMORY_DIM, embed_dim=WIDTH)


@pytest.fixture(scope="module")
def state(small: dict[str, Any]) -> State:
    return random_state_dict(build_model(small))


@pytest.fixture
def folder(state: State, tmp_path: Path) -> Path:
    pytest.importorskip("safetensors", reason=NEEDS_SAFETENSORS)
    return write_folder(tmp_path / "saved", transformers_state(state), transformers_config())


@pytest.mark.parametrize("name", OFFICIAL_NAMES)
def test_names_of_every_official_size(name):
    official = _official_shapes(name)
    found = official_state(transformers_state(official), HERE)
    assert found.keys() == official.keys()
    assert all(found[key].shape == official[key].shape for key in official)
    assert recognise_architecture(found) == name


def test_no_name_is_the_same_in_both_layouts(state):
    theirs = transformers_state(state)
    same = {name for name in theirs if name in state}
    # The memory attention is the one part whose linear layers have the same names.
    assert all(name.startswith(("memory_attention.layers.", "mask_downsample.")) for name in same)


@pytest.mark.parametrize("name", OFFICIAL_NAMES)
def test_configuration_of_every_official_size(name, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(_config_of(name)))
    theirs, ours = read_transformers_config(path), official_config(name)
    found, expected = (_flat(effective_config(config)["model"]) for config in (theirs, ours))
    assert {key: found.get(key) for key in expected} == expected
    # The rest is what upstream's constructors have where a configuration says nothing.
    assert all(_default(ours["model"], key) == found[key] for key in found.keys() - expected.keys())


def _default(model: dict[str, Any], place: str) -> Any:
    """Return the default of an argument of the class that is built at a place, lists as lists."""
    *outer, name = place.split(".")
    node = {**model, "_target_": "sam2.modeling.sam2_base.SAM2Base"}
    for part in outer:
        node = node[part]
    module, _, kind = node["_target_"].rpartition(".")
    signature = inspect.signature(getattr(importlib.import_module(module), kind))
    value = signature.parameters[name].default
    return list(value) if isinstance(value, tuple) else value


def _flat(content: dict[str, Any], before: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in content.items():
        more = _flat(value, f"{before}{key}.") if isinstance(value, dict) else {before + key: value}
        flat |= more
    return flat


def test_a_folder_is_the_model(folder, state, small):
    checkpoint = load_checkpoint(folder)
    loaded = checkpoint.model.state_dict()
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())
    assert checkpoint.name == "saved"
    assert checkpoint.model.image_size == 128
    official = build_model(small)
    official.load_state_dict(state)
    image = torch.randn(1, 3, 128, 128)
    with torch.no_grad():
        a, b = (model.forward_image(image) for model in (official, checkpoint.model))
    assert torch.equal(a["vision_features"], b["vision_features"])


def test_the_file_in_the_folder_and_a_prefix(folder, state):
    assert load_checkpoint(folder / "model.safetensors").model.image_size == 128
    before = {f"module.{name}": tensor for name, tensor in transformers_state(state).items()}
    write_folder(folder, before, transformers_config())
    assert load_checkpoint(folder).model.image_size == 128


def test_a_pickle_of_transformers(state, tmp_path):
    torch.save(transformers_state(state), tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text(json.dumps(transformers_config()))
    loaded = load_checkpoint(tmp_path).model.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())


def test_it_exports(folder, tmp_path):
    spec = onnx_from_checkpoint(folder, tmp_path / "m.onnx", show_progress=False)
    assert (spec.image_size, spec.memory_dim) == (128, MEMORY_DIM)


def _without_memory(state: State) -> State:
    video = ("memory_", "mask_downsample", "object_pointer_proj", "temporal_", "no_object", "occl")
    return {k: v for k, v in state.items() if not k.startswith(video)}


def _other_positions(state: State) -> State:
    name = "shared_image_embedding.positional_embedding"
    return {**state, name: state[name] + 1}


def _three_points(state: State) -> State:
    name = "prompt_encoder.point_embed.weight"
    return {**state, name: state[name][:3]}


def _few(state: State) -> State:
    return {k: v for k, v in state.items() if "layers.1." not in k}


WEIGHTS: dict[str, tuple[Callable[[State], State], str]] = {
    "images alone": (
        _without_memory,
        r"part of a SAM 2 for single images .* Sam2Model.* missing; .* sam2.1_hiera_tiny.pt",
    ),
    "positions": (_other_positions, "two positional encodings .* differ"),
    "points": (_three_points, r"point_embed.weight .* of shape \(4, C\), but got \(3, 128\)"),
    "missing": (
        _few,
        r"names of transformers, but does not fit the config.json .*: \d+ tensors are missing",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", WEIGHTS)
def test_weights_that_are_no_model(kind, folder, state):
    change, message = WEIGHTS[kind]
    write_folder(folder, change(transformers_state(state)), transformers_config())
    _refused(folder, message)


def _refused(folder: Path, message: str) -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        load_checkpoint(folder)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700


CONFIGS: dict[str, tuple[dict[str, Any], str]] = {
    "another width": ({"memory_attention_feed_forward_hidden_size": 96}, "linear1.* of shape"),
    "more layers": ({"memory_attention_num_layers": 3}, "does not fit the config.json beside it"),
    "fewer layers": ({"memory_attention_num_layers": 1}, r"are unexpected .*; give the"),
    "no pointers' times": (
        {"enable_temporal_pos_encoding_for_object_pointers": False}, "tensors are unexpected"),
    "SAM 1": ({"model_type": "sam"}, "config.json is a checkpoint of SAM 1"),
    "SAM 3": ({"model_type": "sam3_tracker_video"}, "config.json is a checkpoint of SAM 3"),
    "EdgeTAM": ({"model_type": "edgetam_video"}, "config.json is a checkpoint of EdgeTAM"),
    "another model": ({"model_type": "bert"}, "a model of the type 'bert'"),
    "no type": ({"model_type": 3}, "names no 'model_type'"),
    "text": ({"num_maskmem": "seven"}, "has 'seven' for 'num_maskmem'; expected a number"),
    "a class": ({"num_maskmem": ["os.system"]}, "expected a number or a list of numbers"),
    "giant": ({"memory_attention_num_layers": 10**9}, "may have numbers up to"),
    "a giant image": ({"image_size": 1 << 20, "prompt_encoder_config": {}}, "numbers up to"),
    "an odd image": ({"image_size": [128, 64]}, "contradicts itself|image size must be"),
    "two images": ({"prompt_encoder_config": {"image_size": 64}}, "contradicts itself"),
    "two widths": (
        {"vision_config": {"backbone_config": {"embed_dim_per_stage": [96, 192, 384, 768],
                                               "hidden_size": 16}}}, "contradicts itself"),
    "odd stages": (
        {"vision_config": {"backbone_config": {"embed_dim_per_stage": [16, 17]}}}, "twice as many"),
    "other heads": ({"mask_decoder_config": {"num_attention_heads": 4}}, "has 8 alone"),
    "another activation": (
        {"vision_config": {"backbone_config": {"hidden_act": "relu"}}}, "has 'gelu' alone"),
}  # fmt: skip


@pytest.mark.parametrize("kind", CONFIGS)
def test_configurations_that_contradict_their_weights(kind, folder):
    change, message = CONFIGS[kind]
    (folder / "config.json").write_text(json.dumps({**transformers_config(), **change}))
    _refused(folder, message)


@pytest.mark.parametrize("text", ["", "[1]", "{", "[" * 999, '{"model_type": "\\ud800"}'])
def test_configurations_that_are_none(text, folder):
    (folder / "config.json").write_text(text)
    _refused(folder, "config.json (cannot be read|names no 'model_type')")


def test_a_configuration_of_ones_own_wins(folder, small):
    (folder / "config.json").write_text("{")
    assert load_checkpoint(folder, config=small).model.image_size == 128


def test_weights_without_their_configuration(folder):
    (folder / "config.json").unlink()
    _refused(folder, "in the names of transformers; pass --config FILE.yaml")


# ------------------------------------------------------------------ beside transformers itself
def _video_model(size: int) -> Any:
    """Return a small model of transformers with random weights that matter."""
    transformers = pytest.importorskip("transformers", reason=NEEDS_TRANSFORMERS)
    torch.manual_seed(0)
    config = transformers.Sam2VideoConfig(**transformers_config(size))
    model = transformers.Sam2VideoModel(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.copy_(torch.randn_like(parameter) * 0.08)
    model.shared_image_embedding.positional_embedding.copy_(
        model.prompt_encoder.shared_embedding.positional_embedding
    )
    model.no_memory_embedding.zero_()  # transformers adds it elsewhere than upstream
    return model


def _close(found: torch.Tensor, expected: torch.Tensor) -> None:
    expected = expected.reshape(found.shape)
    assert float((found - expected).abs().max()) <= 1e-5 * max(1.0, float(expected.abs().max()))


@pytest.mark.parametrize("size", [128, 256])
def test_every_part_computes_what_transformers_does(size, tmp_path):
    theirs = _video_model(size)
    theirs.save_pretrained(tmp_path)
    ours: Any = load_checkpoint(tmp_path).model
    with torch.no_grad():
        levels = _check_image(theirs, ours, size)
        _check_decoder(theirs, ours, levels, size)
        _check_memory(theirs, ours, levels[-1], size)


def _check_image(theirs: Any, ours: Any, size: int) -> list[torch.Tensor]:
    image = torch.randn(1, 3, size, size)
    expected = theirs.get_image_features(image, return_dict=True).fpn_hidden_states
    levels: list[torch.Tensor] = ours.forward_image(image)["backbone_fpn"]
    for level, tokens in zip(levels, expected, strict=True):
        _close(level.flatten(2).permute(2, 0, 1), tokens)
    return levels


def _check_decoder(theirs: Any, ours: Any, levels: list[torch.Tensor], size: int) -> None:
    points, labels = torch.tensor([[[[30.0, 50.0], [90.0, 20.0]]]]), torch.tensor([[[1, 0]]])
    mask = torch.randn(1, 1, size // 4, size // 4)
    for masks in (None, mask):
        sparse, dense = theirs.prompt_encoder(
            input_points=points, input_labels=labels, input_boxes=None, input_masks=masks
        )
        found = ours.sam_prompt_encoder(points=(points[0], labels[0]), boxes=None, masks=masks)
        _close(found[0], sparse)
        _close(found[1], dense)
        expected = theirs.mask_decoder(
            image_embeddings=levels[-1],
            image_positional_embeddings=theirs.get_image_wide_positional_embeddings(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=True,
            high_resolution_features=levels[:-1],
        )
        decoded = ours.sam_mask_decoder(
            image_embeddings=levels[-1],
            image_pe=ours.sam_prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=found[0],
            dense_prompt_embeddings=found[1],
            multimask_output=True,
            repeat_image=False,
            high_res_features=levels[:-1],
        )
        for one, other in zip(decoded, expected, strict=True):
            _close(one, other)


def _check_memory(theirs: Any, ours: Any, features: torch.Tensor, size: int) -> None:
    masks = torch.sigmoid(torch.randn(1, 1, size, size)) * 20 - 10
    memory, position = theirs.memory_encoder(features, masks)
    found = ours.memory_encoder(features, masks, skip_mask_sigmoid=True)
    _close(found["vision_features"], memory)
    _close(found["vision_pos_enc"][0], position)
    tokens, pointers = (size // 16) ** 2, 8
    current, its_position = torch.randn(2, tokens, 1, D_MODEL)
    keys, their_position = torch.randn(2, 2 * tokens + pointers, 1, MEMORY_DIM)
    expected = theirs.memory_attention(
        current_vision_features=current,
        current_vision_position_embeddings=its_position,
        memory=keys,
        memory_posision_embeddings=their_position,
        num_object_pointer_tokens=pointers,
    )
    attended = ours.memory_attention(
        curr=current,
        curr_pos=its_position,
        memory=keys,
        memory_pos=their_position,
        num_obj_ptr_tokens=pointers,
    )
    _close(attended, expected)
    pointer = torch.randn(3, D_MODEL)
    _close(ours.obj_ptr_proj(pointer), theirs.object_pointer_proj(pointer))
    time = theirs.temporal_positional_encoding_projection_layer(pointer)
    _close(ours.obj_ptr_tpos_proj(pointer), time)
    for name, other in (
        ("maskmem_tpos_enc", theirs.memory_temporal_positional_encoding),
        ("no_obj_ptr", theirs.no_object_pointer),
        ("no_obj_embed_spatial", theirs.occlusion_spatial_embedding_parameter),
    ):
        assert torch.equal(getattr(ours, name), other)


def test_transformers_own_model_of_images_lacks_the_memory(tmp_path):
    _video_model(128).save_pretrained(tmp_path / "video")
    import transformers

    image = transformers.Sam2Model.from_pretrained(tmp_path / "video")
    image.save_pretrained(tmp_path / "image")
    with pytest.raises(CheckpointError, match=r"the weights for video, .* are missing"):
        load_checkpoint(tmp_path / "image")


@pytest.mark.parametrize("name", OFFICIAL_NAMES)
def test_names_are_those_of_transformers(name):
    transformers = pytest.importorskip("transformers", reason=NEEDS_TRANSFORMERS)
    config = _config_of(name)
    config["vision_config"]["backbone_config"]["model_type"] = "sam2_hiera_det_model"
    with torch.device("meta"):
        theirs = transformers.Sam2VideoModel(transformers.Sam2VideoConfig(**config)).state_dict()
    official = _official_shapes(name)
    assert theirs.keys() == transformers_state(official).keys()
    found = official_state(theirs, HERE)
    assert {k: t.shape for k, t in found.items()} == {k: t.shape for k, t in official.items()}
