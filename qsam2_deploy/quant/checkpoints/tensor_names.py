"""What trainers put before and into the names of tensors, and how it is taken away again."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from pathlib import Path

from ...errors import CheckpointError
from .wrapping import some

_ADDED = frozenset({"module", "_orig_mod"})
"""Parts of names that no SAM 2 has: of DistributedDataParallel and of ``torch.compile``."""

_ANCHOR = re.compile(
    r"(?P<prefix>(?:.*\.)?)"
    r"(?:image_encoder\.trunk\.patch_embed\.proj|vision_encoder\.backbone\.patch_embed\.projection)"
    r"\.bias"
)
"""A tensor that every SAM 2 has once; quantized ones, too."""

_PART = re.compile(
    r"(?:^|\.)((?:image|vision|memory|prompt|sam_prompt)_encoder|memory_attention|(?:sam_)?mask_decoder)\."
)
"""What the names of most tensors begin with, in upstream and in transformers."""


def bare_names(names: Collection[str], path: Path) -> tuple[dict[str, str], str]:
    """Return the names of a model by those of a file, and what is before them in the file.

    ``module.`` and ``_orig_mod.`` are taken away wherever they are, and what is before the image
    encoder (``model.``, ``net.``, the name of a Lightning attribute) from all names.

    Args:
        names: of all tensors.
        path: of the file, for messages.

    Raises:
        CheckpointError: only some of the names begin so, several become one, or there are several
            models.
    """
    _refuse_mixture(names, [name for name in names if name.split(".")[0] in _ADDED], path)
    bare = {name: _without_added(name) for name in names}
    twice = [name for name, count in Counter(bare.values()).items() if count > 1]
    if twice:
        raise CheckpointError(
            f"{path} holds {len(twice)} tensors twice ({some(twice)}), with and without what "
            "DistributedDataParallel or torch.compile adds to names; save the state_dict of one "
            "model"
        )
    prefix = _prefix(bare.values(), path)
    within = [name for name, short in bare.items() if _begins(short, prefix)]
    _refuse_mixture(names, within, path)
    return {name: short[len(prefix) :] for name, short in bare.items()}, _before(bare, prefix)


def _without_added(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in _ADDED)


def _prefix(names: Collection[str], path: Path) -> str:
    """Return what is before the image encoder in the names."""
    found = {match["prefix"] for match in map(_ANCHOR.fullmatch, names) if match}
    if len(found) > 1:
        raise CheckpointError(
            f"{path} holds several models, whose names begin with {some(sorted(found))}; save the "
            "state_dict of one"
        )
    return found.pop() if found else ""


def _begins(name: str, prefix: str) -> bool:
    """Return whether ``prefix``, and nothing else, is before the name that a model gives."""
    part = _PART.search(name)
    return name.startswith(prefix) and (part is None or part.start(1) == len(prefix))


def _before(bare: dict[str, str], prefix: str) -> str:
    """Return what is before the names in the file, added parts included, for messages."""
    name, short = next(((n, s) for n, s in bare.items() if n != s or prefix), ("", ""))
    first = short[len(prefix) :].partition(".")[0]
    return name[: name.find(first)] if first else ""


def _refuse_mixture(names: Collection[str], within: Collection[str], path: Path) -> None:
    """Refuse names of which some, but not all, begin in one way."""
    if 0 < len(within) < len(names):
        known = set(within)
        others = [name for name in names if name not in known]
        raise CheckpointError(
            f"the names of {len(within)} tensors of {path} begin otherwise than those of "
            f"{len(others)} ({some(list(within)[:1])}, but {some(others[:1])}); save the "
            "state_dict of one model"
        )
