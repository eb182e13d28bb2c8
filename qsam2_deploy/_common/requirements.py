"""The oldest versions of the optional packages that this one works with."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType

from ..errors import OutdatedDependencyError

# The same as in pyproject.toml, which a test compares. A table costs nothing to read, and is there
# without installed metadata, too.
OLDEST = {
    "av": (14, 0),
    "fsspec": (2024, 2),
    "huggingface_hub": (0, 25),
    "matplotlib": (3, 8),
    "onnx": (1, 20),
    "onnxruntime": (1, 20),
    "onnxruntime-gpu": (1, 20),
    "opencv-python-headless": (4, 9),
    # 2024.6 computes float models a little wrong once all sizes are fixed: logits were off by 0.15.
    "openvino": (2025, 0),
    "pyyaml": (6, 0),
    "ray": (2, 9),
    "safetensors": (0, 4, 3),
    "shtab": (1, 7),
    "sam2": (1, 1),
    "torch": (2, 5, 1),
}
_PACKAGE_OF = {"cv2": "opencv-python-headless", "yaml": "pyyaml"}


def check_imported(module: ModuleType, package: str, extra: str, purpose: str) -> None:
    """Refuse an imported module that is too old; one that tells no version is taken.

    Args:
        module: the module.
        package: of :data:`OLDEST`.
        extra: of this package, which brings it.
        purpose: what needs it, for the message.

    Raises:
        OutdatedDependencyError: it is older than :data:`OLDEST` says.
    """
    _check(getattr(module, "__version__", None), package, extra, purpose)


def check_installed(module_name: str, extra: str, purpose: str) -> None:
    """Refuse an installed package that is too old, without importing it.

    One that has no metadata under the name that :data:`OLDEST` knows is taken.

    Raises:
        OutdatedDependencyError: it is older than :data:`OLDEST` says.
    """
    package = _PACKAGE_OF.get(module_name, module_name)
    try:
        found = version(package)
    except PackageNotFoundError:
        return
    _check(found, package, extra, purpose)


def _check(found: object, package: str, extra: str, purpose: str) -> None:
    oldest = OLDEST.get(package)
    if oldest is None or not isinstance(found, str):
        return
    release = _release(found)
    if release and release < oldest:
        needed = ".".join(map(str, oldest))
        raise OutdatedDependencyError(package, extra, purpose, found=found, needed=needed)


def _release(text: str) -> tuple[int, ...]:
    """Return the numbers at the start, at least three: those of ``2.6.0a0+cpu`` are (2, 6, 0)."""
    match = re.match(r"\d+(\.\d+)*", text)
    numbers = tuple(map(int, match[0].split("."))) if match else ()
    return numbers + (0,) * (3 - len(numbers)) if numbers else ()
