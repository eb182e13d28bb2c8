"""A tiny SAM2 that uses every feature of the official ones, as a configuration to build."""

from typing import Any


def small_config(
    image_size: int = 128,
    *,
    version: str = "2.1",
    d_model: int = 64,
    memory_dim: int = 16,
    embed_dim: int = 16,
    **rules: Any,
) -> dict[str, Any]:
    """Return a configuration of the ``sam2`` package's kind for a tiny model.

    It pools queries before the second, third and fourth stage, pads windows (at 128 pixels: of 6
    on a map of 8x8, pooled to 3 on 4x4, and of 3 on 4x4), and has one block of global attention.

    Args:
        image_size: side of the input, a multiple of 32.
        version: ``"2.1"`` or ``"2.0"``: the flags of the official configurations.
        d_model: feature width, a multiple of 32.
        memory_dim: memory width; ``d_model`` must be a multiple of it.
        embed_dim: width of the first stage.
        rules: entries of the model which replace or extend the usual ones.
    """
    widths = [embed_dim * 8, embed_dim * 4, embed_dim * 2, embed_dim]
    model = {
        "_target_": "sam2.modeling.sam2_base.SAM2Base",
        "image_encoder": _encoder(embed_dim, d_model, widths),
        "memory_attention": _memory_attention(image_size // 16, d_model, memory_dim),
        "memory_encoder": _memory_encoder(d_model, memory_dim),
        "image_size": image_size,
        **_FLAGS,
        **(_FLAGS_2_1 if version == "2.1" else _FLAGS_2_0),
        **rules,
    }
    return {"model": model}


_FLAGS: dict[str, Any] = {
    "num_maskmem": 7,
    "sigmoid_scale_for_mem_enc": 20.0,
    "sigmoid_bias_for_mem_enc": -10.0,
    "use_mask_input_as_output_without_sam": True,
    "directly_add_no_mem_embed": True,
    "use_high_res_features_in_sam": True,
    "multimask_output_in_sam": True,
    "iou_prediction_use_sigmoid": True,
    "use_obj_ptrs_in_encoder": True,
    "only_obj_ptrs_in_the_past_for_eval": True,
    "pred_obj_scores": True,
    "pred_obj_scores_mlp": True,
    "fixed_no_obj_ptr": True,
    "multimask_output_for_tracking": True,
    "use_multimask_token_for_obj_ptr": True,
    "multimask_min_pt_num": 0,
    "multimask_max_pt_num": 1,
    "use_mlp_for_obj_ptr_proj": True,
    "compile_image_encoder": False,
}

_FLAGS_2_1: dict[str, Any] = {
    "no_obj_embed_spatial": True,
    "add_tpos_enc_to_obj_ptrs": True,
    "proj_tpos_enc_in_obj_ptrs": True,
    "use_signed_tpos_enc_to_obj_ptrs": True,
}

_FLAGS_2_0: dict[str, Any] = {"add_tpos_enc_to_obj_ptrs": False}


def _sine(features: int) -> dict[str, Any]:
    return {
        "_target_": "sam2.modeling.position_encoding.PositionEmbeddingSine",
        "num_pos_feats": features,
        "normalize": True,
        "scale": None,
        "temperature": 10000,
    }


def _encoder(embed_dim: int, d_model: int, widths: list[int]) -> dict[str, Any]:
    return {
        "_target_": "sam2.modeling.backbones.image_encoder.ImageEncoder",
        "scalp": 1,
        "trunk": {
            "_target_": "sam2.modeling.backbones.hieradet.Hiera",
            "embed_dim": embed_dim,
            "num_heads": 1,
            "stages": [1, 2, 3, 2],
            "global_att_blocks": [4],
            "window_spec": [8, 4, 6, 3],
            "window_pos_embed_bkg_spatial_size": [7, 7],
        },
        "neck": {
            "_target_": "sam2.modeling.backbones.image_encoder.FpnNeck",
            "position_encoding": _sine(d_model),
            "d_model": d_model,
            "backbone_channel_list": widths,
            "fpn_top_down_levels": [2, 3],
            "fpn_interp_model": "nearest",
        },
    }


def _memory_attention(side: int, d_model: int, memory_dim: int) -> dict[str, Any]:
    def rope(**extra: Any) -> dict[str, Any]:
        return {
            "_target_": "sam2.modeling.sam.transformer.RoPEAttention",
            "rope_theta": 10000.0,
            "feat_sizes": [side, side],
            "embedding_dim": d_model,
            "num_heads": 1,
            "downsample_rate": 1,
            "dropout": 0.0,
            **extra,
        }

    layer = {
        "_target_": "sam2.modeling.memory_attention.MemoryAttentionLayer",
        "activation": "relu",
        "dim_feedforward": 4 * d_model,
        "dropout": 0.0,
        "pos_enc_at_attn": False,
        "self_attention": rope(),
        "d_model": d_model,
        "pos_enc_at_cross_attn_keys": True,
        "pos_enc_at_cross_attn_queries": False,
        "cross_attention": rope(rope_k_repeat=True, kv_in_dim=memory_dim),
    }
    return {
        "_target_": "sam2.modeling.memory_attention.MemoryAttention",
        "d_model": d_model,
        "pos_enc_at_input": True,
        "layer": layer,
        "num_layers": 2,
    }


def _memory_encoder(d_model: int, memory_dim: int) -> dict[str, Any]:
    return {
        "_target_": "sam2.modeling.memory_encoder.MemoryEncoder",
        "out_dim": memory_dim,
        "in_dim": d_model,
        "position_encoding": _sine(memory_dim),
        "mask_downsampler": {
            "_target_": "sam2.modeling.memory_encoder.MaskDownSampler",
            "embed_dim": d_model,
            "kernel_size": 3,
            "stride": 2,
            "padding": 1,
        },
        "fuser": {
            "_target_": "sam2.modeling.memory_encoder.Fuser",
            "layer": {
                "_target_": "sam2.modeling.memory_encoder.CXBlock",
                "dim": d_model,
                "kernel_size": 7,
                "padding": 3,
                "layer_scale_init_value": 1.0e-6,
                "use_dwconv": True,
            },
            "num_layers": 2,
        },
    }
