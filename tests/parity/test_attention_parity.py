"""Whole components with quantized attention products alone, in torch and at run time.

With float layers around them the values of an attention have a grid of their own, which is before
their projection; all that can differ is a code in the middle of two.
"""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from qsam2_deploy.calibration.attention import observed_parts, quantize_products
from qsam2_deploy.calibration.calibrate import quantize_calibrated
from qsam2_deploy.calibration.session import TrackingSession
from qsam2_deploy.calibration.statistics import collect_statistics
from qsam2_deploy.engines.open import open_backend
from qsam2_deploy.errors import InputError
from qsam2_deploy.export import onnx_from_checkpoint
from qsam2_deploy.quant.checkpoints.checkpoint import Checkpoint, load_checkpoint
from qsam2_deploy.quant.layers.attention import attentions, float_attention, product_plan
from qsam2_deploy.quant.layers.modules import LayerPlan, layers_in_scope, quantized_layers
from tests.parity.test_component_parity import Pair, random
from tests.support.weights import load_written, small_config, write_checkpoint


@pytest.fixture(scope="module")
def loaded(tmp_path_factory) -> Checkpoint:
    """A float model whose attention products are quantized."""
    return quantized(tmp_path_factory.mktemp("attention"))


def quantized(folder: Path, layers: tuple[str, ...] = ()) -> Checkpoint:
    """Return a model with quantized attention products, from two random images.

    The layers whose names end like one of ``layers`` are quantized too, with affine inputs.
    """
    torch.set_num_threads(1)
    path = write_checkpoint(folder / "small.pt", small_config())
    checkpoint = load_written(path)
    model: Any = checkpoint.model
    images = [random(1, 3, 128, 128, seed=seed) for seed in range(2)]
    plan = {
        name: LayerPlan(8, 8, input_grid="affine")
        for name in layers_in_scope(model, "all")
        if name.endswith(layers)
    }
    observed = {name: model.get_submodule(name) for name in plan} | observed_parts(model, plan)
    statistics = collect_statistics(TrackingSession(model), observed, images, count=2, grams=False)
    quantize_calibrated(model, plan, statistics)
    quantize_products(model, statistics, product_plan("lsc"))
    entry = {"scope": "encoder", "weight_bits": 8, "activation_bits": 8}
    return dataclasses.replace(checkpoint, quantization=entry)


@pytest.fixture(scope="module")
def pair(loaded, tmp_path_factory) -> Iterator[Pair]:
    with exported(loaded, tmp_path_factory.mktemp("exported")) as both:
        yield both


@contextmanager
def exported(checkpoint: Checkpoint, folder: Path) -> Iterator[Pair]:
    """Export a checkpoint, and open both models."""
    path = folder / "model.onnx"
    spec = onnx_from_checkpoint(checkpoint, path)
    assert spec.quantization is not None
    assert spec.quantization.attentions == len(attentions(checkpoint.model)) == 12
    with open_backend(path, "ort", threads=1) as backend, torch.inference_mode():
        yield Pair(checkpoint.model, backend)


def assert_close(found: np.ndarray, expected: torch.Tensor, floats: torch.Tensor) -> None:
    """Far closer to torch than that is to the model with float products.

    A code that falls to the other side in one attention moves a few of the next ones, so that the
    end of a deep model is not equal to the bit.
    """
    error = np.sqrt(np.mean((found - expected.numpy()) ** 2))
    noise = np.sqrt(np.mean((expected - floats).numpy() ** 2))
    assert noise > 1e-3 * float(expected.std())
    assert error < 0.2 * noise


def test_image_encoder(pair):
    image = random(1, 3, 128, 128, seed=7)
    found = pair.run("image_encoder", image=image)["features"]
    expected = pair.model.forward_image(image)["backbone_fpn"][2]
    with float_attention(pair.model):
        floats = pair.model.forward_image(image)["backbone_fpn"][2]
    assert_close(found, expected, floats)


@pytest.mark.parametrize(("objects", "frames", "pointers"), [(1, 1, 0), (3, 7, 16)])
def test_memory_attention(pair, objects, frames, pointers):
    assert_same_memory_attention(pair, objects, frames, pointers)


def test_values_on_an_affine_grid(tmp_path):
    """That of the projection which follows the attention in the graph."""
    checkpoint = quantized(tmp_path, ("cross_attn_image.v_proj",))
    layers = quantized_layers(checkpoint.model)
    zero_points = {int(layer.export_form().input_zero_point) for layer in layers.values()}
    assert zero_points
    assert 0 not in zero_points
    with exported(checkpoint, tmp_path) as pair:
        assert_same_memory_attention(pair, 2, 3, 4)


def assert_same_memory_attention(pair: Pair, objects: int, frames: int, pointers: int) -> None:
    spec, h = pair.backend.spec, pair.size
    inputs = {
        "features": random(1, spec.d_model, h, h),
        "memory": random(objects, frames, spec.memory_dim, h, h, seed=1),
        "memory_tpos": torch.arange(frames).flip(0),
        "pointers": random(objects, pointers, spec.d_model, seed=2),
        "pointer_tpos": (torch.arange(pointers).float() - 1) / 15,
    }
    found = pair.run("memory_attention", **inputs)["conditioned"]
    (expected,) = pair.upstream("memory_attention", *inputs.values())
    with float_attention(pair.model):
        (floats,) = pair.upstream("memory_attention", *inputs.values())
    assert_close(found, expected, floats)


def test_steps_can_be_left_out_of_the_file(loaded, pair, tmp_path):
    path = tmp_path / "float.onnx"
    spec = onnx_from_checkpoint(loaded, path, attention="float")
    assert spec.quantization is not None
    assert spec.quantization.attentions == 0
    kinds = {node.op_type for node in onnx.load(path).graph.node}
    assert "QuantizeLinear" not in kinds
    assert "Softmax" in kinds
    image = random(1, 3, 128, 128, seed=7)
    with float_attention(pair.model), open_backend(path, "ort", threads=1) as backend:
        expected = pair.model.forward_image(image)["backbone_fpn"][2].numpy()
        found = backend.run("image_encoder", {"image": image.numpy()})["features"]
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.ptp(expected))


def test_steps_that_are_not_there_are_missed(loaded, tmp_path):
    plain = load_checkpoint(loaded.path, config=loaded.path.with_suffix(".yaml"))
    with pytest.raises(InputError, match="no steps for int8 attention; calibrate it with: qsam2-"):
        onnx_from_checkpoint(plain, tmp_path / "model.onnx", attention="int8")
    with pytest.raises(InputError, match="must be one of float, int8, but got 'int4'"):
        onnx_from_checkpoint(plain, tmp_path / "model.onnx", attention="int4")
    assert not (tmp_path / "model.onnx").exists()
    onnx_from_checkpoint(loaded, tmp_path / "model.onnx", attention="int8")
