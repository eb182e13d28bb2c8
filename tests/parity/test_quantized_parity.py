"""A calibrated model gives the same masks in torch (fake-quantized) and in integers at run time."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from qsam2_deploy.calibration import CalibrationConfig, calibrate_checkpoint
from qsam2_deploy.export import onnx_from_checkpoint
from qsam2_deploy.quant.attention import quantized_attentions
from qsam2_deploy.quant.checkpoint import Checkpoint, load_checkpoint
from qsam2_deploy.quant.modules import quantized_layers
from qsam2_deploy.runtime import SAM2VideoPredictor
from qsam2_deploy.runtime.backend import open_backend
from qsam2_deploy.runtime.bundle import read_bundle
from qsam2_deploy.runtime.lowering import lower_for_ort
from qsam2_deploy.runtime.lowering.integer_conv import CONV
from qsam2_deploy.runtime.lowering.integer_matmul import FUSED
from qsam2_deploy.runtime.ort import OrtBackend
from qsam2_deploy.spec import IMAGE_ENCODER, SPEC_KEY
from tests.parity.clip import HEIGHT, WIDTH
from tests.parity.compare import compare
from tests.parity.conftest import Clips
from tests.parity.scenarios import scenario
from tests.weights import write_checkpoint

_ENCODER = "image_encoder."
_Made = tuple[Path, Path, Checkpoint]


_KINDS = [("w8a8", "encoder", "float"), ("w4a6", "all", "float"), ("w4a6", "all", "int8")]


@pytest.fixture(scope="module", params=_KINDS, ids=str)
def quantized(
    request: pytest.FixtureRequest, clips: Clips, tmp_path_factory: pytest.TempPathFactory
) -> _Made:
    """Calibrate a small model on the frames of a clip and export it, quantized and float."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("quantized")
    source = write_checkpoint(folder / "float.pt")
    config = source.with_suffix(".yaml")
    target = folder / "quantized.pt"
    bits, scope, attention = request.param
    calibrate_checkpoint(
        source,
        clips.short,
        target,
        config=CalibrationConfig(bits=bits, scope=scope, attention=attention),
        model_config=config,
    )
    onnx_from_checkpoint(source, folder / "float.onnx", config=config)
    loaded = load_checkpoint(target)
    onnx_from_checkpoint(loaded, folder / "quantized.onnx")
    return folder / "quantized.onnx", folder / "float.onnx", loaded


def test_every_quantized_layer_runs_in_integers(quantized: _Made) -> None:
    """Count in the graphs that the engine gets: a qkv layer is three products."""
    path, _, checkpoint = quantized
    layers = quantized_layers(checkpoint.model)
    encoder = [n for n in layers if n.startswith(_ENCODER) or "decoder.conv_s" in n]
    expected = sum(3 if name.endswith("qkv") else 1 for name in encoder)
    # Both products of an attention; its feature maps are too small here to be cut in blocks.
    products = [2 * n.startswith(_ENCODER) for n in quantized_attentions(checkpoint.model)]
    expected += sum(products)
    kinds: Counter[str] = Counter()
    components = read_bundle(path).components
    for name, component in components.items():
        lower_for_ort(component)
        found = Counter(node.op_type for node in component.graph.node)
        if name == IMAGE_ENCODER:
            assert found[FUSED] + found[CONV] == expected
            assert found["DequantizeLinear"] == 0
        kinds += found
    if "memory_encoder.out_proj" not in layers:
        assert kinds[FUSED] + kinds[CONV] == expected
        return
    # In floats are depthwise convolutions, transposed ones, and values after the attention. Of the
    # keys of the memory attention, frames and pointers are products of their own.
    floats = sum(n.endswith(("dwconv", "cross_attn_image.v_proj")) for n in layers)
    floats += sum(isinstance(layer, nn.ConvTranspose2d) for layer in layers.values())
    twice = sum(n.endswith("cross_attn_image.k_proj") for n in layers)
    twice += 2 * sum(n.endswith("qkv") for n in layers)
    twice += 2 * len(products)
    assert kinds[FUSED] + kinds[CONV] == len(layers) - floats + twice


@pytest.fixture(params=[False, True], ids=["without kernels", "with kernels"])
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Have ONNX Runtime use its own operators, or ours."""
    if request.param:
        request.getfixturevalue("library")
    else:
        monkeypatch.setenv("QSAM2_KERNELS", "0")
    return bool(request.param)


def test_features_follow_the_fake_quantized_model(quantized: _Made, kernels: bool) -> None:
    """Far closer to the fake-quantized torch model than that is to the float model."""
    path, float_path, checkpoint = quantized
    model: Any = checkpoint.model
    size = model.image_size
    image = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        expected = model.forward_image(image)["backbone_fpn"][2].numpy()
    found = []
    for name in (path, float_path):
        with open_backend(name, "ort", threads=1) as backend:
            assert isinstance(backend, OrtBackend)
            assert (backend.kernels is not None) == kernels
            found.append(backend.run(IMAGE_ENCODER, {"image": image.numpy()})["features"])
    error, noise = (np.sqrt(np.mean((a - expected) ** 2)) for a in found)
    assert noise > 0
    assert error < 0.35 * noise


@pytest.mark.usefixtures("kernels")
def test_masks_follow_the_fake_quantized_model(quantized: _Made, clips: Clips) -> None:
    path, _, checkpoint = quantized
    click = scenario("click")
    expected = click.run(checkpoint.model, clips.short, WIDTH, HEIGHT)
    with SAM2VideoPredictor(path, "ort", threads=1) as ours:
        difference = compare(expected, click.run(ours, clips.short, WIDTH, HEIGHT))
    assert difference.iou > 0.9


def test_file_says_what_is_quantized(quantized: _Made) -> None:
    path, float_path, checkpoint = quantized
    assert checkpoint.quantization is not None
    spec = read_bundle(path).spec
    assert spec.quantization is not None
    assert spec.quantization.scope == checkpoint.quantization["scope"]
    assert spec.quantization.layers == len(quantized_layers(checkpoint.model))
    assert spec.quantization.weights >= spec.quantization.layers
    assert set(spec.quantization.widths.values()) <= {"w8a8"}  # the first and last layers
    assert spec.quantization.attentions == len(quantized_attentions(checkpoint.model))
    assert spec.quantization.method == "lsc"
    assert read_bundle(float_path).spec.quantization is None
    assert path.stat().st_size < float_path.stat().st_size
    assert SPEC_KEY in {e.key for e in onnx.load(path).metadata_props}
