from pathlib import Path

import pytest
import torch

from tests.support.weights import write_checkpoint


@pytest.fixture(scope="session", autouse=True)
def _few_threads() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def float_checkpoint(tmp_path_factory) -> Path:
    """A small random checkpoint with its YAML beside it."""
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint") / "small.pt")
