"""Freeze the names of the TensorRT Python API into the lists that the tests' double is made of.

The wheels of the bindings are small and hold the whole Python API, but load libraries of gigabytes.
Only their names are needed here, so the bindings are imported beside empty libraries that are
compiled on the spot: no GPU and no TensorRT is needed, only pip, a C compiler and the network.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qsam2_deploy._common.files import atomic_open
from qsam2_deploy.cli._main import Parser, command
from qsam2_deploy.errors import InputError
from tools._freezing import freeze_all

ROOT = Path(__file__).parents[1]
LISTS = ROOT / "tests" / "tensorrt_double" / "api"
FROZEN = (
    "tensorrt_cu12_bindings==10.3.0",
    "tensorrt_cu12_bindings==10.13.3.9",
    "tensorrt_cu13_bindings==11.4.0.106",
    "tensorrt_rtx_cu13_bindings==1.7.1.116",
)
"""JetPack 6, JetPack 7.1, the newest, and TensorRT-RTX, which make setup installs."""

_STUB = "".join(
    f"void *{name}(void) {{ return 0; }}\n"
    for name in (
        "createInferBuilder_INTERNAL", "createInferRefitter_INTERNAL",
        "createInferRuntime_INTERNAL", "createNvOnnxParserRefitter_INTERNAL",
        "createNvOnnxParser_INTERNAL", "getBuilderPluginRegistry", "getNvOnnxParserVersion",
        "getPluginRegistry", "initLibNvInferPlugins",
    )
)  # fmt: skip
"""What the bindings import from TensorRT; none of it is called."""

_LIBRARY = re.compile(rb"lib(?:nvinfer|nvonnxparser|tensorrt)\w*\.so\.\d+")
_LISTING = (
    "import sys; sys.path[:0] = sys.argv[2:]; from tools._bindings_listing import main; main()"
)


def run(arguments: Sequence[str], purpose: str, *, cwd: Path | None = None) -> str:
    """Run a program and return what it prints.

    Raises:
        InputError: it is missing or fails; the message ends with its last line.
    """
    try:
        result = subprocess.run(arguments, cwd=cwd, capture_output=True, text=True, check=False)
    except OSError as error:
        raise InputError(f"cannot {purpose}: {error.strerror}: {arguments[0]}") from error
    if result.returncode:
        last = (result.stderr.strip() or "no message").splitlines()[-1]
        raise InputError(f"cannot {purpose}: {last}")
    return result.stdout


def download(requirement: str, folder: Path) -> Path:
    """Download the wheel of ``requirement`` without what it depends on, and return its path.

    Raises:
        InputError: pip offers no such wheel for this Python.
    """
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    options = ["--no-deps", "--only-binary", ":all:", "--dest", str(folder)]
    run([*pip, *options, requirement], f"download {requirement}")
    return next(folder.glob("*.whl"))


def compile_stubs(bindings: Path) -> None:
    """Compile, beside the library of the bindings, the libraries that it loads.

    Raises:
        InputError: there is no C compiler.
    """
    source = bindings.parent / "stub.c"
    source.write_text(_STUB)
    for name in sorted(set(_LIBRARY.findall(bindings.read_bytes()))):
        target = bindings.parent / name.decode()
        run(
            ["cc", "-shared", "-fPIC", "-o", str(target), str(source)],
            f"compile the stub {target.name}",
        )


def listing_of_wheel(wheel: Path, folder: Path) -> dict[str, Any]:
    """Return the names in the bindings ``wheel``, which is unpacked in ``folder``.

    Raises:
        InputError: the wheel holds no bindings, or they cannot be imported.
    """
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    libraries = sorted(folder.glob("*_bindings/tensorrt*.so"))
    if not libraries:
        raise InputError(f"{wheel.name} holds no TensorRT bindings; give a *_bindings package")
    compile_stubs(libraries[0])
    # -I -S: an installed TensorRT must not answer in the place of the stubs
    program = [sys.executable, "-I", "-S", "-c", _LISTING]
    module = libraries[0].parent.name
    output = run([*program, module, str(ROOT), str(folder)], f"import {module} of {wheel.name}")
    distribution, version = wheel.name.split("-")[:2]
    return {"distribution": distribution, "version": version, **json.loads(output)}


def list_name(listing: dict[str, Any]) -> str:
    """Return the file name of ``listing``: library and version."""
    library = "tensorrt_rtx" if "_rtx_" in listing["distribution"] else "tensorrt"
    return f"{library}-{listing['version']}.json"


def compact(listing: dict[str, Any]) -> str:
    """Return ``listing`` as sorted JSON with one name per line, so that differences can be read."""
    groups = []
    for key, value in sorted(listing.items()):
        body = json.dumps(value)
        if isinstance(value, dict):
            entries = (
                f"{json.dumps(name)}:{json.dumps(entry, sort_keys=True, separators=(',', ':'))}"
                for name, entry in sorted(value.items())
            )
            body = "{\n" + ",\n".join(entries) + "\n}"
        groups.append(f"{json.dumps(key)}:{body}")
    return "{\n" + ",\n".join(groups) + "\n}\n"


def freeze(requirement: str, folder: Path) -> Path:
    """Write the list of the bindings ``requirement`` into ``folder`` and return its path.

    Raises:
        InputError: see :func:`download` and :func:`listing_of_wheel`.
    """
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        listing = listing_of_wheel(download(requirement, work), work / "unpacked")
    path = folder / list_name(listing)
    with atomic_open(path) as file:
        file.write(compact(listing).encode())
    return path


@command("tools.tensorrt_api")
def main(argv: Sequence[str] | None = None) -> int:
    """Run the program."""
    parser = Parser("tools.tensorrt_api", __doc__ or "")
    return freeze_all(parser, FROZEN, LISTS, freeze, argv)


if __name__ == "__main__":
    sys.exit(main())
