"""Drop-ins for the functions of upstream ``sam2/build_sam.py``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import ModelFileError
from .video_predictor import SAM2VideoPredictor

_MODELS = (".onnx", ".engine")


def build_sam2_video_predictor(
    config_file: str | os.PathLike[str] | None,
    ckpt_path: str | os.PathLike[str] | None = None,
    device: Any = "cpu",  # noqa: ARG001
    mode: str = "eval",  # noqa: ARG001
    hydra_overrides_extra: Sequence[str] = (),
    apply_postprocessing: bool = True,  # noqa: ARG001
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
        hydra_overrides_extra: must be empty; options are set when the model is exported.
        apply_postprocessing: ignored; its rules are part of the exported model.
        vos_optimized: ignored.
        **kwargs: further arguments of :class:`SAM2VideoPredictor`.

    Raises:
        ModelFileError: there is no exported model, or it cannot be used.
    """
    if hydra_overrides_extra:
        raise ModelFileError(
            "hydra_overrides_extra cannot change an exported model; pass the options as arguments "
            "of SAM2VideoPredictor, or export the model again with them"
        )
    given = ckpt_path
    if given is None and config_file is not None and Path(config_file).suffix in _MODELS:
        given = config_file
    if given is None:
        raise ModelFileError("no model was given; pass the path of a model.onnx as ckpt_path")
    return SAM2VideoPredictor(_exported(Path(given)), **kwargs)


def _exported(path: Path) -> Path:
    if path.suffix in _MODELS:
        return path
    exported = path.with_suffix(".onnx")
    if not exported.exists():
        raise ModelFileError(
            f"{path} is not an exported model, and there is no {exported} beside it; "
            f"run: qsam2-export {path} {exported}"
        )
    return exported
