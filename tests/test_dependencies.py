"""The runtime, the commands and the top level import without torch and without any engine.

Imports are tried in a fresh process in which the heavy packages cannot be imported, as on a device
where they are not installed.
"""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "qsam2_deploy"
HEAVY = ("av", "cuda", "fsspec", "huggingface_hub", "hydra", "omegaconf", "onnx", "onnxruntime",
         "openvino", "ray", "safetensors", "sam2", "shtab", "tensorrt", "tensorrt_rtx",
         "tensorrt_rtx_bindings", "torch", "torchvision", "yaml")  # fmt: skip
TORCH = ("calibration", "export", "quant", "report", "training")
COMMANDS = {
    "batch": "--workers --address --davis --object-masks --contact-sheet",
    "bench": "--backend --threads --objects",
    "build-engine": "--int4 --builder --timing-cache --max-objects --compute-capability",
    "build-kernels": "--force --if-possible",
    "calibrate": "--vrc-lambda",
    "deploy": "--version segment build-kernels completion",
    "eval": "--save-masks",
    "export": "--split",
    "inspect": "--layers --data",
    "pack": "--half",
    "report": "--float --data --layers --log --scores --models -o",
    "run": "--model --torch --backend --threads",
    "segment": "--contact-sheet --coco",
    "train": "--resume",
}
"""Each command, and some options that its help must show."""

_BLOCK = f"""
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in {HEAVY!r}:
            raise ModuleNotFoundError(f'{{name}} is blocked', name=name)
sys.meta_path.insert(0, Blocker())
"""


def _run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _BLOCK + code], cwd=ROOT, capture_output=True, text=True, check=False
    )


def _modules() -> list[str]:
    files = (f for f in PACKAGE.rglob("*.py") if f.relative_to(PACKAGE).parts[0] not in TORCH)
    names = (f.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".") for f in files)
    return sorted(name.removesuffix(".__init__") for name in names)


def test_light_modules_import_without_heavy_packages():
    modules = _modules()
    assert "qsam2_deploy.tracking.results" in modules
    code = "import importlib, traceback\nfailed = 0\n"
    code += f"for name in {modules!r}:\n"
    code += "    try: importlib.import_module(name)\n"
    code += "    except Exception: failed = 1; print(name); traceback.print_exc(limit=-3)\n"
    result = _run(code + "sys.exit(failed)")
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("package", ["torch", "sam2", "onnxruntime", "onnx", "av"])
def test_the_blocker_blocks(package):
    result = _run(f"import {package}")
    assert result.returncode != 0
    assert "is blocked" in result.stderr


def test_a_heavy_module_fails_under_the_blocker():
    result = _run("import qsam2_deploy.quant.checkpoints.checkpoint")
    assert result.returncode != 0
    assert "torch is blocked" in result.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_works_without_heavy_packages(command):
    """It has examples, fits 100 columns, and is there at once."""
    code = f"from qsam2_deploy.cli.{command.replace('-', '_')} import main\nstatus = main(['-h'])\n"
    code += "heavy = {'cv2', 'matplotlib', 'numpy', 'PIL'} & set(sys.modules)\n"
    result = _run(code + "sys.exit(f'loaded {heavy}' if heavy else status)")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("usage: qsam2-" + command)
    assert "examples:" in result.stdout
    for flag in COMMANDS[command].split():
        assert flag in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 100


def test_every_declared_command_is_tested():
    text = (ROOT / "pyproject.toml").read_text()
    section = text.split("[project.scripts]")[1].split("\n[")[0]
    declared = [line.split("=")[0].strip() for line in section.splitlines() if "=" in line]
    assert declared == [f"qsam2-{command}" for command in COMMANDS]
