"""Exported models that several tests look at."""

from pathlib import Path

import pytest

from qsam2_deploy.export import onnx_from_checkpoint
from tests.support.weights import write_checkpoint


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    """A small float checkpoint with its YAML beside it."""
    return write_checkpoint(tmp_path_factory.mktemp("float") / "small.pt")


@pytest.fixture(scope="session")
def exported(checkpoint) -> Path:
    """The small checkpoint, exported."""
    path = checkpoint.with_suffix(".onnx")
    onnx_from_checkpoint(checkpoint, path, config=checkpoint.with_suffix(".yaml"))
    return path
