"""Checkpoints by their names on the Hugging Face Hub, through its own library and its cache.

Nothing is asked of the network for what is a path: a name is ``OWNER/NAME`` where no file, and no
folder ``OWNER``, is there.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import CheckpointError, MissingDependencyError
from .contradictions import reason_of
from .requirements import check_imported

WEIGHTS, CONFIG = "model.safetensors", "config.json"
"""How ``save_pretrained`` of transformers calls its files."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_OFFICIAL = re.compile(r"facebook/(sam2(\.1)?-hiera-(tiny|small|base-plus|large))")
_FILES = (".pt", ".pth", ".bin", ".ckpt", ".safetensors", ".onnx", ".engine", ".yaml", ".json")


def hub_name(path: str | os.PathLike[str]) -> str | None:
    """Return ``path`` if it is a name on the hub, such as ``facebook/sam2.1-hiera-tiny``."""
    name = os.fspath(path)
    if not _NAME.fullmatch(name) or name.endswith(_FILES):
        return None
    return None if Path(name).exists() or Path(name).parent.exists() else name


def checkpoint_from_hub(name: str) -> Path:
    """Return the file of a checkpoint in the hub's cache, which gets it if it is not there.

    The official models are taken as the ``.pt`` that ``sam2`` itself downloads (``hf_hub_download``
    in upstream ``sam2/build_sam.py``); all others, and official ones that only the cache of
    transformers holds, as ``model.safetensors`` with the ``config.json`` beside it.

    Args:
        name: ``OWNER/NAME``.

    Raises:
        CheckpointError: it is neither in the cache nor to be had; names the file to download.
        MissingDependencyError: ``huggingface_hub`` is not installed.
    """
    wanted = _wanted(name)
    hub = _library(name, wanted[0])
    files = sorted(wanted, key=lambda file: not _is_cached(hub, name, file))
    for file in files:
        try:
            with _no_warnings():
                found = Path(hub.hf_hub_download(name, file))
                if file == WEIGHTS:
                    _config_too(hub, name)
        except Exception as error:
            if _is_absent(error) and file != files[-1]:
                continue
            raise CheckpointError(_advice(name, wanted[0], error)) from error
        return found
    raise AssertionError(name)


@contextmanager
def _no_warnings() -> Iterator[None]:
    """Keep the library from telling of each attempt; what comes of them is told in one sentence."""
    logger = logging.getLogger("huggingface_hub")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _wanted(name: str) -> tuple[str, ...]:
    official = _OFFICIAL.fullmatch(name)
    return (f"{official[1].replace('-', '_')}.pt", WEIGHTS) if official else (WEIGHTS,)


def _library(name: str, file: str) -> Any:
    purpose = f"getting {name} from the Hugging Face Hub"
    try:
        import huggingface_hub
    except ImportError as error:
        raise MissingDependencyError(
            "huggingface_hub",
            "hub",
            purpose,
            hint=f"run: pip install 'qsam2-deploy[hub]', or download {file} of {name} and give "
            "its path (there is no such file or folder here)",
        ) from error
    check_imported(huggingface_hub, "huggingface_hub", "hub", purpose)
    return huggingface_hub


def _is_cached(hub: Any, name: str, file: str) -> bool:
    return isinstance(hub.try_to_load_from_cache(name, file), str)


def _config_too(hub: Any, name: str) -> None:
    """Get the configuration into the same folder, if the model has one."""
    try:
        hub.hf_hub_download(name, CONFIG)
    except Exception as error:
        if not _is_absent(error):
            raise


def _is_absent(error: Exception) -> bool:
    """Return whether the hub says that there is no such file, not that it cannot be asked."""
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    return isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError)


def _advice(name: str, file: str, error: Exception) -> str:
    from huggingface_hub.errors import (
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    if isinstance(error, RepositoryNotFoundError):
        return (
            f"there is no file or folder {name} here, and no model of that name on the Hugging "
            "Face Hub that you may read; check the name, or log in with: hf auth login"
        )
    if _is_absent(error):
        return (
            f"{name} on the Hugging Face Hub has no {file}; give a model that has one, or download "
            "its checkpoint and give the path"
        )
    unreachable = isinstance(error, (LocalEntryNotFoundError, OfflineModeIsEnabled, OSError))
    reason = "it cannot be reached" if unreachable else reason_of(error)
    return (
        f"{file} of {name} is not in the cache of the Hugging Face Hub, and {reason}; download "
        f"{file} where there is a network and give its path"
    )
