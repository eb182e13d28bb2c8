"""The names that transformers gives to the tensors of SAM 2, and the official ones.

``Sam2VideoModel`` and ``Sam2Model`` (``models/sam2_video``, ``models/sam2`` of transformers 4.56 to
5.24) compute what upstream's modules do, with the weights in other places: the four embeddings of
points are rows of one tensor, and the matrix of the positional encoding is there twice.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path

import torch

from ...errors import CheckpointError

StateDict = dict[str, torch.Tensor]

_POINTS = "prompt_encoder.point_embed.weight"
_POSITIONS = (
    "prompt_encoder.shared_embedding.positional_embedding",
    "shared_image_embedding.positional_embedding",
)
_OFFICIAL_POSITIONS = "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
_POINT_KINDS = 4

_ROOTS = (
    ("vision_encoder.backbone.", "image_encoder.trunk."),
    ("vision_encoder.neck.", "image_encoder.neck."),
    ("prompt_encoder.", "sam_prompt_encoder."),
    ("mask_decoder.", "sam_mask_decoder."),
    ("object_pointer_proj.", "obj_ptr_proj."),
    ("temporal_positional_encoding_projection_layer.", "obj_ptr_tpos_proj."),
)
_WHOLE = {
    "memory_temporal_positional_encoding": "maskmem_tpos_enc",
    "no_memory_embedding": "no_mem_embed",
    "no_memory_positional_encoding": "no_mem_pos_enc",
    "no_object_pointer": "no_obj_ptr",
    "occlusion_spatial_embedding_parameter": "no_obj_embed_spatial",
}
_PLACES = {
    # Layers of nn.Sequential, which upstream numbers.
    "mask_embed.conv1": "mask_downscaling.0",
    "mask_embed.layer_norm1": "mask_downscaling.1",
    "mask_embed.conv2": "mask_downscaling.3",
    "mask_embed.layer_norm2": "mask_downscaling.4",
    "mask_embed.conv3": "mask_downscaling.6",
    "upscale_conv1": "output_upscaling.0",
    "upscale_layer_norm": "output_upscaling.1",
    "upscale_conv2": "output_upscaling.3",
    # Others have other names.
    "patch_embed.projection": "patch_embed.proj",
    "memory_encoder.feature_projection": "memory_encoder.pix_feat_proj",
    "memory_encoder.projection": "memory_encoder.out_proj",
    "memory_encoder.memory_fuser": "memory_encoder.fuser",
    "depthwise_conv": "dwconv",
    "pointwise_conv1": "pwconv1",
    "pointwise_conv2": "pwconv2",
    "o_proj": "out_proj",
}
_PLACE = re.compile(r"(?<![^.])(" + "|".join(re.escape(place) for place in _PLACES) + r")(?![^.])")
_NORM = re.compile(r"(?<![^.])layer_norm(?=[._\d])")
_SCALE = re.compile(r"(\.fuser\.layers\.\d+)\.scale$")
_NECK = re.compile(r"(image_encoder\.neck\.convs\.\d+)\.")
_SAMPLER = re.compile(
    r"(memory_encoder\.mask_downsampler)\.(?:layers\.(\d{1,3})\.(conv|layer_norm)|final_conv)\."
)
_MLP = re.compile(r"(.*)\.(?:proj_in|proj_out|layers\.(\d{1,3}))\.(weight|bias)")


def is_transformers(names: Collection[str]) -> bool:
    """Return whether tensors have the names of transformers' SAM 2."""
    return any(name.startswith("vision_encoder.backbone.") for name in names)


def lacks_memory(names: Collection[str]) -> bool:
    """Return whether tensors, in any layout, are of a model of images alone: ``Sam2Model``."""
    return not any(name.startswith("memory_attention.") for name in names)


def official_state(state: Mapping[str, torch.Tensor], path: Path) -> StateDict:
    """Return the tensors of transformers' model under their official names.

    Args:
        state: tensors, perhaps on the device ``meta``, which have shapes alone.
        path: of the file, for messages.

    Raises:
        CheckpointError: the embeddings of points are not four, or the two positional encodings
            differ.
    """
    renamed = official_names(state)
    found = {renamed[name]: tensor for name, tensor in state.items() if name in renamed}
    points = state.get(_POINTS)
    if points is not None:
        if points.ndim != 2 or points.shape[0] != _POINT_KINDS:
            raise CheckpointError(
                f"the tensor {_POINTS} of {path} must be of shape ({_POINT_KINDS}, C), but got "
                f"{tuple(points.shape)}; only models of points and boxes as upstream has them can "
                "be used"
            )
        for kind in range(_POINT_KINDS):
            found[f"sam_prompt_encoder.point_embeddings.{kind}.weight"] = points[kind : kind + 1]
    positions = [state[name] for name in _POSITIONS if name in state]
    if len(positions) > 1 and not positions[0].is_meta and not torch.equal(*positions):
        raise CheckpointError(
            f"the two positional encodings in {path} differ ({' and '.join(_POSITIONS)}), but "
            "upstream has one for both; save the model with one"
        )
    if positions:
        found[_OFFICIAL_POSITIONS] = positions[0]
    return found


def official_names(names: Collection[str]) -> dict[str, str]:
    """Return official names by those of transformers, but for points and positional encodings."""
    inner, samplers = _inner_layers(names), _mask_layers(names)
    known = [name for name in names if name != _POINTS and name not in _POSITIONS]
    return {name: _official(name, inner, samplers) for name in known}


def _inner_layers(names: Collection[str]) -> dict[str, int]:
    """Return how many layers, but for first and last, each MLP has."""
    inner: dict[str, int] = {}
    for match in map(_MLP.fullmatch, names):
        if match and match[2]:
            inner[match[1]] = max(inner.get(match[1], 0), int(match[2]) + 1)
    return inner


def _mask_layers(names: Collection[str]) -> int:
    """Return how many layers the mask downsampler has, but for the last convolution."""
    found = [match for match in map(_SAMPLER.match, names) if match and match[2]]
    return max((int(match[2]) + 1 for match in found), default=0)


def _official(name: str, inner: Mapping[str, int], samplers: int) -> str:
    name = _layer_of_mlp(name, inner)
    for theirs, ours in _ROOTS:
        if name.startswith(theirs):
            name = ours + name[len(theirs) :]
            break
    name = _WHOLE.get(name, name)
    name = _SAMPLER.sub(lambda match: _mask_layer(match, samplers), name)
    name = _PLACE.sub(lambda match: _PLACES[match[1]], name)
    name = _SCALE.sub(r"\1.gamma", name)
    return _NECK.sub(r"\1.conv.", _NORM.sub("norm", name))


def _layer_of_mlp(name: str, inner: Mapping[str, int]) -> str:
    """Number the layers of an MLP from 0: ``proj_in``, ``layers.0`` and so on, ``proj_out``."""
    match = _MLP.fullmatch(name)
    if match is None:
        return name
    number = int(match[2]) + 1 if match[2] else 0
    if ".proj_out." in name:
        number = inner.get(match[1], 0) + 1
    return f"{match[1]}.layers.{number}.{match[3]}"


def _mask_layer(match: re.Match[str], samplers: int) -> str:
    """Number the layers of the mask downsampler: convolution, norm and activation, in turns."""
    number = 3 * (int(match[2]) if match[2] else samplers)
    return f"{match[1]}.encoder.{number + (match[3] == 'layer_norm')}."
