"""Whether the tensors of a checkpoint are those of its architecture; if not, what it looks like."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch

from ..._common.hub import CONFIG
from ...errors import CheckpointError
from .architecture import nearest_official, recognise_architecture
from .reading import Reading
from .transformers_names import lacks_memory
from .wrapping import some

_PARTS = (
    "image_encoder", "memory_attention", "memory_encoder", "sam_prompt_encoder",
    "sam_mask_decoder", "obj_ptr_proj",
)  # fmt: skip
"""What the names of a SAM 2 begin with."""

_WITH_CONFIG = "pass --config FILE.yaml with the configuration that it was trained with"

_OTHER_CONFIG = f"give the {CONFIG} that was saved with these weights"


def check_memory(found: Reading) -> None:
    """Refuse a checkpoint that has an image encoder, but nothing of the memory.

    Raises:
        CheckpointError: it is such a one, as ``Sam2Model`` of transformers.
    """
    nearest = nearest_official(found.shapes)
    if nearest is None or not lacks_memory(found.shapes):
        return
    size = nearest.partition("_")[2]
    raise CheckpointError(
        f"{found.path} is the part of a SAM 2 for single images ({len(found.shapes)} tensors "
        f"{found.layout}; transformers calls it Sam2Model): the weights for video, such as "
        f"memory_attention, are missing; save the whole model, as Sam2VideoModel, or download "
        f"sam2.1_{size}.pt"
    )


def check_fit(
    expected: Mapping[str, torch.Tensor], found: Reading, packed: Collection[str], origin: str
) -> None:
    """Compare names and shapes with those of the model that was built, before tensors are read.

    Args:
        expected: the model's own tensors.
        found: the checkpoint.
        packed: names of weights that are stored elsewhere in it.
        origin: where the configuration of the model is from; empty if it is an official one.

    Raises:
        CheckpointError: they differ; says what the checkpoint looks like, and what differs.
    """
    missing = [key for key in expected if key not in found.shapes and key not in packed]
    unexpected = [key for key in found.shapes if key not in expected]
    if missing or unexpected:
        parts = [
            f"{len(keys)} tensors are {word} ({some(keys)})"
            for word, keys in (("missing", missing), ("unexpected", unexpected))
            if keys
        ]
        raise CheckpointError(
            f"the checkpoint {found.path} looks like {_looks(found)}, but does not fit "
            f"{_architecture(origin)}: {' and '.join(parts)}; {_advice(found, origin)}"
        )
    for key, tensor in found.shapes.items():
        if tensor.shape != expected[key].shape:
            advice = _OTHER_CONFIG if origin == CONFIG else _WITH_CONFIG
            raise CheckpointError(
                f"the tensor {some([key])} of {found.path} must be of shape "
                f"{tuple(expected[key].shape)}, but got {tuple(tensor.shape)}, to fit "
                f"{_architecture(origin)}; {advice}"
            )


def no_architecture(found: Reading) -> str:
    """Return why the architecture of a checkpoint is not known, and what to do."""
    count, names = len(found.shapes), found.shapes.keys()
    parts = [part for part in _PARTS if any(name.startswith(f"{part}.") for name in names)]
    if not parts:
        return (
            f"the {count} tensors of {found.path} ({some(names)}) are not those of a SAM 2; give a "
            "checkpoint of SAM 2 or SAM 2.1, such as sam2.1_hiera_tiny.pt"
        )
    if nearest_official(found.shapes) is None:
        return (
            f"{found.path} holds a part of a SAM 2 alone, {count} tensors of {', '.join(parts)}; "
            "save the state_dict of the whole model"
        )
    return (
        f"the architecture of {found.path} is not an official SAM2 size, but {_looks(found)}; pass "
        "--config FILE.yaml with its model configuration"
    )


def _looks(found: Reading) -> str:
    """Return the official size that is nearest, and whose names the tensors have."""
    official = recognise_architecture(found.shapes)
    if official is not None:
        return f"{official} {found.layout}"
    nearest = nearest_official(found.shapes)
    like = f"a size of its own nearest to {nearest}" if nearest else "a part of a SAM 2"
    return f"{like} {found.layout}"


def _architecture(origin: str) -> str:
    if origin == CONFIG:
        return f"the {CONFIG} beside it"
    return f"the configuration {origin}" if origin else "its architecture"


def _advice(found: Reading, origin: str) -> str:
    """Return what to do where tensors are missing or unexpected."""
    if origin == CONFIG:
        return _OTHER_CONFIG
    official = "" if origin else recognise_architecture(found.shapes)
    download = f", download {official}.pt" if official else ""
    return f"save the state_dict of the whole model{download}, or {_WITH_CONFIG}"
