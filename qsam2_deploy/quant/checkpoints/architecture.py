"""Which SAM2 a checkpoint is, and how to build it.

A configuration is a mapping with the key ``model``, as in the YAML files of the ``sam2`` package.
It may come from a stranger, so it is data only: the one thing that it can name are the model
classes that ``sam2`` itself defines.
"""

from __future__ import annotations

import copy
import importlib
import importlib.util
import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..._common.contradictions import contradictions, shown
from ..._common.yaml import read_yaml_text, yaml_errors
from ...errors import CheckpointError, MissingDependencyError
from .config_bounds import check_numbers

if TYPE_CHECKING:
    import os

    from sam2.sam2_video_predictor import SAM2VideoPredictor

Config = dict[str, Any]

_CONFIG_FILES = {
    "sam2_hiera_tiny": "sam2/sam2_hiera_t.yaml",
    "sam2_hiera_small": "sam2/sam2_hiera_s.yaml",
    "sam2_hiera_base_plus": "sam2/sam2_hiera_b+.yaml",
    "sam2_hiera_large": "sam2/sam2_hiera_l.yaml",
    "sam2.1_hiera_tiny": "sam2.1/sam2.1_hiera_t.yaml",
    "sam2.1_hiera_small": "sam2.1/sam2.1_hiera_s.yaml",
    "sam2.1_hiera_base_plus": "sam2.1/sam2.1_hiera_b+.yaml",
    "sam2.1_hiera_large": "sam2.1/sam2.1_hiera_l.yaml",
}
OFFICIAL_NAMES = tuple(_CONFIG_FILES)
"""Names of the official models, SAM 2.0 first."""

_SIZES = {(96, 12): "tiny", (96, 16): "small", (112, 24): "base_plus", (144, 48): "large"}
_OFFICIAL_WIDTH = 256
_STRIDE = 16
_SIZE_MULTIPLE = 32
_PATCH_EMBED = "image_encoder.trunk.patch_embed.proj.bias"  # weights may be packed elsewhere
_BLOCK = re.compile(r"image_encoder\.trunk\.blocks\.(\d+)\.")
_PREDICTOR = "sam2.sam2_video_predictor.SAM2VideoPredictor"
_RESOLVER = re.compile(r"\$\{[^}]*:")


def recognise_architecture(state_dict: Mapping[str, torch.Tensor]) -> str | None:
    """Return the official name of a state dict, such as ``sam2.1_hiera_tiny``, or None.

    The size follows from the width of the patch embedding and the number of trunk blocks; SAM 2.1
    has ``no_obj_embed_spatial`` and ``obj_ptr_tpos_proj``, which SAM 2.0 lacks.
    """
    patch_embed, width = state_dict.get(_PATCH_EMBED), state_dict.get("no_mem_embed")
    if patch_embed is None or width is None or width.shape[-1:] != (_OFFICIAL_WIDTH,):
        return None
    blocks = {match[1] for match in map(_BLOCK.match, state_dict) if match}
    size = _SIZES.get((patch_embed.shape[0], len(blocks)))
    new_in_21 = {"no_obj_embed_spatial" in state_dict, "obj_ptr_tpos_proj.bias" in state_dict}
    if size is None or len(new_in_21) > 1:
        return None
    return f"{'sam2.1' if new_in_21 == {True} else 'sam2'}_hiera_{size}"


def nearest_official(state_dict: Mapping[str, torch.Tensor]) -> str | None:
    """Return the official name whose trunk is most like that of a state dict, or None without one.

    The width decides before the number of blocks. For messages: it says nothing of the rest.
    """
    patch_embed = state_dict.get(_PATCH_EMBED)
    if patch_embed is None or patch_embed.ndim != 1:
        return None
    blocks = len({match[1] for match in map(_BLOCK.match, state_dict) if match})
    width = patch_embed.shape[0]
    nearest = min(_SIZES, key=lambda size: (abs(size[0] - width), abs(size[1] - blocks)))
    new_in_21 = "no_obj_embed_spatial" in state_dict or "obj_ptr_tpos_proj.bias" in state_dict
    version = "sam2.1" if new_in_21 else "sam2"
    return f"{version}_hiera_{_SIZES[nearest]}"


def official_config(name: str) -> Config:
    """Return the configuration of an official model from the installed ``sam2`` package.

    Raises:
        CheckpointError: no official model is called ``name``.
        MissingDependencyError: ``sam2`` is not installed.
    """
    if name not in _CONFIG_FILES:
        raise CheckpointError(
            f"no official model is called {name!r}; expected one of {', '.join(OFFICIAL_NAMES)}"
        )
    package = importlib.util.find_spec("sam2")
    if package is None or package.origin is None:
        raise MissingDependencyError("sam2", "train", "building a SAM2 model")
    return read_config(Path(package.origin).parent / "configs" / _CONFIG_FILES[name])


def read_config(path: str | os.PathLike[str]) -> Config:
    """Read a model configuration from a YAML file.

    Raises:
        CheckpointError: the file cannot be read, is no YAML, has no ``model`` mapping, or names
            something other than the ``sam2`` package's own model classes.
    """
    from omegaconf import OmegaConf

    with yaml_errors(path, "configuration", raises=CheckpointError):
        # OmegaConf reads 1e-6 as a number, which plain YAML 1.1 takes for text.
        raw = OmegaConf.create(read_yaml_text(path))
        content = OmegaConf.to_container(raw, resolve=False)
        if _RESOLVER.search(str(content)):
            raise CheckpointError(
                f"the configuration {path} uses a resolver (${{name:...}}); expected plain values"
            )
        content = OmegaConf.to_container(raw, resolve=True)
    return checked_config(content, str(path))


def checked_config(content: object, origin: str = "of the checkpoint") -> Config:
    """Return ``content`` if it is a configuration that is safe to build, else raise.

    Raises:
        CheckpointError: there is no ``model`` mapping, or a ``_target_`` is not a model class of
            the ``sam2`` package.
    """
    if not isinstance(content, dict) or not isinstance(content.get("model"), dict):
        raise CheckpointError(
            f"the configuration {origin} has no mapping 'model'; expected the form of the YAML "
            "files in sam2/configs"
        )
    _check_targets(content["model"], origin)
    check_numbers(content["model"], origin)
    return content


def _check_targets(node: object, origin: str) -> None:
    if isinstance(node, list):
        for item in node:
            _check_targets(item, origin)
    if not isinstance(node, dict):
        return
    target = node.get("_target_")
    allowed = isinstance(target, str) and (
        target.startswith("sam2.modeling.") or target == _PREDICTOR
    )
    if target is not None and not allowed:
        raise CheckpointError(
            f"the configuration {origin} asks for {shown(target)}; only classes of sam2.modeling "
            "are allowed"
        )
    if "weights_path" in node:
        raise CheckpointError(
            f"the configuration {origin} sets 'weights_path'; weights come from the checkpoint "
            "alone, so remove that line"
        )
    for value in node.values():
        _check_targets(value, origin)


def effective_config(config: Mapping[str, Any], image_size: int | None = None) -> Config:
    """Return a copy of ``config`` with the flags of the official video predictor.

    They are those of ``build_sam2_video_predictor(apply_postprocessing=True)``, without hole
    filling and compilation. ``image_size`` replaces the configured one; both rotary embeddings of
    the memory attention get its feature size.

    Raises:
        CheckpointError: the image size is not a positive multiple of 32, or the configuration is
            not one of a SAM2 model.
    """
    result: Config = copy.deepcopy(dict(config))
    model = checked_config(result)["model"]
    size = model.get("image_size") if image_size is None else image_size
    model["image_size"] = _checked_size(size)
    model["_target_"] = _PREDICTOR
    model["binarize_mask_from_pts_for_mem_enc"] = True
    model["fill_hole_area"] = 0  # needs a CUDA extension of sam2
    model["compile_image_encoder"] = False
    model["sam_mask_decoder_extra_args"] = {
        **(model.get("sam_mask_decoder_extra_args") or {}),
        "dynamic_multimask_via_stability": True,
        "dynamic_multimask_stability_delta": 0.05,
        "dynamic_multimask_stability_thresh": 0.98,
    }
    _set_feature_size(model, model["image_size"] // _STRIDE)
    return result


def _checked_size(size: object) -> int:
    if not isinstance(size, int) or isinstance(size, bool) or size <= 0 or size % _SIZE_MULTIPLE:
        raise CheckpointError(
            f"the image size must be a positive multiple of {_SIZE_MULTIPLE}, but got "
            f"{shown(size)}; official models use 1024"
        )
    return size


def _set_feature_size(model: Config, feature_size: int) -> None:
    attention = model.get("memory_attention")
    layer = attention.get("layer") if isinstance(attention, dict) else None
    if not isinstance(layer, dict):  # nothing that a model can be built of, which says so
        return
    for name in ("self_attention", "cross_attention"):
        if isinstance(layer.get(name), dict) and "RoPE" in str(layer[name].get("_target_")):
            layer[name]["feat_sizes"] = [feature_size, feature_size]


def build_model(config: Mapping[str, Any], *, image_size: int | None = None) -> SAM2VideoPredictor:
    """Build the ``SAM2VideoPredictor`` that ``config`` describes, with random weights.

    Returns:
        The model on the CPU: evaluation mode, float32, no parameter requires a gradient.

    Raises:
        CheckpointError: the configuration or the image size cannot be used.
        MissingDependencyError: ``sam2`` is not installed.
    """
    if importlib.util.find_spec("sam2") is None:
        raise MissingDependencyError("sam2", "train", "building a SAM2 model")
    model_config = effective_config(config, image_size)["model"]
    with contradictions(
        "the configuration",
        "it does not describe a SAM2 model of this sam2 package",
        raises=CheckpointError,
        advice="give one in the form of the YAML files in sam2/configs",
    ):
        model = _instantiate(model_config)
    return model.float().eval().requires_grad_(False)


def _instantiate(node: Any) -> Any:
    """Build ``node`` and what is below it; as Hydra does, but for sam2's own classes only."""
    if isinstance(node, list):
        return [_instantiate(item) for item in node]
    if not isinstance(node, dict):
        return node
    values = {key: _instantiate(value) for key, value in node.items() if key != "_target_"}
    return _model_class(node["_target_"])(**values) if "_target_" in node else values


def _model_class(target: str) -> type[nn.Module]:
    """Return the class ``target``; it must be defined, not only imported, in its module."""
    module_name, _, name = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        raise CheckpointError(f"the sam2 package has no class {shown(target)}") from error
    # A prefix is no proof: sam2.modeling.sam2_base.torch.load has the right one.
    if inspect.isclass(found) and issubclass(found, nn.Module) and found.__module__ == module_name:
        return found
    raise CheckpointError(f"{shown(target)} is not a model class of the sam2 package")
