"""Which options of the upstream architecture the export implements."""

from __future__ import annotations

from typing import Any

from ..errors import UnsupportedModelError


def check_supported(model: Any) -> None:
    """Refuse upstream's ``SAM2Base`` with an option that the graphs do not implement.

    Raises:
        UnsupportedModelError: names the option, its value, and what is supported.
    """
    neck, attention = model.image_encoder.neck, model.memory_attention
    layer = attention.layers[0]
    expected = [
        ("image_encoder.scalp", model.image_encoder.scalp, 1),
        ("neck.fpn_interp_model", neck.fpn_interp_model, "nearest"),
        ("neck.fuse_type", neck.fuse_type, "sum"),
        ("neck.fpn_top_down_levels", sorted(neck.fpn_top_down_levels), [2, 3]),
        ("neck.kernel_size", neck.convs[0].conv.kernel_size, (1, 1)),
        ("number of trunk stages", len(neck.convs), 4),
        ("trunk.q_stride", tuple(model.image_encoder.trunk.q_stride), (2, 2)),
        ("trunk q_pool stages", len(model.image_encoder.trunk.q_pool_blocks), 3),
        ("memory_attention activation", layer.activation_str, "relu"),
        ("pos_enc_at_attn", layer.pos_enc_at_attn, False),
        ("pos_enc_at_cross_attn_queries", layer.pos_enc_at_cross_attn_queries, False),
        ("pos_enc_at_cross_attn_keys", layer.pos_enc_at_cross_attn_keys, True),
        ("self_attention", _upstream_class(layer.self_attn), "RoPEAttention"),
        ("cross_attention", _upstream_class(layer.cross_attn_image), "RoPEAttention"),
        ("self_attention.num_heads", layer.self_attn.num_heads, 1),
        ("cross_attention.num_heads", layer.cross_attn_image.num_heads, 1),
        ("use_high_res_features_in_sam", model.use_high_res_features_in_sam, True),
        ("use_obj_ptrs_in_encoder", model.use_obj_ptrs_in_encoder, True),
        ("directly_add_no_mem_embed", model.directly_add_no_mem_embed, True),
        ("pred_obj_scores", model.pred_obj_scores, True),
        ("backbone_stride", model.backbone_stride, 16),
        ("non_overlap_masks_for_mem_enc", model.non_overlap_masks_for_mem_enc, False),
        ("use_mask_input_as_output_without_sam", model.use_mask_input_as_output_without_sam, True),
    ]
    for i, block in enumerate(model.image_encoder.trunk.blocks):
        if block.q_stride:
            expected.append(
                (f"an odd window in pooling block {i}", block.window_size % 2 == 1, False)
            )
    for name, value, wanted in expected:
        if value != wanted:
            raise UnsupportedModelError(
                f"the model has {name} = {value!r}, but the export supports only {wanted!r}, "
                "which is what all official SAM 2 and 2.1 models use"
            )


def _upstream_class(module: object) -> str:
    """Return the name of a module's class in the ``sam2`` package, which ours may extend."""
    classes = (kind for kind in type(module).__mro__ if kind.__module__.startswith("sam2."))
    return next(classes, type(module)).__name__
