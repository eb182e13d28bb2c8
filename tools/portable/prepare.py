"""What every processor gets: small layers with what torch computes of them, models, and a clip."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from qsam2_deploy.calibration import CalibrationConfig, calibrate_checkpoint
from qsam2_deploy.export import onnx_from_checkpoint
from tests.support.attention_products import Shape, feeds_of, graph_of_product, make_product
from tests.support.quantized_layers import KINDS, graph_of, make_layer

ASSETS = Path(__file__).parents[2] / "assets"
_GRIDS: dict[str, dict[str, str]] = {
    "plain": {},
    "affine": {"weight_grid": "midrise", "input_grid": "affine"},
}
_SHAPES = (Shape(64, 700), Shape(49, 64, heads=3))


def prepare(folder: Path) -> None:
    """Write ``layers/*.onnx`` and ``*.npz``, ``*.onnx`` of models, and ``clip.mp4``."""
    (folder / "layers").mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    with torch.inference_mode():
        _layers(folder / "layers")
        _products(folder / "layers")
    shutil.copyfile(ASSETS / "demo_clip.mp4", folder / "clip.mp4")
    _models(folder)


def _layers(folder: Path) -> None:
    for kind in KINDS:
        for bits in (8, 4, 2):
            for name, grids in _GRIDS.items():
                layer, x = make_layer(kind, bits, **grids)
                x = _off_the_middle(x, float(layer.input_quantizer.scale))
                expected = layer(x).numpy()
                path = folder / f"{kind}-{bits}-{name}"
                _write(path, graph_of(kind, layer), {"c/x": x.numpy()}, expected)


def _off_the_middle(x: torch.Tensor, step: float) -> torch.Tensor:
    """Move values away that lie in the middle of two steps; OpenVINO rounds these either way."""
    levels = x / step
    in_the_middle = (levels - levels.floor() - 0.5).abs() < 1e-4
    return torch.where(in_the_middle, (levels + 1e-3) * step, x)


def _products(folder: Path) -> None:
    for shape in _SHAPES:
        product, inputs = make_product(shape)
        path = folder / f"attention-{shape.queries}x{shape.keys}x{max(shape.heads, 1)}"
        _write(path, graph_of_product(product, shape), feeds_of(inputs), product(*inputs).numpy())


def _write(path: Path, model: onnx.ModelProto, feeds: dict[str, Any], expected: Any) -> None:
    onnx.save(model, path.with_suffix(".onnx"))
    named = {name.replace("/", "|"): np.asarray(value) for name, value in feeds.items()}
    np.savez(path.with_suffix(".npz"), expected=expected, **named)


def _models(folder: Path) -> None:
    onnx_from_checkpoint(ASSETS / "demo.pt", folder / "float.onnx", show_progress=False)
    onnx_from_checkpoint(ASSETS / "demo-w2a2.pt", folder / "w2a2.onnx", show_progress=False)
    config = CalibrationConfig(bits="w8a8", limit=16)
    calibrated = folder / "w8a8.pt"
    calibrate_checkpoint(ASSETS / "demo.pt", folder / "clip.mp4", calibrated, config=config)
    onnx_from_checkpoint(calibrated, folder / "w8a8.onnx", show_progress=False)
