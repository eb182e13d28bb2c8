"""Options of the official builders, as what the runtime does for them.

Upstream ``sam2/build_sam.py`` sets options of its model by overrides of Hydra, such as
``++model.non_overlap_masks=true``. Those that say what is done with the outputs can be set for any
exported model; those that change what the network computes need another export.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from typing import Any

from ..errors import InputError
from ..spec import TrackingRules

_PREDICTOR = {
    "add_all_frames_to_correct_as_cond": bool,
    "clear_non_cond_mem_around_input": bool,
    "fill_hole_area": int,
    "non_overlap_masks": bool,
}
"""Arguments of ``SAM2VideoPredictor``."""

_SPEED_ALONE = {"compile_image_encoder", "use_act_ckpt_iterative_pt_sampling"}
"""Change no result, so they are taken and do nothing."""

_BAKED = {"num_maskmem", "fixed_no_obj_ptr", "use_mask_input_as_output_without_sam",
          "use_signed_tpos_enc_to_obj_ptrs", "max_obj_ptrs_in_encoder"}  # fmt: skip
"""Rules that belong to the weights: another value is another model."""

_DECODER = "sam_mask_decoder_extra_args."
_WITHOUT_POSTPROCESSING = {
    "dynamic_multimask_via_stability": False,
    "binarize_mask_from_pts_for_mem_enc": False,
}
"""What ``apply_postprocessing=False`` switches off upstream, but for the filling of holes, which it
does only where its CUDA extension is compiled."""

_WORDS = {"true": True, "false": False, "null": None, "none": None}


@dataclass(frozen=True)
class OfficialOptions:
    """What the arguments of an official builder mean here.

    Attributes:
        rules: of the tracker.
        predictor: arguments of ``SAM2VideoPredictor``.
    """

    rules: TrackingRules
    predictor: dict[str, Any]


def official_options(
    rules: TrackingRules,
    image_size: int,
    overrides: Iterable[str] = (),
    *,
    apply_postprocessing: bool = True,
) -> OfficialOptions:
    """Return what an official builder's arguments mean for a model.

    Args:
        rules: of the exported model.
        image_size: side of its input in pixels.
        overrides: of Hydra, such as ``++model.non_overlap_masks=true``.
        apply_postprocessing: as upstream: False switches off the choice of a mask by its stability
            and hard masks of prompts in the memory.

    Raises:
        InputError: an override that needs another export, or is unknown or malformed.
    """
    changed: dict[str, Any] = {} if apply_postprocessing else dict(_WITHOUT_POSTPROCESSING)
    predictor: dict[str, Any] = {}
    known = {field.name: type(getattr(rules, field.name)) for field in fields(TrackingRules)}
    for text in overrides:
        name, value = _parsed(text)
        if name in _SPEED_ALONE:
            continue
        if name in _PREDICTOR:
            predictor[name] = _of_type(text, value, _PREDICTOR[name])
        elif name == "image_size":
            _same(text, value, image_size, f"export it again with: --image-size {value}")
        elif name in _BAKED:
            _same(text, value, getattr(rules, name), "export a checkpoint with this option")
        elif name in known:
            changed[name] = _of_type(text, value, known[name])
        else:
            raise InputError(
                f"the override {text!r} changes what the network computes, or is not known; an "
                "exported model takes "
                f"{', '.join(sorted({*_PREDICTOR, *known} - _BAKED))} and image_size; export the "
                "checkpoint again with a configuration that has it"
            )
    return OfficialOptions(replace(rules, **changed), predictor)


def _parsed(text: str) -> tuple[str, Any]:
    """Return the name, without its prefixes, and the value of an override."""
    name, equals, value = str(text).partition("=")
    name = name.strip().lstrip("+")
    if not equals or not name.startswith("model."):
        raise InputError(
            f"{text!r} is no override of the model; expected one such as "
            "++model.non_overlap_masks=true"
        )
    name = name[len("model.") :]
    name = name[len(_DECODER) :] if name.startswith(_DECODER) else name
    value = value.strip()
    if value.lower() in _WORDS:
        return name, _WORDS[value.lower()]
    with suppress(ValueError):
        return name, int(value)
    with suppress(ValueError):
        return name, float(value)
    return name, value


def _of_type(text: str, value: Any, kind: type) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not kind:
        raise InputError(f"the override {text!r} must have a value of the type {kind.__name__}")
    return value


def _same(text: str, value: Any, expected: Any, remedy: str) -> None:
    if value != expected:
        raise InputError(
            f"the override {text!r} is part of an exported model, and this one has {expected}; "
            f"{remedy}"
        )
