"""The official modules, cut into the components of our runtime: same inputs, same outputs."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sam2.modeling.sam.transformer as upstream
import torch
from sam2.modeling.sam2_utils import get_1d_sine_pe
from torch import nn

from qsam2_deploy.spec import (
    IMAGE_ENCODER,
    MASK_DECODER,
    MEMORY_ATTENTION,
    MEMORY_ENCODER,
    ModelSpec,
)

Tensors = tuple[torch.Tensor, ...]


class OfficialComponent(nn.Module):
    """One component of an official model; ``forward`` takes the inputs in the order of the spec."""

    def __init__(self, model: Any, spec: ModelSpec) -> None:
        super().__init__()
        self.model, self.spec = model, spec

    def _sine(self, encoder: Any) -> torch.Tensor:
        """The sine code of the feature map's positions ``[HW, 1, C]``."""
        h = self.spec.feature_size
        return encoder(torch.zeros(1, 1, h, h)).flatten(2).permute(2, 0, 1)


class OfficialImageEncoder(OfficialComponent):
    def forward(self, image: torch.Tensor) -> Tensors:
        high_res_0, high_res_1, features = self.model.forward_image(image)["backbone_fpn"]
        return features, high_res_0, high_res_1


class OfficialMemoryAttention(OfficialComponent):
    """Assembles tokens as upstream's ``_prepare_memory_conditioned_features`` does."""

    def forward(
        self,
        features: torch.Tensor,
        memory: torch.Tensor,
        tpos: torch.Tensor,
        pointers: torch.Tensor,
        pointer_tpos: torch.Tensor,
    ) -> Tensors:
        model, c = self.model, self.spec.d_model
        h, m = self.spec.feature_size, self.spec.memory_dim
        batch, frames = memory.shape[0], memory.shape[1]
        tokens = memory.flatten(3).permute(1, 3, 0, 2).flatten(0, 1)
        spatial = self._sine(model.memory_encoder.position_encoding)[None]
        position = spatial + model.maskmem_tpos_enc[tpos]
        position = position.expand(frames, h * h, 1, m).flatten(0, 1).expand(-1, batch, -1)
        split = pointers.permute(1, 0, 2).reshape(-1, batch, c // m, m)
        split = split.permute(0, 2, 1, 3).flatten(0, 1)
        code = torch.zeros(split.shape[0], batch, m)
        if model.add_tpos_enc_to_obj_ptrs:
            code = model.obj_ptr_tpos_proj(get_1d_sine_pe(pointer_tpos, dim=c))[:, None]
            code = code.expand(-1, batch, m).repeat_interleave(c // m, dim=0)
        current = self._sine(model.image_encoder.neck.position_encoding)
        result = model.memory_attention(
            curr=features.flatten(2).permute(2, 0, 1).expand(-1, batch, -1),
            curr_pos=current.expand(-1, batch, -1),
            memory=torch.cat([tokens, split]),
            memory_pos=torch.cat([position, code]),
            num_obj_ptr_tokens=split.shape[0],
        )
        return (result.permute(1, 2, 0).reshape(batch, c, h, h),)


class OfficialMaskDecoder(OfficialComponent):
    """All four candidates of ``predict_masks``, with the object pointers of ``SAM2Base``."""

    def forward(
        self,
        conditioned: torch.Tensor,
        high_res_0: torch.Tensor,
        high_res_1: torch.Tensor,
        coords: torch.Tensor,
        labels: torch.Tensor,
        mask: torch.Tensor,
        has_mask: torch.Tensor,
    ) -> Tensors:
        model, h, objects = self.model, self.spec.feature_size, conditioned.shape[0]
        prompts = model.sam_prompt_encoder
        dense = prompts.no_mask_embed.weight.reshape(1, -1, 1, 1).expand(objects, -1, h, h)
        if bool(has_mask.any()):
            dense = prompts._embed_masks(mask)
        masks, ious, tokens, score = model.sam_mask_decoder.predict_masks(
            conditioned,
            prompts.get_dense_pe(),
            prompts._embed_points(coords, labels, pad=False),
            dense,
            False,
            [level.expand(objects, -1, -1, -1) for level in (high_res_0, high_res_1)],
        )
        visible = (score > 0).float()[:, None]
        pointers = visible * model.obj_ptr_proj(tokens) + (1 - visible) * model.no_obj_ptr
        return masks, ious, pointers, score


class OfficialMemoryEncoder(OfficialComponent):
    def forward(
        self,
        features: torch.Tensor,
        logits: torch.Tensor,
        from_points: torch.Tensor,
        score: torch.Tensor,
    ) -> Tensors:
        size, h = self.spec.image_size, self.spec.feature_size
        enlarged = nn.functional.interpolate(
            logits, size=(size, size), mode="bilinear", align_corners=False
        )
        tokens = features.flatten(2).permute(2, 0, 1).expand(-1, logits.shape[0], -1)
        memory, _ = self.model._encode_new_memory(
            [tokens], [(h, h)], enlarged, score, bool(from_points.all())
        )
        return (memory,)


OFFICIAL_COMPONENTS = {
    IMAGE_ENCODER: OfficialImageEncoder,
    MEMORY_ATTENTION: OfficialMemoryAttention,
    MASK_DECODER: OfficialMaskDecoder,
    MEMORY_ENCODER: OfficialMemoryEncoder,
}


@contextmanager
def real_rotation() -> Iterator[None]:
    """Rotate keys and queries in real numbers, for exporters that have no complex ones."""
    original = upstream.apply_rotary_enc
    upstream.apply_rotary_enc = _rotated
    try:
        yield
    finally:
        upstream.apply_rotary_enc = original


def _rotated(
    xq: torch.Tensor, xk: torch.Tensor, freqs_cis: torch.Tensor, repeat_freqs_k: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    cos, sin = freqs_cis.real, freqs_cis.imag
    queries = _turn(xq, cos, sin)
    if repeat_freqs_k:
        times = xk.shape[-2] // xq.shape[-2]
        cos, sin = cos.repeat(times, 1), sin.repeat(times, 1)
    return queries, _turn(xk, cos, sin)


def _turn(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    a, b = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1).flatten(-2).type_as(x)
