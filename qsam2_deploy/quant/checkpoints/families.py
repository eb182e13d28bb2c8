"""Models that are often taken for a SAM 2, and are none: told apart by the names of their tensors.

The names are those of their own repositories and of transformers: facebookresearch/segment-anything
(``modeling/image_encoder.py``), facebookresearch/sam3 (``sam3/model_builder.py``),
facebookresearch/EdgeTAM (``sam2/modeling/perceiver.py``, ``backbones/timm.py``),
yformer/EfficientTAM (``modeling/backbones/image_encoder.py``), ChaoningZhang/MobileSAM
(``modeling/tiny_vit_sam.py``), SysCV/sam-hq (``modeling/mask_decoder_hq.py``).
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from ...errors import CheckpointError

_NAMES = {
    # Before SAM 1 and SAM 2, whose names they have, too.
    "HQ-SAM": (r"(^|\.)(sam_)?mask_decoder\.(hf_token|hf_mlp|compress_vit_feat)\.",),
    "SAM 3": (
        r"^(detector|tracker|sam3_model|detector_model|tracker_model|tracker_neck)\.",
        r"(^|\.)(vision_backbone|language_backbone|detr_encoder|detr_decoder)\.",
    ),
    "EdgeTAM": (
        r"(^|\.)spatial_perceiver\.",
        r"(^|\.)image_encoder\.trunk\.body\.",
        r"(^|\.)vision_encoder\.backbone\.timm_model\.",
    ),
    "EfficientTAM": (r"(^|\.)image_encoder\.neck\.convs\.\d+\.conv_1x1\.",),
    "MobileSAM": (r"(^|\.)image_encoder\.patch_embed\.seq\.\d+\.c\.",),
    "SAM 1": (
        r"(^|\.)image_encoder\.blocks\.\d+\.attn\.rel_pos_[hw]$",
        r"(^|\.)vision_encoder\.layers\.\d+\.attn\.rel_pos_[hw]$",
    ),
}
_FAMILIES = {family: re.compile("|".join(patterns)) for family, patterns in _NAMES.items()}

_ADAPTER = re.compile(r"\.lora_(A|B|embedding_A|embedding_B|up|down|magnitude_vector)\b")

_TYPES = (
    ("sam2", ""), ("sam3", "SAM 3"), ("edgetam", "EdgeTAM"), ("sam_hq", "HQ-SAM"), ("sam", "SAM 1"),
)  # fmt: skip


def refuse_others(names: Collection[str], path: Path) -> None:
    """Refuse the tensors of another model, or of an adapter.

    Args:
        names: of all tensors.
        path: of the file, for messages.

    Raises:
        CheckpointError: they are those of a known model that is no SAM 2; says which.
    """
    if any(map(_ADAPTER.search, names)):
        raise CheckpointError(
            f"{path} holds the tensors of an adapter (LoRA); merge it into its base model with "
            "merge_and_unload() and save the state_dict of that"
        )
    for family, pattern in _FAMILIES.items():
        if any(map(pattern.search, names)):
            raise CheckpointError(_other(path, family))


def refuse_type(model_type: str, path: Path) -> None:
    """Refuse a ``model_type`` of transformers that is no SAM 2.

    Raises:
        CheckpointError: it is another; says which.
    """
    if model_type in ("sam2", "sam2_video"):
        return
    name = next((name for start, name in _TYPES if model_type.startswith(start)), "")
    raise CheckpointError(_other(path, name or f"a model of the type {model_type[:40]!r}"))


def _other(path: Path, family: str) -> str:
    return (
        f"{path} is a checkpoint of {family}; only those of SAM 2 and SAM 2.1 can be used, such as "
        "sam2.1_hiera_tiny.pt"
    )
