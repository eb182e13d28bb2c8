"""A fake backend, a segmenter that runs on it, and a small real model that is exported once."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qsam2_deploy.predictors.segmenter import VideoSegmenter
from tests.predictors.fake_backend import FakeBackend


@pytest.fixture
def backend() -> FakeBackend:
    return FakeBackend()


@pytest.fixture
def segmenter(backend) -> Iterator[VideoSegmenter]:
    with VideoSegmenter(backend) as entered:
        yield entered


@pytest.fixture(scope="session")
def model_path(tmp_path_factory) -> Path:
    """Export a random model of 64x64 pixels; only this fixture needs the export half."""
    torch = pytest.importorskip("torch", reason="torch is needed to export the test model")
    pytest.importorskip("onnxruntime", reason="ONNX Runtime is needed to run the test model")
    from qsam2_deploy.export import onnx_from_checkpoint
    from tests.support.weights import small_config, write_checkpoint

    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("model")
    config = small_config(64, d_model=32, memory_dim=8, embed_dim=8)
    checkpoint = write_checkpoint(folder / "small.pt", config)
    model = folder / "small.onnx"
    onnx_from_checkpoint(
        checkpoint, model, config=checkpoint.with_suffix(".yaml"), show_progress=False
    )
    return model


@pytest.fixture(scope="session")
def quantized_path(tmp_path_factory) -> Path:
    """Export a random model of 128x128 pixels whose every layer has 4 bits."""
    return _export_quantized(tmp_path_factory.mktemp("quantized"), 4)


@pytest.fixture(scope="session")
def integer_attention_path(tmp_path_factory) -> Path:
    """Export a random model of 128x128 pixels with 8 bits, in its attention products too."""
    return _export_quantized(tmp_path_factory.mktemp("attention"), 8, attention=True)


@pytest.fixture(scope="session")
def tiny_path(tmp_path_factory) -> Path:
    """Export SAM 2.1 tiny at 1024 pixels with 4 bits, its attention products with 8."""
    pytest.importorskip("torch", reason="torch is needed to export the test model")
    from qsam2_deploy.quant.checkpoints.architecture import official_config

    config = official_config("sam2.1_hiera_tiny")
    return _export_quantized(tmp_path_factory.mktemp("tiny"), 4, attention=True, config=config)


@pytest.fixture(scope="session")
def base_plus_path(tmp_path_factory) -> Path:
    """Export SAM 2.1 base+ at 1024 pixels with 8 bits."""
    pytest.importorskip("torch", reason="torch is needed to export the test model")
    from qsam2_deploy.quant.checkpoints.architecture import official_config

    config = official_config("sam2.1_hiera_base_plus")
    return _export_quantized(tmp_path_factory.mktemp("base_plus"), 8, config=config)


def _export_quantized(
    folder: Path, bits: int, *, attention: bool = False, config: dict[str, Any] | None = None
) -> Path:
    torch = pytest.importorskip("torch", reason="torch is needed to export the test model")
    from qsam2_deploy.export import onnx_from_checkpoint
    from tests.support.quantized_model import quantize_model
    from tests.support.weights import load_written, write_checkpoint

    torch.set_num_threads(1)
    path = write_checkpoint(folder / "model.pt", config)
    loaded = load_written(path)
    quantized = quantize_model(loaded, bits, attention=attention)
    onnx_from_checkpoint(quantized, path.with_suffix(".onnx"), show_progress=False)
    return path.with_suffix(".onnx")
