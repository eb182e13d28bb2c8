"""Lowered graphs on disk, so that a packed model opens without being unpacked again.

A cache is a folder of its user's choice. It holds one file for each component, model and engine:
the lowered ONNX model, an entry with the key that it was made for, and the seal of
``_common/seal.py``. The key covers all that the lowering depends on. A file that is stale, foreign
or damaged is made anew, and a folder that cannot be written to means that nothing is cached;
neither is an error.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .._common import seal as _seal
from .._common.files import atomic_open, read_bounded
from .._common.trust import distrust, trusted_cache
from .._common.version import __version__
from ..errors import InputError, ModelFileError

KEY_ENTRY = "qsam2.lowered"
"""Key of the metadata entry before the seal; its value is what the file was made for."""

FORMAT_VERSION = 2

PRIVATE_FOLDER, PRIVATE_FILE = 0o755, 0o644
"""Whatever the user's umask: what everybody could write to would not be used."""

_MAX_BYTES = 1 << 33
"""Of a lowered component, or of what an engine compiles it to."""


class LoweredCache:
    """The lowered components of one model for one engine.

    Several processes may use the same folder at once: files appear whole, by a rename.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        digest: str,
        engine: str,
        engine_version: str,
        options: str = "",
        suffix: str = ".onnx",
    ) -> None:
        """Choose the folder; it is made when something is stored.

        Args:
            folder: where the files are. Whoever can write to it decides what is computed, so one
                that others can write to is not used, with a warning.
            digest: SHA-256 of the model's contents, as its seal says.
            engine: name of the engine.
            engine_version: its version.
            options: whatever else changes what the lowering makes.
            suffix: how the names of the files end.
        """
        self._folder, self._suffix = Path(folder), suffix
        self._trusted = trusted_cache(self._folder)
        self._about = {
            "format": str(FORMAT_VERSION),
            "model": digest,
            "engine": engine,
            "engine_version": engine_version,
            "options": options,
            "package": __version__,
            "lowering": lowering_digest(),
        }

    def path(self, component: str) -> Path:
        """Return where the lowered ``component`` is, if it is there."""
        return self._folder / f"{self._key(component)[:32]}.{component}{self._suffix}"

    def load(self, component: str) -> bytes | None:
        """Return the lowered ``component``, a serialised model; None if it must be made."""
        path = self.path(component)
        if not self._trusted or distrust(path):
            return None
        try:
            data = read_bounded(path, _MAX_BYTES)
            _seal.verify(data, str(path))
        except (OSError, ValueError, ModelFileError):
            return None
        ending = self._ending(component)
        stored = data[-_seal.TAIL_LENGTH - len(ending) : -_seal.TAIL_LENGTH]
        return data if stored == ending else None

    def load_opaque(self, component: str) -> bytes | None:
        """Return what was stored for ``component`` to the byte; it need not be a model."""
        data = self.load(component)
        end = -_seal.TAIL_LENGTH - len(self._ending(component))
        return None if data is None else data[:end]

    def store(self, component: str, model: bytes) -> bool:
        """Keep the serialised lowered ``component``; return whether that was possible."""
        if not self._trusted:
            return False
        body = model + self._ending(component)
        try:
            self._folder.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
            with atomic_open(self.path(component)) as stream:
                os.fchmod(stream.fileno(), PRIVATE_FILE)
                stream.write(body)
                stream.write(_seal.seal(body))
        except (OSError, InputError):
            return False
        return True

    def _ending(self, component: str) -> bytes:
        return _seal.metadata_entry(KEY_ENTRY, self._key(component))

    def _key(self, component: str) -> str:
        about = json.dumps({**self._about, "component": component}, sort_keys=True)
        return hashlib.sha256(about.encode()).hexdigest()


def engine_cache(
    folder: str | os.PathLike[str],
    digest: str,
    engine: str,
    options: str = "",
    suffix: str = ".onnx",
) -> LoweredCache:
    """Return the cache of a model for an installed engine.

    Args:
        folder: where it is.
        digest: of the model.
        engine: name of the engine's package.
        options: whatever else changes what is kept.
        suffix: how the names of the files end.
    """
    import onnx

    return LoweredCache(
        folder,
        digest=digest,
        engine=engine,
        engine_version=importlib.import_module(engine).__version__,
        options=f"{options}, onnx={onnx.__version__}",
        suffix=suffix,
    )


def lowered_model(
    component: Any, lower: Callable[[Any], None], cache: LoweredCache | None
) -> bytes:
    """Return a component as an engine takes it: from the cache, or made and kept there.

    Args:
        component: an ``onnx.ModelProto`` with one component; it may be changed.
        lower: changes it into what the engine takes.
        cache: of this model and this ``lower``; None makes it anew.
    """
    name = component.graph.name
    kept = None if cache is None else cache.load(name)
    if kept is not None:
        return kept
    lower(component)
    made: bytes = component.SerializeToString()
    if cache is not None:
        cache.store(name, made)
    return made


@functools.cache
def lowering_digest() -> str:
    """Return the digest of the passes' own code, which may change without the version."""
    digest, package = hashlib.sha256(), Path(__file__).parents[1]
    passes = (sorted((package / room).glob("*.py")) for room in ("lowering", "onnx_graph"))
    for path in (*itertools.chain(*passes), package / "_common/packing.py"):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()
