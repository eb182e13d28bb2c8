"""Checkpoints as transformers saves them, made of official ones without transformers.

Names go the other way than in ``quant/checkpoints/transformers_names.py``, by tables of their own;
``tests/quant/test_transformers.py`` compares both with transformers where that is installed.
"""

import json
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

D_MODEL, MEMORY_DIM, WIDTH = 128, 64, 16
"""Transformers has memories of 64 channels alone, and a projection to them only from others."""

_TYPES = {
    torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
    torch.float64: "F64", torch.uint8: "U8",
}  # fmt: skip

_RULES = tuple(
    (re.compile(pattern), new)
    for pattern, new in (
        (r"^image_encoder\.trunk\.", "vision_encoder.backbone."),
        (r"^image_encoder\.(neck\.convs\.\d+)\.conv\.", r"vision_encoder.\1."),
        (r"^sam_prompt_encoder\.", "prompt_encoder."),
        (r"^sam_mask_decoder\.", "mask_decoder."),
        (r"^obj_ptr_proj\.", "object_pointer_proj."),
        (r"^obj_ptr_tpos_proj\.", "temporal_positional_encoding_projection_layer."),
        (r"^maskmem_tpos_enc$", "memory_temporal_positional_encoding"),
        (r"^no_mem_embed$", "no_memory_embedding"),
        (r"^no_mem_pos_enc$", "no_memory_positional_encoding"),
        (r"^no_obj_ptr$", "no_object_pointer"),
        (r"^no_obj_embed_spatial$", "occlusion_spatial_embedding_parameter"),
        (r"patch_embed\.proj\.", "patch_embed.projection."),
        (r"^memory_encoder\.out_proj\.", "memory_encoder.projection."),
        (r"\.out_proj\.", ".o_proj."),
        (r"\.pix_feat_proj\.", ".feature_projection."),
        (r"\.fuser\.", ".memory_fuser."),
        (r"\.gamma$", ".scale"),
        (r"\.dwconv\.", ".depthwise_conv."),
        (r"\.pwconv(\d)\.", r".pointwise_conv\1."),
        (r"\.norm(?=[\d._])", ".layer_norm"),
        (r"mask_downscaling\.0\.", "mask_embed.conv1."),
        (r"mask_downscaling\.1\.", "mask_embed.layer_norm1."),
        (r"mask_downscaling\.3\.", "mask_embed.conv2."),
        (r"mask_downscaling\.4\.", "mask_embed.layer_norm2."),
        (r"mask_downscaling\.6\.", "mask_embed.conv3."),
        (r"output_upscaling\.0\.", "upscale_conv1."),
        (r"output_upscaling\.1\.", "upscale_layer_norm."),
        (r"output_upscaling\.3\.", "upscale_conv2."),
        (r"mask_downsampler\.encoder\.12\.", "mask_downsampler.final_conv."),
        (r"mlp\.layers\.0\.", "mlp.proj_in."),
        (r"mlp\.layers\.1\.", "mlp.proj_out."),
    )
)
_HEADS = re.compile(r"(.*(?:mlps\.\d+|_head|object_pointer_proj))\.layers\.([012])\.(.*)")
_SAMPLER = re.compile(r"(.*mask_downsampler)\.encoder\.(\d+)\.(.*)")


def transformers_state(official: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return a state dict as ``Sam2VideoModel`` has it."""
    found: dict[str, torch.Tensor] = {}
    points = []
    for name, tensor in official.items():
        if ".point_embeddings." in name:
            points.append(tensor)
        elif "positional_encoding_gaussian_matrix" in name:
            found["prompt_encoder.shared_embedding.positional_embedding"] = tensor
            found["shared_image_embedding.positional_embedding"] = tensor.clone()
        else:
            found[_their_name(name)] = tensor
    found["prompt_encoder.point_embed.weight"] = torch.cat(points)
    return found


def _their_name(name: str) -> str:
    for pattern, new in _RULES:
        name = pattern.sub(new, name)
    if head := _HEADS.fullmatch(name):
        layer = ("proj_in", "layers.0", "proj_out")[int(head[2])]
        return f"{head[1]}.{layer}.{head[3]}"
    if sampler := _SAMPLER.fullmatch(name):
        number, kind = divmod(int(sampler[2]), 3)
        return f"{sampler[1]}.layers.{number}.{('conv', 'layer_norm')[kind]}.{sampler[3]}"
    return name


def transformers_config(size: int = 128) -> dict[str, Any]:
    """Return the ``config.json`` of ``small_config(size, d_model=128, memory_dim=64)``."""
    sides = [[size // step, size // step] for step in (4, 8, 16)]
    backbone = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": WIDTH,
        "image_size": [size, size],
        "blocks_per_stage": [1, 2, 3, 2],
        "embed_dim_per_stage": [WIDTH << stage for stage in range(4)],
        "num_attention_heads_per_stage": [1, 2, 4, 8],
        "window_size_per_stage": [8, 4, 6, 3],
        "global_attention_blocks": [4],
        "window_positional_embedding_background_size": [7, 7],
    }
    return {
        "architectures": ["Sam2VideoModel"],
        "model_type": "sam2_video",
        "image_size": size,
        "vision_config": {
            "model_type": "sam2_vision_model",
            "backbone_config": backbone,
            "backbone_channel_list": [WIDTH << stage for stage in (3, 2, 1, 0)],
            "backbone_feature_sizes": sides,
            "fpn_hidden_size": D_MODEL,
        },
        "prompt_encoder_config": {"hidden_size": D_MODEL, "image_size": size},
        "mask_decoder_config": {"hidden_size": D_MODEL},
        "memory_attention_hidden_size": D_MODEL,
        "memory_attention_num_layers": 2,
        "memory_attention_feed_forward_hidden_size": 4 * D_MODEL,
        "memory_attention_rope_feat_sizes": sides[2],
        "memory_encoder_hidden_size": D_MODEL,
        "memory_encoder_output_channels": MEMORY_DIM,
        "mask_downsampler_embed_dim": D_MODEL,
        "memory_fuser_embed_dim": D_MODEL,
        "memory_fuser_intermediate_dim": 4 * D_MODEL,
    }


def safetensors_bytes(state: Mapping[str, torch.Tensor]) -> bytes:
    """Return a file of safetensors: length of the header, the header as JSON, the tensors."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    parts, at = [], 0
    for name, tensor in state.items():
        data = tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes()
        header[name] = {
            "dtype": _TYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [at, at + len(data)],
        }
        parts.append(data)
        at += len(data)
    return with_header(header, b"".join(parts))


def with_header(header: Any, data: bytes) -> bytes:
    """Return a file of safetensors with any header."""
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def parts_of(file: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the header of a file of safetensors, and what follows it."""
    (length,) = struct.unpack_from("<Q", file)
    return json.loads(file[8 : 8 + length]), file[8 + length :]


def write_folder(
    folder: Path, state: Mapping[str, torch.Tensor], config: Mapping[str, Any]
) -> Path:
    """Write a folder as ``save_pretrained`` does."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").write_bytes(safetensors_bytes(state))
    (folder / "config.json").write_text(json.dumps(config))
    return folder
