"""Which GPU this machine has, so that an engine file can say what it was built for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...errors import MissingDependencyError
from .cuda import import_runtime


@dataclass(frozen=True)
class Gpu:
    """A GPU.

    Attributes:
        name: such as ``Orin``.
        compute_capability: such as ``8.7``.
    """

    name: str
    compute_capability: str


def current_gpu() -> Gpu | None:
    """Return the current CUDA device; None if there is none, or ``cuda-python`` is missing."""
    try:
        return gpu_from_runtime(import_runtime())
    except MissingDependencyError:
        return None


def gpu_from_runtime(runtime: Any) -> Gpu | None:
    """Return the current device of the CUDA runtime's module; None if it has none."""
    success = runtime.cudaError_t.cudaSuccess
    try:
        error, device = runtime.cudaGetDevice()
        if error != success:
            return None
        error, properties = runtime.cudaGetDeviceProperties(device)
    # What the bindings raise where the driver's library is missing.
    except RuntimeError:
        return None
    if error != success:
        return None
    name = properties.name.decode() if isinstance(properties.name, bytes) else str(properties.name)
    return Gpu(name.strip("\0"), f"{properties.major}.{properties.minor}")
