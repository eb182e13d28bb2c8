"""Freeze the names of cuda-python's CUDA runtime into the lists that the tests' double is made of.

The wheels can be imported without a GPU and without a driver, which is all that is needed here.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qsam2_deploy._common.files import atomic_open
from qsam2_deploy.cli._main import Parser, command
from tools._freezing import freeze_all
from tools.tensorrt_api import ROOT, compact, run

LISTS = ROOT / "tests" / "cuda_double" / "api"
FROZEN = ("cuda-python==12.5.0", "cuda-python==12.6.2.post1", "cuda-bindings==13.5.0")
"""The last with the module ``cuda.cudart`` alone, that of JetPack 6's CUDA, and the newest."""

_LISTING = """
import json, re, sys
sys.path.insert(0, sys.argv[1])
try:
    from cuda.bindings import runtime
except ImportError:
    from cuda import cudart as runtime
functions, enums, constants = {}, {}, {}
for name in dir(runtime):
    value = getattr(runtime, name)
    found = re.match(name + r"\\((.*)\\)$", (getattr(value, "__doc__", "") or "").split("\\n")[0])
    if isinstance(value, int):
        constants[name] = value
    elif found and name.startswith("cuda") and not isinstance(value, type):
        given = [p.split(":")[0].split()[-1] for p in found[1].split(",") if p.strip()]
        functions[name] = given
for name in ("cudaDeviceAttr", "cudaError_t", "cudaMemcpyKind", "cudaStreamCaptureMode"):
    enums[name] = {member.name: member.value for member in getattr(runtime, name)}
print(json.dumps({
    "module": runtime.__name__, "functions": functions, "enums": enums, "constants": constants,
}))
"""


def listing_of_folder(folder: Path) -> dict[str, Any]:
    """Return the names of the CUDA runtime's module in the packages in ``folder``.

    Raises:
        InputError: there is no such module, or it cannot be imported.
    """
    # -I -S: an installed cuda-python must not answer in its place
    program = [sys.executable, "-I", "-S", "-c", _LISTING, str(folder)]
    listing: dict[str, Any] = json.loads(run(program, f"import the CUDA runtime of {folder.name}"))
    return listing


def freeze(requirement: str, folder: Path) -> Path:
    """Write the list of ``requirement`` into ``folder`` and return its path.

    Raises:
        InputError: pip cannot install it, or see :func:`listing_of_folder`.
    """
    with tempfile.TemporaryDirectory() as target:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        options = ["--only-binary", ":all:", "--target", target]
        run([*pip, *options, requirement], f"install {requirement}")
        listing = listing_of_folder(Path(target))
    distribution, _, version = requirement.partition("==")
    path = folder / f"{distribution}-{version}.json"
    with atomic_open(path) as file:
        text = compact({"distribution": distribution, "version": version, **listing})
        file.write(text.encode())
    return path


@command("tools.cuda_api")
def main(argv: Sequence[str] | None = None) -> int:
    """Run the program."""
    return freeze_all(Parser("tools.cuda_api", __doc__ or ""), FROZEN, LISTS, freeze, argv)


if __name__ == "__main__":
    sys.exit(main())
