"""Whole components with quantized attention products alone, in torch and at run time.

With float layers around them the values of an attention have a grid of their own, which is before
their projection; all that can differ is a code in the middle of two.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from qsam2_deploy.calibration.attention import observed_parts, quantize_products
from qsam2_deploy.calibration.session import TrackingSession
from qsam2_deploy.calibration.statistics import collect_statistics
from qsam2_deploy.errors import InputError
from qsam2_deploy.export import onnx_from_checkpoint
from qsam2_deploy.quant.attention import attentions, float_attention
from qsam2_deploy.quant.checkpoint import Checkpoint, load_checkpoint
from qsam2_deploy.runtime.backend import open_backend
from tests.parity.test_component_parity import Pair, random, upstream_attention
from tests.weights import small_config, write_checkpoint


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A float model whose attention products are quantized, from two random images."""
    torch.set_num_threads(1)
    path = write_checkpoint(tmp_path_factory.mktemp("attention") / "small.pt", small_config())
    checkpoint = load_checkpoint(path, config=path.with_suffix(".yaml"))
    model: Any = checkpoint.model
    images = [random(1, 3, 128, 128, seed=seed) for seed in range(2)]
    statistics = collect_statistics(
        TrackingSession(model), observed_parts(model, ()), images, count=2, grams=False
    )
    quantize_products(model, statistics, "lsc")
    entry = {"scope": "encoder", "weight_bits": 8, "activation_bits": 8}
    return dataclasses.replace(checkpoint, quantization=entry)


@pytest.fixture(scope="module")
def pair(loaded: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    path = tmp_path_factory.mktemp("exported") / "model.onnx"
    spec = onnx_from_checkpoint(loaded, path)
    assert spec.quantization is not None
    assert spec.quantization.attentions == len(attentions(loaded.model)) == 12
    with open_backend(path, "ort", threads=1) as backend, torch.inference_mode():
        yield Pair(loaded.model, backend)


def assert_close(found: np.ndarray, expected: torch.Tensor, floats: torch.Tensor) -> None:
    """Far closer to torch than that is to the model with float products.

    A code that falls to the other side in one attention moves a few of the next ones, so that the
    end of a deep model is not equal to the bit.
    """
    error = np.sqrt(np.mean((found - expected.numpy()) ** 2))
    noise = np.sqrt(np.mean((expected - floats).numpy() ** 2))
    assert noise > 1e-3 * float(expected.std())
    assert error < 0.2 * noise


def test_image_encoder(pair: Pair) -> None:
    image = random(1, 3, 128, 128, seed=7)
    found = pair.run("image_encoder", image=image)["features"]
    expected = pair.model.forward_image(image)["backbone_fpn"][2]
    with float_attention(pair.model):
        floats = pair.model.forward_image(image)["backbone_fpn"][2]
    assert_close(found, expected, floats)


@pytest.mark.parametrize(("objects", "frames", "pointers"), [(1, 1, 0), (3, 7, 16)])
def test_memory_attention(pair: Pair, objects: int, frames: int, pointers: int) -> None:
    spec, h = pair.backend.spec, pair.size
    inputs = {
        "features": random(1, spec.d_model, h, h),
        "memory": random(objects, frames, spec.memory_dim, h, h, seed=1),
        "memory_tpos": torch.arange(frames).flip(0),
        "pointers": random(objects, pointers, spec.d_model, seed=2),
        "pointer_tpos": (torch.arange(pointers).float() - 1) / 15,
    }
    found = pair.run("memory_attention", **inputs)["conditioned"]
    expected = upstream_attention(pair, *inputs.values())
    with float_attention(pair.model):
        floats = upstream_attention(pair, *inputs.values())
    assert_close(found, expected, floats)


def test_steps_can_be_left_out_of_the_file(loaded: Checkpoint, pair: Pair, tmp_path: Path) -> None:
    path = tmp_path / "float.onnx"
    spec = onnx_from_checkpoint(loaded, path, attention="float")
    assert spec.quantization is not None
    assert spec.quantization.attentions == 0
    kinds = {node.op_type for node in onnx.load(path).graph.node}
    assert "QuantizeLinear" not in kinds
    assert "Softmax" in kinds
    image = random(1, 3, 128, 128, seed=7)
    with float_attention(pair.model), open_backend(path, threads=1) as backend:
        expected = pair.model.forward_image(image)["backbone_fpn"][2].numpy()
        found = backend.run("image_encoder", {"image": image.numpy()})["features"]
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.ptp(expected))


def test_steps_that_are_not_there_are_missed(loaded: Checkpoint, tmp_path: Path) -> None:
    plain = load_checkpoint(loaded.path, config=loaded.path.with_suffix(".yaml"))
    with pytest.raises(InputError, match="no steps for int8 attention; calibrate it with: qsam2-"):
        onnx_from_checkpoint(plain, tmp_path / "model.onnx", attention="int8")
    with pytest.raises(InputError, match="must be one of float, int8, but got 'int4'"):
        onnx_from_checkpoint(plain, tmp_path / "model.onnx", attention="int4")
    assert not (tmp_path / "model.onnx").exists()
    onnx_from_checkpoint(loaded, tmp_path / "model.onnx", attention="int8")
