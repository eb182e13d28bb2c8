"""The demo model at a small size: trained weights, which forgive a last bit as real ones do.

Random weights amplify rounding errors from layer to layer and from frame to frame, so that what
counts as equal would depend on the processor. This model tracks: the next frame repairs what went
wrong in the last one.
"""

import copy
import functools
from pathlib import Path
from typing import Any

import torch

from qsam2_deploy.quant.checkpoints.architecture import build_model
from qsam2_deploy.quant.checkpoints.checkpoint import load_checkpoint
from tests.parity.variants import VARIANTS, StateDict, varied

CHECKPOINT = Path(__file__).parents[2] / "assets" / "demo.pt"

IMAGE_SIZE = 128
"""Model input: feature maps of 8x8. The model was trained at 256."""

ABSENT_POINTER_GAIN = 100.0
"""Factor of ``no_obj_ptr``, which this model has learnt to be nearly nothing.

As it is, its pointer of absent objects moves later masks by 1e-5 of the range, which no test sees.
"""

_ONLY_2_1 = (
    "no_obj_embed_spatial",
    "add_tpos_enc_to_obj_ptrs",
    "proj_tpos_enc_in_obj_ptrs",
    "use_signed_tpos_enc_to_obj_ptrs",
)


def trained_variant(name: str, video: Path) -> tuple[dict[str, Any], StateDict]:
    """Return configuration and weights of the model in one of ``VARIANTS``.

    Args:
        name: of the variant; SAM 2.0 lacks the tensors that only 2.1 has.
        video: folder of frames to centre the object score on.
    """
    variant = VARIANTS[name]
    config, state = trained_model()
    if variant.version == "2.0":
        for flag in _ONLY_2_1:
            del config["model"][flag]
        config["model"]["add_tpos_enc_to_obj_ptrs"] = False
        kept = build_model(config).state_dict()
        state = {name: tensor for name, tensor in state.items() if name in kept}
    return varied(config, state, variant, video)


def trained_model() -> tuple[dict[str, Any], StateDict]:
    """Return copies of configuration and weights, float32."""
    config, state = _loaded()
    return copy.deepcopy(config), dict(state)


@functools.cache
def _loaded() -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    loaded = load_checkpoint(CHECKPOINT, image_size=IMAGE_SIZE)
    state = loaded.model.state_dict()
    state["no_obj_ptr"] = state["no_obj_ptr"] * ABSENT_POINTER_GAIN
    return loaded.config, state
