"""Where in a file of ``torch.save`` the weights are: trainers wrap them in different ways."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch

from ..._common.contradictions import shown
from ...errors import CheckpointError

WRAPPERS = (
    "model",  # the official files, and ours
    "state_dict",  # PyTorch Lightning, timm
    "model_state_dict",
    "module",  # DeepSpeed
    "ema",
    "ema_state_dict",
    "model_ema",
    "net",
    "weights",
)
"""Entries that hold a state dict, in files that are none."""

_MAX_DEPTH = 3
_SHOWN = 3
_FORMAT = 'save it in the official format {"model": state_dict}'
_OPTIMIZER = frozenset({"optimizer", "optimizer_state_dict", "optimizer_states", "param_groups"})


def unwrap(content: object, path: Path) -> tuple[dict[str, torch.Tensor], str]:
    """Return the state dict in what was loaded from ``path``, and the entry that it was in.

    The entry is empty where the file is a state dict itself, and ``a/b`` where it is within two.

    Raises:
        CheckpointError: there is none, or more than one.
    """
    entry, inner = "", content
    for _ in range(_MAX_DEPTH):
        if is_state(inner):
            return dict(inner), entry  # type: ignore[call-overload]
        name = _wrapper(inner, path)
        if name is None:
            break
        entry, inner = f"{entry}/{name}" if entry else name, inner[name]  # type: ignore[index]
    raise CheckpointError(_nothing(content, path))


def is_state(content: object) -> bool:
    """Return whether ``content`` is a dictionary of named tensors, and not an empty one."""
    return (
        isinstance(content, dict)
        and bool(content)
        and all(isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in content.items())
    )


def _wrapper(content: object, path: Path) -> str | None:
    if not isinstance(content, Mapping):
        return None
    found = [name for name in WRAPPERS if _leads_to_state(content.get(name), _MAX_DEPTH)]
    if len(found) > 1:
        named = " and ".join(f"'{name}'" for name in found)
        raise CheckpointError(
            f"the checkpoint {path} holds several sets of weights, in the entries {named}; save "
            'the one that is meant as {"model": state_dict}'
        )
    return found[0] if found else None


def _leads_to_state(content: object, depth: int) -> bool:
    if is_state(content):
        return True
    if depth == 0 or not isinstance(content, Mapping):
        return False
    return any(_leads_to_state(content.get(name), depth - 1) for name in WRAPPERS)


def _nothing(content: object, path: Path) -> str:
    if not isinstance(content, dict):
        kind = type(content).__name__
        return (
            f"the checkpoint {path} must be a state dict or a dictionary with the entry 'model', "
            f"but got {kind}; {_FORMAT}"
        )
    if "model" in content:
        return (
            f"the entry 'model' of {path} is not a dictionary of named tensors; expected the "
            "model's state_dict()"
        )
    if content.keys() & _OPTIMIZER:
        return (
            f"{path} holds the state of an optimizer and no weights; give the file that the "
            "trainer saved the model in"
        )
    return (
        f"the checkpoint {path} must be a state dict or a dictionary with the entry 'model', but "
        f"got the keys {some(content)}; {_FORMAT}"
    )


def some(keys: Collection[Any]) -> str:
    """Return the first of some names from a file, so that they can stand in a message."""
    named = ", ".join(shown(str(key))[1:-1] for key in list(keys)[:_SHOWN])
    return f"{named}, ..." if len(keys) > _SHOWN else named
