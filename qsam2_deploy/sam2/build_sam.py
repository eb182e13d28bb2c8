"""What scripts import from ``sam2.build_sam``, here and in its fork for cameras."""

from __future__ import annotations

import os
from typing import Any

from ..predictors import build_sam as _ours
from ..predictors.camera_predictor import SAM2CameraPredictor
from ..predictors.pretrained import exported_model
from ..predictors.shared_model import SharedModel
from ..predictors.video_predictor import SAM2VideoPredictor
from ._settings import CURRENT, engine_options, model_for, output_kind

__all__ = [
    "HF_MODEL_ID_TO_FILENAMES",
    "build_sam2",
    "build_sam2_camera_predictor",
    "build_sam2_hf",
    "build_sam2_video_predictor",
    "build_sam2_video_predictor_hf",
]

_SIZES = {"tiny": "t", "small": "s", "base-plus": "b+", "large": "l"}
HF_MODEL_ID_TO_FILENAMES = {
    f"facebook/{version}-hiera-{size}": (
        f"configs/{version}/{version}_hiera_{short}.yaml",
        f"{version}_hiera_{size.replace('-', '_')}.pt",
    )
    for version in ("sam2", "sam2.1")
    for size, short in _SIZES.items()
}
"""Configuration and checkpoint of each official model on the Hugging Face Hub."""


def build_sam2(
    config_file: str | os.PathLike[str] | None,
    ckpt_path: str | os.PathLike[str] | None = None,
    device: Any = "cuda",
    mode: str = "eval",
    hydra_overrides_extra: Any = (),
    apply_postprocessing: bool = True,
    **kwargs: Any,
) -> SharedModel:
    """See :func:`qsam2_deploy.predictors.build_sam.build_sam2`."""
    return _ours.build_sam2(
        config_file, model_for(ckpt_path), device, mode, hydra_overrides_extra,
        apply_postprocessing, **engine_options(kwargs),
    )  # fmt: skip


def build_sam2_video_predictor(
    config_file: str | os.PathLike[str] | None,
    ckpt_path: str | os.PathLike[str] | None = None,
    device: Any = "cuda",
    mode: str = "eval",
    hydra_overrides_extra: Any = (),
    apply_postprocessing: bool = True,
    vos_optimized: bool = False,
    **kwargs: Any,
) -> SAM2VideoPredictor:
    """See :func:`qsam2_deploy.predictors.build_sam.build_sam2_video_predictor`."""
    return _ours.build_sam2_video_predictor(
        config_file, model_for(ckpt_path), device, mode, hydra_overrides_extra,
        apply_postprocessing, vos_optimized, output=output_kind(), **engine_options(kwargs),
    )  # fmt: skip


def build_sam2_camera_predictor(
    config_file: str | os.PathLike[str] | None,
    ckpt_path: str | os.PathLike[str] | None = None,
    device: Any = "cuda",
    mode: str = "eval",
    hydra_overrides_extra: Any = (),
    apply_postprocessing: bool = True,
    vos_optimized: bool = False,
    **kwargs: Any,
) -> SAM2CameraPredictor:
    """See :func:`qsam2_deploy.predictors.build_sam.build_sam2_camera_predictor`."""
    return _ours.build_sam2_camera_predictor(
        config_file, model_for(ckpt_path), device, mode, hydra_overrides_extra,
        apply_postprocessing, vos_optimized, output=output_kind(), **engine_options(kwargs),
    )  # fmt: skip


def build_sam2_hf(model_id: str, **kwargs: Any) -> SharedModel:
    """Open the model of this name of the Hugging Face Hub; see :func:`build_sam2`."""
    return build_sam2(None, _by_name(model_id), **kwargs)


def build_sam2_video_predictor_hf(model_id: str, **kwargs: Any) -> SAM2VideoPredictor:
    """Open the model of this name; see :func:`build_sam2_video_predictor`."""
    return build_sam2_video_predictor(None, _by_name(model_id), **kwargs)


def _by_name(model_id: str) -> str | os.PathLike[str] | None:
    return CURRENT.model or exported_model(model_id)
