"""Drop-ins for the functions of upstream ``sam2/build_sam.py``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError, ModelFileError
from .camera_predictor import SAM2CameraPredictor
from .pretrained import exported_model
from .shared_model import MODEL_SUFFIXES, SharedModel, open_shared
from .video_predictor import SAM2VideoPredictor

_CAMERA_OPTIONS = ("fill_hole_area", "non_overlap_masks")


def build_sam2(
    config_file: str | os.PathLike[str] | None,
    ckpt_path: str | os.PathLike[str] | None = None,
    device: Any = "cpu",  # noqa: ARG001
    mode: str = "eval",  # noqa: ARG001
    hydra_overrides_extra: Sequence[str] = (),
    apply_postprocessing: bool = True,
    **kwargs: Any,
) -> SharedModel:
    """Open an exported model for ``SAM2ImagePredictor`` and ``SAM2AutomaticMaskGenerator``.

    Args:
        config_file: see :func:`.build_sam2_video_predictor`, as the others.
        ckpt_path: likewise.
        device: ignored; the backend decides.
        mode: ignored; there is nothing to train.
        hydra_overrides_extra: see :func:`.build_sam2_video_predictor`.
        apply_postprocessing: likewise.
        **kwargs: ``backend``, ``threads``, ``cache`` and ``precision`` of the engine; others are
            ignored, as upstream.

    Raises:
        ModelFileError: there is no exported model, or it cannot be used.
        InputError: an override that an exported model cannot follow.
    """
    path = _model(config_file, ckpt_path)
    model, _ = open_shared(
        path, kwargs, hydra_overrides_extra, apply_postprocessing=apply_postprocessing
    )
    return model


def build_sam2_video_predictor(
    config_file: str | os.PathLike[str] | None,
    ckpt_path: str | os.PathLike[str] | None = None,
    device: Any = "cpu",  # noqa: ARG001
    mode: str = "eval",  # noqa: ARG001
    hydra_overrides_extra: Sequence[str] = (),
    apply_postprocessing: bool = True,
    vos_optimized: bool = False,  # noqa: ARG001
    **kwargs: Any,
) -> SAM2VideoPredictor:
    """Open an exported model with the call that scripts make for the official predictor.

    Args:
        config_file: ignored; the model knows its architecture. If it names an ``.onnx`` or
            ``.engine`` file and no checkpoint is given, it is the model.
        ckpt_path: a ``model.onnx`` or ``model.engine``; for a checkpoint ``model.pt``, the
            ``model.onnx`` beside it.
        device: ignored; the backend decides.
        mode: ignored; there is nothing to train.
        hydra_overrides_extra: overrides of options of the runtime, such as
            ``++model.non_overlap_masks=true``, and of the rules of the tracker.
        apply_postprocessing: False leaves out the choice of masks by their stability and hard masks
            of prompts in the memory, as upstream. Holes are filled only where ``fill_hole_area``
            says so: upstream needs its CUDA extension for that.
        vos_optimized: ignored.
        **kwargs: further arguments of :class:`SAM2VideoPredictor`.

    Raises:
        ModelFileError: there is no exported model, or it cannot be used.
        InputError: an override that an exported model cannot follow.
    """
    path = _model(config_file, ckpt_path)
    model, options = open_shared(
        path, kwargs, hydra_overrides_extra, apply_postprocessing=apply_postprocessing
    )
    return SAM2VideoPredictor(model, **{**options, **kwargs})


def build_sam2_camera_predictor(
    config_file: str | os.PathLike[str] | None,
    ckpt_path: str | os.PathLike[str] | None = None,
    device: Any = "cpu",  # noqa: ARG001
    mode: str = "eval",  # noqa: ARG001
    hydra_overrides_extra: Sequence[str] = (),
    apply_postprocessing: bool = True,
    vos_optimized: bool = False,  # noqa: ARG001
    **kwargs: Any,
) -> SAM2CameraPredictor:
    """Open an exported model with the call that scripts make for the real-time fork's predictor.

    Args:
        config_file: see :func:`.build_sam2_video_predictor`, as the others.
        ckpt_path: likewise.
        device: likewise.
        mode: likewise.
        hydra_overrides_extra: likewise.
        apply_postprocessing: likewise.
        vos_optimized: likewise.
        **kwargs: further arguments of :class:`~.camera_predictor.SAM2CameraPredictor`.

    Raises:
        ModelFileError: there is no exported model, or it cannot be used.
        InputError: an override that an exported model cannot follow.
    """
    path = _model(config_file, ckpt_path)
    model, options = open_shared(
        path, kwargs, hydra_overrides_extra, apply_postprocessing=apply_postprocessing
    )
    taken = {name: options[name] for name in _CAMERA_OPTIONS if name in options}
    return SAM2CameraPredictor(model, **{**taken, **kwargs})


def _model(
    config_file: str | os.PathLike[str] | None, ckpt_path: str | os.PathLike[str] | None
) -> Path:
    given = ckpt_path
    if given is None and config_file is not None and Path(config_file).suffix in MODEL_SUFFIXES:
        given = config_file
    if given is None:
        raise ModelFileError("no model was given; pass the path of a model.onnx as ckpt_path")
    try:
        return _exported(Path(given).expanduser())
    except TypeError as error:
        raise InputError(
            f"ckpt_path must be the path of a model.onnx, but got {type(given).__name__}"
        ) from error


def build_sam2_video_predictor_hf(
    model_id: str | os.PathLike[str], **kwargs: Any
) -> SAM2VideoPredictor:
    """Open a model by its name on the Hugging Face Hub, such as ``facebook/sam2.1-hiera-tiny``.

    Args:
        model_id: a name or path, as for ``SAM2VideoPredictor.from_pretrained``, which says
            what becomes of it.
        **kwargs: further arguments of :func:`build_sam2_video_predictor`.

    Raises:
        CheckpointError: there is no such checkpoint, or it cannot be used.
        MissingDependencyError: a package is missing that gets or exports it.
        ModelFileError: the model cannot be used.
    """
    return build_sam2_video_predictor(None, exported_model(model_id), **kwargs)


def _exported(path: Path) -> Path:
    if path.suffix in MODEL_SUFFIXES:
        return path
    exported = path.with_suffix(".onnx")
    if not exported.exists():
        raise ModelFileError(
            f"{path} is not an exported model, and there is no {exported} beside it; "
            f"run: qsam2-export {path} {exported}"
        )
    return exported
