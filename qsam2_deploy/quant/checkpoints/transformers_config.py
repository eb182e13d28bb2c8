"""A ``config.json`` of transformers' SAM 2 as a configuration of the ``sam2`` package.

Entries that are left out have the values of SAM 2.1 tiny, in transformers
(``models/sam2_video/configuration_sam2_video.py``) as here.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from ..._common.contradictions import shown
from ..._common.json import read_json
from ...errors import CheckpointError
from .architecture import Config, checked_config, official_config
from .families import refuse_type

_DEFAULTS = "sam2.1_hiera_tiny"
_MAX_BYTES = 1 << 20

_TRUNK, _NECK = "image_encoder.trunk", "image_encoder.neck"
_LAYER = "memory_attention.layer"
_ATTENTIONS = (f"{_LAYER}.self_attention", f"{_LAYER}.cross_attention")

_PLACES: dict[str, tuple[str, ...]] = {
    "vision_config.backbone_config.hidden_size": (f"{_TRUNK}.embed_dim",),
    "vision_config.backbone_config.blocks_per_stage": (f"{_TRUNK}.stages",),
    "vision_config.backbone_config.global_attention_blocks": (f"{_TRUNK}.global_att_blocks",),
    "vision_config.backbone_config.window_size_per_stage": (f"{_TRUNK}.window_spec",),
    "vision_config.backbone_config.window_positional_embedding_background_size": (
        f"{_TRUNK}.window_pos_embed_bkg_spatial_size",
    ),
    "vision_config.backbone_config.query_stride": (f"{_TRUNK}.q_stride",),
    "vision_config.backbone_config.num_query_pool_stages": (f"{_TRUNK}.q_pool",),
    "vision_config.backbone_channel_list": (f"{_NECK}.backbone_channel_list",),
    "vision_config.fpn_top_down_levels": (f"{_NECK}.fpn_top_down_levels",),
    "vision_config.fpn_hidden_size": (
        f"{_NECK}.d_model", f"{_NECK}.position_encoding.num_pos_feats",
    ),
    "image_size": ("image_size",),
    "num_maskmem": ("num_maskmem",),
    "sigmoid_scale_for_mem_enc": ("sigmoid_scale_for_mem_enc",),
    "sigmoid_bias_for_mem_enc": ("sigmoid_bias_for_mem_enc",),
    "multimask_output_in_sam": ("multimask_output_in_sam",),
    "multimask_min_pt_num": ("multimask_min_pt_num",),
    "multimask_max_pt_num": ("multimask_max_pt_num",),
    "multimask_output_for_tracking": ("multimask_output_for_tracking",),
    "max_object_pointers_in_encoder": ("max_obj_ptrs_in_encoder",),
    "max_cond_frame_num": ("max_cond_frames_in_attn",),
    "enable_occlusion_spatial_embedding": ("no_obj_embed_spatial",),
    "enable_temporal_pos_encoding_for_object_pointers": (
        "add_tpos_enc_to_obj_ptrs", "proj_tpos_enc_in_obj_ptrs", "use_signed_tpos_enc_to_obj_ptrs",
    ),
    "memory_attention_hidden_size": (
        "memory_attention.d_model", f"{_LAYER}.d_model",
        *(f"{attention}.embedding_dim" for attention in _ATTENTIONS),
    ),
    "memory_attention_num_layers": ("memory_attention.num_layers",),
    "memory_attention_num_attention_heads": tuple(f"{a}.num_heads" for a in _ATTENTIONS),
    "memory_attention_downsample_rate": tuple(f"{a}.downsample_rate" for a in _ATTENTIONS),
    "memory_attention_feed_forward_hidden_size": (f"{_LAYER}.dim_feedforward",),
    "memory_attention_rope_feat_sizes": tuple(f"{a}.feat_sizes" for a in _ATTENTIONS),
    "rope_parameters.rope_theta": tuple(f"{a}.rope_theta" for a in _ATTENTIONS),
    "memory_attention_rope_theta": tuple(f"{a}.rope_theta" for a in _ATTENTIONS),
    "memory_encoder_hidden_size": ("memory_encoder.in_dim",),
    "memory_encoder_output_channels": (
        "memory_encoder.out_dim", "memory_encoder.position_encoding.num_pos_feats",
        f"{_LAYER}.cross_attention.kv_in_dim",
    ),
    "mask_downsampler_embed_dim": ("memory_encoder.mask_downsampler.embed_dim",),
    "mask_downsampler_kernel_size": ("memory_encoder.mask_downsampler.kernel_size",),
    "mask_downsampler_stride": ("memory_encoder.mask_downsampler.stride",),
    "mask_downsampler_padding": ("memory_encoder.mask_downsampler.padding",),
    "mask_downsampler_total_stride": ("memory_encoder.mask_downsampler.total_stride",),
    "memory_fuser_num_layers": ("memory_encoder.fuser.num_layers",),
    "memory_fuser_embed_dim": ("memory_encoder.fuser.layer.dim",),
    "memory_fuser_kernel_size": ("memory_encoder.fuser.layer.kernel_size",),
    "memory_fuser_padding": ("memory_encoder.fuser.layer.padding",),
}  # fmt: skip
"""Where the entries of ``config.json`` belong in a configuration of ``sam2``."""

_FIXED: dict[str, Any] = {
    "vision_config.backbone_config.num_channels": 3,
    "vision_config.backbone_config.patch_kernel_size": [7, 7],
    "vision_config.backbone_config.patch_stride": [4, 4],
    "vision_config.backbone_config.patch_padding": [3, 3],
    "vision_config.backbone_config.mlp_ratio": 4.0,
    "vision_config.backbone_config.hidden_act": "gelu",
    "vision_config.backbone_config.layer_norm_eps": 1e-6,
    "vision_config.fpn_kernel_size": 1,
    "vision_config.fpn_stride": 1,
    "vision_config.fpn_padding": 0,
    "vision_config.num_feature_levels": 3,
    "prompt_encoder_config.patch_size": 16,
    "prompt_encoder_config.mask_input_channels": 16,
    "prompt_encoder_config.num_point_embeddings": 4,
    "prompt_encoder_config.hidden_act": "gelu",
    "prompt_encoder_config.layer_norm_eps": 1e-6,
    "prompt_encoder_config.scale": 1,
    "mask_decoder_config.hidden_act": "gelu",
    "mask_decoder_config.mlp_dim": 2048,
    "mask_decoder_config.num_hidden_layers": 2,
    "mask_decoder_config.num_attention_heads": 8,
    "mask_decoder_config.attention_downsample_rate": 2,
    "mask_decoder_config.num_multimask_outputs": 3,
    "mask_decoder_config.iou_head_depth": 3,
    "mask_decoder_config.iou_head_hidden_dim": 256,
    "mask_decoder_config.dynamic_multimask_via_stability": True,
    "mask_decoder_config.dynamic_multimask_stability_delta": 0.05,
    "mask_decoder_config.dynamic_multimask_stability_thresh": 0.98,
    "memory_attention_feed_forward_hidden_act": "relu",
    "mask_downsampler_hidden_act": "gelu",
    "memory_fuser_hidden_act": "gelu",
}
"""What upstream's modules have no argument for."""


def read_transformers_config(path: Path) -> Config:
    """Return the configuration that a ``config.json`` describes.

    Raises:
        CheckpointError: it cannot be read, is of another model, or asks for something that
            upstream's modules do not have.
        MissingDependencyError: ``sam2`` is not installed.
    """
    try:
        content = read_json(path, _MAX_BYTES)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise CheckpointError(
            f"{path} cannot be read ({shown(str(reason))[1:-1]}); give the config.json that was "
            "saved with the weights"
        ) from error
    if not isinstance(content, dict) or not isinstance(content.get("model_type"), str):
        raise CheckpointError(
            f"{path} names no 'model_type'; give the config.json that was saved with the weights"
        )
    refuse_type(content["model_type"], path)
    config = official_config(_DEFAULTS)
    values = _flat(content)
    _check_fixed(values, path)
    _check_sizes(values, path)
    for name, places in _PLACES.items():
        if name in values:
            for place in places:
                _set(config["model"], place, _plain(name, values[name], path))
    _set_heads(config["model"], values, path)
    return checked_config(config, str(path))


def _flat(content: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Return the entries of nested mappings by their paths; an entry of null is absent."""
    flat: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{before}{key}.")
        elif value is not None:
            flat[f"{before}{key}"] = value
    return flat


def _plain(name: str, value: Any, path: Path) -> Any:
    """Return a number or a list of numbers; nothing else belongs anywhere."""
    items = value if isinstance(value, list) else [value]
    if len(items) > 64 or not all(isinstance(item, (bool, int, float)) for item in items):
        raise CheckpointError(
            f"{path} has {shown(value)} for {name!r}; expected a number or a list of numbers"
        )
    # One number for both sides, which upstream has alone.
    square = name == "image_size" and isinstance(value, list) and len(set(value)) == 1
    return value[0] if square else value


def _set(model: dict[str, Any], place: str, value: Any) -> None:
    *outer, last = place.split(".")
    for part in outer:
        model = model[part]
    model[last] = value


def _check_fixed(values: Mapping[str, Any], path: Path) -> None:
    for name, expected in _FIXED.items():
        found = values.get(name, expected)
        if isinstance(expected, list) and not isinstance(found, list):
            found = [found] * len(expected)
        if found != expected:
            raise CheckpointError(
                f"{path} has {shown(found)} for {name!r}, but upstream's SAM 2 has {expected!r} "
                "alone; only models of its architecture can be used"
            )


def _check_sizes(values: Mapping[str, Any], path: Path) -> None:
    """Refuse an image that is of one size for prompts, and of another for the video."""
    names = ("image_size", "prompt_encoder_config.image_size")
    sizes = [_plain(names[0], values[name], path) for name in names if name in values]
    if len(sizes) > 1 and sizes[0] != sizes[1]:
        raise CheckpointError(
            f"{path} contradicts itself: {names[0]!r} is {shown(sizes[0])}, but {names[1]!r} is "
            f"{shown(sizes[1])}; give the config.json that was saved with the weights"
        )


def _set_heads(model: dict[str, Any], values: Mapping[str, Any], path: Path) -> None:
    """Set heads and check widths of the stages: both double from each stage to the next."""
    trunk, outer = model["image_encoder"]["trunk"], "vision_config.backbone_config."
    for name, first in (
        (f"{outer}num_attention_heads_per_stage", None),
        (f"{outer}embed_dim_per_stage", trunk["embed_dim"]),
    ):
        steps = _plain(name, values.get(name, []), path)
        pairs = pairwise(steps) if isinstance(steps, list) else [(1, 1)]
        if any(after != 2 * before for before, after in pairs):
            raise CheckpointError(
                f"{path} has {shown(steps)} for {name!r}, but in upstream's SAM 2 each stage has "
                "twice as many as the one before; only models of its architecture can be used"
            )
        if first is None and steps:
            trunk["num_heads"] = steps[0]
        elif steps and steps[0] != first:
            raise CheckpointError(
                f"{path} contradicts itself: {name!r} begins with {shown(steps[0])}, but "
                f"{outer + 'hidden_size'!r} is {shown(first)}; give the config.json that was "
                "saved with the weights"
            )
