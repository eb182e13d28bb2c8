"""A calibrated model gives the same masks in torch (fake-quantized) and in integers at run time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from qsam2_deploy.calibration import CalibrationConfig, calibrate_checkpoint
from qsam2_deploy.export import onnx_from_checkpoint
from qsam2_deploy.quant.checkpoint import Checkpoint, load_checkpoint
from qsam2_deploy.quant.modules import QuantLinear
from qsam2_deploy.runtime import SAM2VideoPredictor
from qsam2_deploy.runtime.backend import open_backend
from qsam2_deploy.runtime.bundle import read_bundle
from qsam2_deploy.runtime.lowering import lower_for_ort
from qsam2_deploy.runtime.lowering.integer_matmul import FUSED
from qsam2_deploy.spec import IMAGE_ENCODER, SPEC_KEY
from tests.parity.clip import HEIGHT, WIDTH
from tests.parity.compare import compare
from tests.parity.conftest import Clips
from tests.parity.scenarios import scenario
from tests.weights import write_checkpoint

_Made = tuple[Path, Path, Checkpoint]


@pytest.fixture(scope="module", params=["w8a8", "w4a4"])
def quantized(
    request: pytest.FixtureRequest, clips: Clips, tmp_path_factory: pytest.TempPathFactory
) -> _Made:
    """Calibrate a small model on the frames of a clip and export it, quantized and float."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("quantized")
    source = write_checkpoint(folder / "float.pt")
    config = source.with_suffix(".yaml")
    target = folder / "quantized.pt"
    calibrate_checkpoint(
        source,
        clips.short,
        target,
        config=CalibrationConfig(bits=request.param),
        model_config=config,
    )
    onnx_from_checkpoint(source, folder / "float.onnx", config=config)
    loaded = load_checkpoint(target)
    onnx_from_checkpoint(loaded, folder / "quantized.onnx")
    return folder / "quantized.onnx", folder / "float.onnx", loaded


def test_every_quantized_layer_runs_in_integers(quantized: _Made) -> None:
    """Count in the graph that the engine gets: a qkv layer is three products."""
    path, _, checkpoint = quantized
    layers = [n for n, m in checkpoint.model.named_modules() if isinstance(m, QuantLinear)]
    expected = sum(3 if name.endswith("qkv") else 1 for name in layers)
    component = read_bundle(path).components[IMAGE_ENCODER]
    lower_for_ort(component)
    kinds = [node.op_type for node in component.graph.node]
    assert layers
    assert kinds.count(FUSED) == expected
    assert "DequantizeLinear" not in kinds


def test_features_follow_the_fake_quantized_model(quantized: _Made) -> None:
    """Far closer to the fake-quantized torch model than that is to the float model."""
    path, float_path, checkpoint = quantized
    model: Any = checkpoint.model
    size = model.image_size
    image = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        expected = model.forward_image(image)["backbone_fpn"][2].numpy()
    found = []
    for name in (path, float_path):
        with open_backend(name, threads=1) as backend:
            found.append(backend.run(IMAGE_ENCODER, {"image": image.numpy()})["features"])
    error, noise = (np.sqrt(np.mean((a - expected) ** 2)) for a in found)
    assert noise > 0
    assert error < 0.35 * noise


def test_masks_follow_the_fake_quantized_model(quantized: _Made, clips: Clips) -> None:
    path, _, checkpoint = quantized
    click = scenario("click")
    expected = click.run(checkpoint.model, clips.short, WIDTH, HEIGHT)
    with SAM2VideoPredictor(path, threads=1) as ours:
        difference = compare(expected, click.run(ours, clips.short, WIDTH, HEIGHT))
    assert difference.iou > 0.9


def test_file_says_what_is_quantized(quantized: _Made) -> None:
    path, float_path, _ = quantized
    spec = read_bundle(path).spec
    assert spec.quantization is not None
    assert spec.quantization.scope == "encoder"
    assert spec.quantization.layers > 0
    assert read_bundle(float_path).spec.quantization is None
    assert path.stat().st_size < float_path.stat().st_size
    assert SPEC_KEY in {e.key for e in onnx.load(path).metadata_props}
