"""Pooled memory in the graph is the formula of ``export/pooled_memory.py``, written in torch."""

import dataclasses
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from sam2.modeling.sam2_utils import get_1d_sine_pe

from qsam2_deploy.engines.open import open_backend
from qsam2_deploy.errors import InputError
from qsam2_deploy.export import onnx_from_checkpoint
from qsam2_deploy.export.pooled_memory import score_shift
from qsam2_deploy.model_file.bundle import read_bundle
from qsam2_deploy.onnx_graph.attention_pattern import find_quantized_attentions
from qsam2_deploy.onnx_graph.index import GraphIndex
from qsam2_deploy.quant.checkpoints.checkpoint import Checkpoint
from qsam2_deploy.quant.layers.attention_layer import AttentionSteps, QuantAttention
from tests.parity.test_attention_parity import quantized
from tests.parity.test_component_parity import Pair, assert_close, random
from tests.support.weights import load_written, small_config, write_checkpoint

POOLING = 2


@contextmanager
def exported(checkpoint: Checkpoint, folder: Path, engine: str = "ort") -> Iterator[Pair]:
    path = folder / "model.onnx"
    spec = onnx_from_checkpoint(checkpoint, path, pool_memory=POOLING)
    assert spec.memory_pooling == POOLING
    with open_backend(path, engine, threads=1) as backend, torch.inference_mode():
        assert backend.spec.memory_pooling == POOLING
        yield Pair(checkpoint.model, backend)


@pytest.fixture(scope="module")
def float_checkpoint(tmp_path_factory) -> Checkpoint:
    torch.set_num_threads(1)
    path = write_checkpoint(tmp_path_factory.mktemp("float") / "model.pt", small_config())
    return load_written(path)


@pytest.fixture(scope="module")
def integer_checkpoint(tmp_path_factory) -> Checkpoint:
    torch.set_num_threads(1)
    return quantized(tmp_path_factory.mktemp("integers"))


def _inputs(pair: Pair, objects: int, frames: int, pointers: int) -> dict[str, torch.Tensor]:
    spec, h = pair.backend.spec, pair.size
    return {
        "features": random(1, spec.d_model, h, h),
        "memory": random(objects, frames, spec.memory_dim, h, h, seed=1),
        "memory_tpos": torch.arange(frames).flip(0),
        "pointers": random(objects, pointers, spec.d_model, seed=2),
        "pointer_tpos": (torch.arange(pointers).float() - 1) / 15,
    }


# ---------------------------------------------------------------- the formula
def _windows(x: torch.Tensor) -> torch.Tensor:
    """Average 2x2 windows of ``[..., h, w, c]``."""
    return (
        x[..., ::2, ::2, :] + x[..., 1::2, ::2, :] + x[..., ::2, 1::2, :] + x[..., 1::2, 1::2, :]
    ) / 4


def _rotated(x: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Turn neighbouring pairs of ``[..., n, d]``; the first half goes by column, as upstream."""
    d = x.shape[-1]
    frequency = 1 / 10000 ** (torch.arange(0, d, 4).float() / d)
    angle = torch.cat([columns[:, None] * frequency, rows[:, None] * frequency], dim=-1)
    even, odd = x[..., ::2], x[..., 1::2]
    turned = (even * angle.cos() - odd * angle.sin(), even * angle.sin() + odd * angle.cos())
    return torch.stack(turned, dim=-1).flatten(-2)


def _places(size: int, step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows and columns of the centres of windows in a square."""
    line = torch.arange(size // step).float() * step + (step - 1) / 2
    rows, columns = torch.meshgrid(line, line, indexing="ij")
    return rows.flatten(), columns.flatten()


def _product(
    attn: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, factor: torch.Tensor
) -> torch.Tensor:
    """``softmax`` with each key counted ``factor`` times, by integers where they are trained."""
    integers = isinstance(attn, QuantAttention) and attn.steps() is not None
    if integers:
        q, k, v = attn.product.q(q), attn.product.k(k), attn.product.v(v)
    scores = q @ k.mT / math.sqrt(q.shape[-1]) + factor.log()
    weights = (scores - scores.amax(-1, keepdim=True)).exp()
    if integers:
        weights = torch.round(weights * 255) / 255
    return weights @ v / weights.sum(-1, keepdim=True)


def _reference(
    pair: Pair,
    features: torch.Tensor,
    memory: torch.Tensor,
    memory_tpos: torch.Tensor,
    pointers: torch.Tensor,
    pointer_tpos: torch.Tensor,
    pooled_mass: float = POOLING**2,
) -> torch.Tensor:
    model, spec, h = pair.model, pair.backend.spec, pair.size
    batch, c, m = len(memory), spec.d_model, spec.memory_dim

    def sine(encoder: Any) -> torch.Tensor:
        return encoder(torch.zeros(1, 1, h, h))[0].permute(1, 2, 0)

    frames = memory.permute(0, 1, 3, 4, 2)
    codes = model.maskmem_tpos_enc[memory_tpos].reshape(-1, 1, 1, m)
    position = sine(model.memory_encoder.position_encoding) + codes
    frame_keys = _windows(frames + position).flatten(2, 3)
    tokens = pointers.reshape(batch, -1, m)
    times = model.obj_ptr_tpos_proj(get_1d_sine_pe(pointer_tpos, dim=c))
    pointer_keys = tokens + times.repeat_interleave(c // m, dim=0)
    values = torch.cat([_windows(frames).flatten(1, 3), tokens], dim=1)
    factor = torch.ones(values.shape[1])
    factor[: -tokens.shape[1] or None] = pooled_mass

    attention = model.memory_attention
    x = features.flatten(2).mT.expand(batch, -1, -1)
    x = x + 0.1 * sine(model.image_encoder.neck.position_encoding).flatten(0, 1)
    for layer in attention.layers:
        x = layer._forward_sa(x, None)
        attn = layer.cross_attn_image
        q = _rotated(attn.q_proj(layer.norm2(x)), *_places(h, 1))
        k = _rotated(attn.k_proj(frame_keys), *_places(h, POOLING)).flatten(1, 2)
        k = torch.cat([k, attn.k_proj(pointer_keys)], dim=1)
        if isinstance(attn, QuantAttention):
            # Its values are quantized before their projection.
            y = attn.v_proj(_product(attn, q, k, values, factor))
        else:
            y = _product(attn, q, k, attn.v_proj(values), factor)
        x = x + attn.out_proj(y)
        x = x + layer.linear2(layer.linear1(layer.norm3(x)).relu())
    return attention.norm(x).mT.reshape(batch, c, h, h)


# ---------------------------------------------------------------- comparison
@pytest.mark.parametrize("engine", ["ort", "openvino"])
def test_float(float_checkpoint, tmp_path, engine):
    if engine == "openvino":
        pytest.importorskip("openvino")
    with exported(float_checkpoint, tmp_path, engine) as pair:
        for sizes in ((1, 1, 0), (3, 7, 16)):
            inputs = _inputs(pair, *sizes)
            found = pair.run("memory_attention", **inputs)["conditioned"]
            assert_close(found, _reference(pair, **inputs))
        # The share of the frames matters, or the constant would not have been tested.
        other = _reference(pair, **inputs, pooled_mass=1.0).numpy()
        assert np.abs(found - other).max() > 1e-3 * np.ptp(found)


@pytest.mark.parametrize("engine", ["ort", "openvino"])
def test_integer_attention(integer_checkpoint, tmp_path, engine):
    if engine == "openvino":
        pytest.importorskip("openvino")
    with exported(integer_checkpoint, tmp_path, engine) as pair:
        inputs = _inputs(pair, 3, 7, 16)
        found = pair.run("memory_attention", **inputs)["conditioned"]
        expected = _reference(pair, **inputs).numpy()
        without = _reference(pair, **inputs, pooled_mass=1.0).numpy()
    error = np.sqrt(np.mean((found - expected) ** 2))
    # OpenVINO is that far from ONNX Runtime without pooling, too.
    near, share = {"ort": (2e-3, 0.02), "openvino": (2e-2, 0.5)}[engine]
    assert error < near * expected.std()
    assert error < share * np.sqrt(np.mean((found - without) ** 2))


def test_the_product_keeps_its_form(integer_checkpoint, tmp_path):
    """So every lowering finds it."""
    onnx_from_checkpoint(integer_checkpoint, tmp_path / "model.onnx", pool_memory=POOLING)
    component = read_bundle(tmp_path / "model.onnx").components["memory_attention"]
    found = find_quantized_attentions(component, GraphIndex(component))
    assert len(found) == 4, "two in each of two layers"
    onnx.checker.check_model(component, full_check=True)


@pytest.mark.parametrize("step", [1e-2, 1e-3, 1e-4, 1e-5, 1e-6])
def test_the_shift_is_whole_steps_of_both_grids(step):
    steps = AttentionSteps(np.float32(step**0.3), np.float32(step**0.7), None)
    shift = score_shift(POOLING, steps)
    codes = shift.query / steps.q, shift.key / steps.k
    for code in codes:
        assert 1 <= round(float(code)) <= 127
        assert abs(code - round(float(code))) < 1e-4
    total = shift.dimensions * float(shift.query) * float(shift.key)
    assert abs(total - math.log(4)) < max(1e-2, 2 * step)
    assert shift.dimensions % 4 == 0


def test_windows_must_fill_the_map(float_checkpoint, tmp_path):
    for wrong in (0, 3, 16):
        with pytest.raises(InputError, match=r"whose side divides 8, such as 2, but got"):
            onnx_from_checkpoint(float_checkpoint, tmp_path / "model.onnx", pool_memory=wrong)
    assert not (tmp_path / "model.onnx").exists()


def test_the_usual_export_is_as_before(float_checkpoint, tmp_path):
    path = tmp_path / "model.onnx"
    spec = onnx_from_checkpoint(float_checkpoint, path)
    assert spec.memory_pooling == 1
    kinds = {node.op_type for node in onnx.load(path).graph.node if "memory_attention" in node.name}
    assert kinds
    assert not kinds & {"AveragePool", "Pad"}
    assert dataclasses.replace(spec, memory_pooling=2) != spec
