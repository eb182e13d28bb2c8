from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.support.weights import small_config, write_checkpoint


@pytest.fixture(scope="session", autouse=True)
def _few_threads() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def float_checkpoint(tmp_path_factory) -> Path:
    """A small random checkpoint with its YAML beside it."""
    config = small_config()
    trunk = config["model"]["image_encoder"]["trunk"]
    trunk["stages"], trunk["global_att_blocks"] = [1, 1, 2, 1], [3]
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint") / "small.pt", config)


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    """Twelve images of smooth random colours in two folders, named 0.png to 11.png."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for index in range(12):
        part = folder / ("a" if index < 6 else "b")
        part.mkdir(exist_ok=True)
        coarse = rng.integers(0, 256, (8, 10, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((200, 160)).save(part / f"{index}.png")
    return folder
