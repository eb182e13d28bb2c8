"""Variants of a model that make rules matter which the usual flags and weights leave unused."""

import copy
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from qsam2_deploy.quant.checkpoints.architecture import build_model
from tests.parity.session import Session

StateDict = dict[str, torch.Tensor]
SCORE_BIAS = "sam_mask_decoder.pred_obj_score_head.layers.2.bias"
NEVER = -30.0
"""Object score bias with which no object is ever visible."""


@dataclass(frozen=True)
class Variant:
    """Changed entries of the configuration, and what happens to the object score."""

    rules: Mapping[str, Any] = field(default_factory=dict)
    score: str = "as it is"
    version: str = "2.1"


VARIANTS: dict[str, Variant] = {
    "usual": Variant(),
    "two nearest prompts": Variant({"max_cond_frames_in_attn": 2}),
    "invisible": Variant(score="never visible"),
    "comes and goes": Variant(score="around zero"),
    "strided memory": Variant({"memory_temporal_stride_for_eval": 2}),
    "single mask": Variant({"multimask_output_in_sam": False}),
    "pointers from the future": Variant({"only_obj_ptrs_in_the_past_for_eval": False}),
    "SAM 2.0": Variant(version="2.0"),
}


def varied(
    config: Mapping[str, Any], state: StateDict, variant: Variant, video: Path
) -> tuple[dict[str, Any], StateDict]:
    """Apply a variant to a model; ``video`` is a folder of frames to centre the score on."""
    config = copy.deepcopy(dict(config))
    config["model"].update(variant.rules)
    state = dict(state)
    if variant.score == "never visible":
        state[SCORE_BIAS] = torch.full_like(state[SCORE_BIAS], NEVER)
    elif variant.score == "around zero":
        state[SCORE_BIAS] = _centred_bias(config, state, video)
    return config, state


def official_predictor(config: Mapping[str, Any], state: StateDict) -> Any:
    """Build the official predictor with these weights."""
    model = build_model(config)
    model.load_state_dict(state)
    _remember_features(model, config)
    return without_autocast(model)


_FEATURES: dict[tuple[str, bytes], Any] = {}
"""What ``forward_image`` returned, by everything that it depends on."""


def _remember_features(model: Any, config: Mapping[str, Any]) -> None:
    """Encode each frame once for equal weights, however many scenarios and models have it."""
    settings = hashlib.sha256(repr(config["model"]["image_encoder"]).encode())
    settings.update(str(model.use_high_res_features_in_sam).encode())
    for name, tensor in sorted(model.state_dict().items()):
        if name.startswith(("image_encoder.", "sam_mask_decoder.conv_s")):
            settings.update(name.encode() + tensor.numpy().tobytes())
    weights, encode = settings.hexdigest(), model.forward_image

    def forward_image(image: torch.Tensor) -> Any:
        key = weights, hashlib.sha256(image.numpy().tobytes()).digest()
        if key not in _FEATURES:
            _FEATURES[key] = encode(image)
        return copy.copy(_FEATURES[key])

    model.forward_image = forward_image


def without_autocast(model: Any) -> Any:
    """Let the official predictor run in float32.

    It keeps memories in bfloat16 and relies on autocast where no pointer, which is float32, stands
    beside them: before the first prompt in the direction of tracking.
    """

    def widen(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return args, {**kwargs, "memory": kwargs["memory"].float()}

    model.memory_attention.register_forward_pre_hook(widen, with_kwargs=True)
    return model


def _centred_bias(config: Mapping[str, Any], state: StateDict, video: Path) -> torch.Tensor:
    """Shift the object score so that it is positive on about half of the tracked frames.

    The new zero is in the widest gap between the scores of the middle half, so that no score is as
    close to it as a rounding error.
    """
    predictor = official_predictor(config, state)
    session = Session(predictor, video, 100, 100, len(list(video.iterdir())))
    session.click(0, (0.32, 0.48), normalised=True)
    session.propagate()
    tracked = session._state["output_dict_per_obj"][0]["non_cond_frame_outputs"].values()
    scores = np.sort([out["object_score_logits"].item() for out in tracked])
    middle = scores[len(scores) // 4 : -(len(scores) // 4)]
    widest = int(np.diff(middle).argmax())
    return state[SCORE_BIAS] - float(middle[widest : widest + 2].mean())
