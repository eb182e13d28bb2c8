"""Choosing the engine by a short measurement, which is remembered.

Which engine is faster depends on the model, the processor, the versions and the number of threads,
so the model itself is tried out: its image encoder, and its memory attention with two memories.
"""

from __future__ import annotations

import json
import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .._common.files import atomic_open, user_cache_folder
from .._common.json import read_json
from .._common.machine import cpu_model, usable_cores
from .._common.trust import distrust, trusted_cache
from .._common.versions import installed_versions
from ..errors import EngineError, InputError
from ..model_file.bundle import read_bundle
from ..model_file.lowered_cache import PRIVATE_FILE, PRIVATE_FOLDER, lowering_digest
from ..spec import IMAGE_ENCODER, MEMORY_ATTENTION, ModelSpec
from .onnxruntime.kernels import find_kernels
from .options import BackendOptions
from .protocol import Arrays, Backend
from .registry import engine_named

OpenEngine = Callable[[BackendOptions, str], Backend]
"""Makes the backend of an engine, by its name."""

_MAX_CHOICE = 1 << 20
"""Bytes of the file that remembers it."""

_PROBE_SIZES = {"B": 1, "F": 2, "N": 4}
_PROBE_SECONDS = 0.3
"""A component is run again until its runs took so long together; the shortest one counts."""

_ATTENTION_WEIGHT = 3
"""Attention to 7 memories takes about three times as long as to 2."""


@dataclass(frozen=True)
class Choice:
    """Which engine was chosen, and why.

    Attributes:
        engine: its name, of :func:`.registry.backend_names`.
        milliseconds: of a frame, estimated, by the names of all engines that could run the model.
        from_cache: whether it was measured earlier.
    """

    engine: str
    milliseconds: Mapping[str, float]
    from_cache: bool = False


class AutoBackend:
    """The faster of several engines; it is chosen when the context is entered for the first time.

    Attributes:
        choice: what was chosen; None before.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        engines: Sequence[str],
        options: BackendOptions,
        open_engine: OpenEngine,
    ) -> None:
        """Read and check ``model``.

        Args:
            model: path of a ``model.onnx``.
            engines: names of the engines to choose from; the first one if none can be measured.
            options: for each of them.
            open_engine: makes the backend of an engine.

        Raises:
            ModelFileError: the file cannot be used.
        """
        bundle = read_bundle(model)
        self._spec = bundle.spec
        self._remembered = _RememberedChoice(bundle.digest, engines, options)
        self._engines, self._options, self._open_engine = engines, options, open_engine
        self._inner: Backend | None = None
        self.choice: Choice | None = None

    @property
    def spec(self) -> ModelSpec:
        """Metadata of the model."""
        return self._spec

    @property
    def name(self) -> str:
        """The name of the engine that was chosen; ``auto`` before."""
        return "auto" if self.choice is None else self.choice.engine

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the backend that was chosen, such as its precision."""
        inner = self.__dict__.get("_inner")
        if inner is None or name.startswith("_"):
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r} yet")
        return getattr(inner, name)

    def __enter__(self) -> AutoBackend:
        """Choose the engine, and load the model into it.

        Raises:
            EngineError: the engine refuses the model.
        """
        if self._inner is None:
            self.choice = self._remembered.recall() or self._measured()
            self._inner = self._open_engine(self._options, self.choice.engine)
        self._inner.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        """Release the engine."""
        if self._inner is not None:
            self._inner.__exit__(*error)

    def run(self, component: str, inputs: Mapping[str, npt.NDArray[Any]]) -> Arrays:
        """Run one component; see :class:`~qsam2_deploy.engines.protocol.Backend`."""
        if self._inner is None:
            raise EngineError(f"the backend is closed: enter it before running {component}")
        return self._inner.run(component, inputs)

    def _measured(self) -> Choice:
        # What the slower engine makes of the model is not to be kept.
        options = replace(self._options, cache=None)
        times = {
            name: _frame_milliseconds(partial(self._open_engine, options, name))
            for name in self._engines
        }
        found = {name: value for name, value in times.items() if value is not None}
        fastest = min(found, key=lambda name: found[name]) if found else self._engines[0]
        choice = Choice(fastest, found)
        if len(found) == len(times):  # what failed now may work the next time
            self._remembered.remember(choice)
        return choice


def _frame_milliseconds(open_engine: Callable[[], Backend]) -> float | None:
    """Return about how long a frame takes; None if the engine cannot run the model."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the engine that is chosen says it again
            backend = open_engine()
        with backend:
            encoder, attention = (
                _milliseconds(backend, component) for component in (IMAGE_ENCODER, MEMORY_ATTENTION)
            )
        return round(encoder + _ATTENTION_WEIGHT * attention, 3)
    except Exception:  # whatever it is, another engine can be chosen
        return None


def _milliseconds(backend: Backend, component: str) -> float:
    inputs = _probe_inputs(backend.spec, component)
    times: list[float] = []
    while sum(times) < _PROBE_SECONDS:
        began = time.perf_counter()
        backend.run(component, inputs)
        times.append(time.perf_counter() - began)
    return min(times) * 1e3


def _probe_inputs(spec: ModelSpec, component: str) -> Arrays:
    rng, inputs = np.random.default_rng(0), {}
    for tensor in spec.component(component).inputs:
        shape = [_PROBE_SIZES[d] if isinstance(d, str) else d for d in tensor.shape]
        if tensor.dtype == "float32":
            inputs[tensor.name] = rng.standard_normal(shape).astype(np.float32)
        else:
            inputs[tensor.name] = np.zeros(shape, tensor.dtype)
    return inputs


class _RememberedChoice:
    """The choice for one model on this machine, in a file; what cannot be read is made anew."""

    def __init__(self, digest: str, engines: Sequence[str], options: BackendOptions) -> None:
        self._engines = engines
        self._about = {
            "model": digest,
            "processor": f"{cpu_model()}, {usable_cores()} cores",
            "versions": installed_versions(*(engine_named(name).package for name in engines)),
            "lowering": lowering_digest(),
            "kernels": _kernels(engines),
            "threads": options.threads,
            "precision": options.precision,
        }
        name = sha256(json.dumps(self._about, sort_keys=True).encode()).hexdigest()[:32]
        self._path = _cache_folder(options) / f"{name}.engine.json"

    def recall(self) -> Choice | None:
        """Return the choice that is remembered, if there is one that can be used."""
        if not trusted_cache(self._path.parent) or distrust(self._path):
            return None
        try:
            kept = read_json(self._path, _MAX_CHOICE)
            times = {str(name): float(value) for name, value in kept["milliseconds"].items()}
            fits = kept["about"] == self._about and kept["engine"] in self._engines
            return Choice(kept["engine"], times, from_cache=True) if fits else None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
            return None

    def remember(self, choice: Choice) -> None:
        """Write the choice down, if that is possible."""
        kept = {**asdict(choice), "about": self._about}
        del kept["from_cache"]
        if distrust(self._path.parent):
            return
        with suppress(OSError, InputError):
            self._path.parent.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
            with atomic_open(self._path) as stream:
                os.fchmod(stream.fileno(), PRIVATE_FILE)
                stream.write(json.dumps(kept, indent=1).encode())


def _kernels(engines: Sequence[str]) -> str:
    """Return what ONNX Runtime has of our own operators; it may be faster with them."""
    found = find_kernels() if "ort" in engines else None
    return "none" if found is None else found.stem


def _cache_folder(options: BackendOptions) -> Path:
    return user_cache_folder() if options.cache is None else Path(options.cache)
