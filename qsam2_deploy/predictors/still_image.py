"""A still image through the encoder once, and prompts on it through the mask decoder."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..engines.protocol import Backend
from ..errors import ModelFileError
from ..spec import IMAGE_ENCODER, MASK_DECODER, TrackingRules
from ..tracking.postprocess import select_mask, small_regions
from ..tracking.preprocess import preprocess_image
from .image_prompts import DecoderPrompts

FloatArray = npt.NDArray[np.float32]

_REGION_LOGIT = np.float32(10.0)
"""How far beyond the threshold filled holes and removed specks are put."""

_LOW_RES_LIMIT = np.float32(32.0)


@dataclass(frozen=True)
class Embedding:
    """What the encoder gave for one image.

    Attributes:
        size: height and width of the image, in pixels.
        conditioned: float32 ``[1, C, S/16, S/16]``.
        high_res_0: float32 ``[1, C/8, S/4, S/4]``.
        high_res_1: float32 ``[1, C/4, S/8, S/8]``.
    """

    size: tuple[int, int]
    conditioned: FloatArray
    high_res_0: FloatArray
    high_res_1: FloatArray


def rgb_array(image: npt.NDArray[np.uint8] | Image.Image) -> npt.NDArray[np.uint8]:
    """Return a Pillow image as uint8 ``[height, width, 3]``; an array as it is, unchecked."""
    if isinstance(image, Image.Image):
        return np.asarray(image.convert("RGB"))
    return image


def encode_image(backend: Backend, image: npt.NDArray[np.uint8]) -> Embedding:
    """Encode one image.

    Args:
        backend: an engine that was entered.
        image: uint8 RGB ``[height, width, 3]``.

    Raises:
        VideoError: ``image`` is of another type or shape.
        ModelFileError: the model was exported without what still images need.
    """
    spec = backend.spec
    if "no_mem_embed" not in spec.constants:
        raise ModelFileError(
            "the model has no constant 'no_mem_embed', which still images need; "
            "export the checkpoint again with qsam2-export"
        )
    outputs = backend.run(IMAGE_ENCODER, {"image": preprocess_image(image, spec)})
    # Upstream trains still images as first frames of videos: this stands for "no memory".
    no_memory = spec.constants["no_mem_embed"].reshape(1, -1, 1, 1)
    return Embedding(
        size=(image.shape[0], image.shape[1]),
        conditioned=outputs["features"] + no_memory,
        high_res_0=outputs["high_res_0"],
        high_res_1=outputs["high_res_1"],
    )


def decode_masks(
    backend: Backend, image: Embedding, prompts: DecoderPrompts, *, multimask: bool
) -> tuple[FloatArray, FloatArray]:
    """Return the masks of ``B`` prompted objects.

    Args:
        backend: the engine that encoded ``image``.
        image: what is decoded.
        prompts: of the objects.
        multimask: three candidates for each object instead of one.

    Returns:
        Logits float32 ``[B, C, S/4, S/4]`` and predicted qualities ``[B, C]``; ``C`` is 3 or 1.
    """
    batch = len(prompts.coords)
    outputs = backend.run(
        MASK_DECODER,
        {
            "conditioned": np.repeat(image.conditioned, batch, axis=0),
            "high_res_0": image.high_res_0,
            "high_res_1": image.high_res_1,
            "point_coords": prompts.coords,
            "point_labels": prompts.labels,
            "mask_input": prompts.mask_input,
            "has_mask": prompts.has_mask,
        },
    )
    masks, ious, pointers = (outputs[name] for name in ("mask_logits", "ious", "pointers"))
    if multimask:
        return masks[:, 1:], ious[:, 1:]
    return _single_masks(masks, ious, pointers, backend.spec.rules)


def clamped_logits(low_res: FloatArray) -> FloatArray:
    """Return logits within ±32, as upstream gives and takes those of low resolution."""
    return np.clip(low_res, -_LOW_RES_LIMIT, _LOW_RES_LIMIT)


def cleaned_logits(
    logits: FloatArray, *, threshold: float, max_hole_area: float, max_sprinkle_area: float
) -> FloatArray:
    """Fill holes and remove specks, both found in the original mask.

    8-connected regions get the logit ``threshold`` ± 10 (upstream
    ``SAM2Transforms.postprocess_masks``).

    Args:
        logits: float32 ``[h, w]``.
        threshold: logit above which a pixel belongs to the mask.
        max_hole_area: fill background regions of at most so many pixels; 0 fills none.
        max_sprinkle_area: remove foreground regions of at most so many pixels; 0 removes none.

    Returns:
        float32 ``[h, w]``; the same array where nothing was asked for.
    """
    limit = np.float32(threshold)
    result = logits
    if max_hole_area > 0:
        holes = small_regions(logits <= limit, max_hole_area)
        result = np.where(holes, limit + _REGION_LOGIT, result)
    if max_sprinkle_area > 0:
        specks = small_regions(logits > limit, max_sprinkle_area)
        result = np.where(specks, limit - _REGION_LOGIT, result)
    return result


def _single_masks(
    mask_logits: FloatArray, ious: FloatArray, pointers: FloatArray, rules: TrackingRules
) -> tuple[FloatArray, FloatArray]:
    # Still images ignore the object score: the user has said that the object is there.
    chosen = [
        select_mask(masks, quality, tokens, 1.0, multimask=False, rules=rules)
        for masks, quality, tokens in zip(mask_logits, ious, pointers, strict=True)
    ]
    best = np.stack([mask for mask, _, _ in chosen])[:, None]
    return best, np.asarray([[iou] for _, iou, _ in chosen], np.float32)
