"""Reading the frozen lists that ``python -m tools.tensorrt_api`` writes."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "api"
VERSIONS = tuple(sorted(path.stem for path in FOLDER.glob("*.json")))
"""Names of the lists: library and version."""


@dataclass(frozen=True)
class ApiList:
    """The public names of one version of the library; see ``tools/_bindings_listing.py``."""

    distribution: str
    version: str
    classes: dict[str, dict[str, Any]]
    enums: dict[str, dict[str, Any]]
    functions: dict[str, Any]
    constants: dict[str, str]

    @property
    def title(self) -> str:
        """Library and version, for messages."""
        library = "TensorRT-RTX" if "_rtx_" in self.distribution else "TensorRT"
        return f"{library} {self.version}"


def path_of(name: str) -> Path:
    """Return the file of a list; ``name`` is one of VERSIONS or the beginning of just one."""
    found = [version for version in VERSIONS if version.startswith(name)]
    if len(found) != 1:
        raise LookupError(f"expected one of {', '.join(VERSIONS)}, but got {name!r}")
    return FOLDER / f"{found[0]}.json"


def read_list(name: str) -> ApiList:
    """Read the list ``name``, such as "tensorrt-10.3"."""
    return ApiList(**json.loads(path_of(name).read_text()))
