"""The official modules in torch, behind the runtime's backend; and their plain ONNX export."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.speed._plain_backends import SPEC_FILE
from qsam2_deploy.engines.protocol import Arrays
from qsam2_deploy.export.exporter import spec_from_checkpoint
from qsam2_deploy.quant.checkpoints.checkpoint import load_checkpoint
from qsam2_deploy.spec import COMPONENTS, ModelSpec
from tests.support.official_components import OFFICIAL_COMPONENTS, real_rotation


class TorchBackend:
    """Eager torch, in float32 or under bfloat16 autocast."""

    def __init__(self, checkpoint: Path, config: Path | None, threads: int, dtype: str) -> None:
        """Remember what to open."""
        self._checkpoint, self._config = checkpoint, config
        self._threads, self._dtype = threads, getattr(torch, dtype)
        self._modules: dict[str, Any] = {}
        self._stack = ExitStack()
        self.spec: ModelSpec

    def __enter__(self) -> TorchBackend:
        """Load the checkpoint."""
        torch.set_num_threads(self._threads)
        self._modules, self.spec = official_modules(self._checkpoint, self._config)
        self._stack.enter_context(torch.inference_mode())
        low = self._dtype is not torch.float32
        self._stack.enter_context(torch.autocast("cpu", self._dtype, enabled=low))
        return self

    def __exit__(self, *error: object) -> None:
        """Let it go."""
        self._modules.clear()
        self._stack.close()

    def run(self, component: str, inputs: Mapping[str, npt.NDArray[Any]]) -> Arrays:
        """Run one component."""
        spec = self.spec.component(component)
        given = [torch.from_numpy(np.ascontiguousarray(inputs[x.name])) for x in spec.inputs]
        outputs = self._modules[component](*given)
        arrays = (output.float().numpy() for output in outputs)
        return dict(zip((tensor.name for tensor in spec.outputs), arrays, strict=True))


def official_modules(checkpoint: Path, config: Path | None) -> tuple[dict[str, Any], ModelSpec]:
    """Return the four components of a checkpoint, and its metadata."""
    loaded = load_checkpoint(checkpoint, config=config)
    spec = spec_from_checkpoint(loaded)
    modules = {name: OFFICIAL_COMPONENTS[name](loaded.model, spec).eval() for name in COMPONENTS}
    return modules, spec


def export_plain(
    checkpoint: Path,
    config: Path | None,
    inputs: Mapping[str, Mapping[str, npt.NDArray[Any]]],
    folder: Path,
) -> None:
    """Export every official module with ``torch.onnx``, for the shapes of ``inputs``.

    Nothing is rewritten, except that keys and queries are rotated in real numbers, because ONNX
    has no complex ones.
    """
    folder.mkdir(parents=True)
    modules, spec = official_modules(checkpoint, config)
    for name, module in modules.items():
        component = spec.component(name)
        given = tuple(torch.from_numpy(inputs[name][x.name]) for x in component.inputs)
        with torch.inference_mode(), real_rotation(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the tracer, about shapes that are fixed here
            torch.onnx.export(
                module,
                given,
                str(folder / f"{name}.onnx"),
                dynamo=False,
                opset_version=17,
                input_names=[x.name for x in component.inputs],
                output_names=[x.name for x in component.outputs],
            )
    (folder / SPEC_FILE).write_text(spec.to_json())
