"""Clips and pairs of predictors, made once for all parity tests."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.parity.clip import write_clip
from tests.parity.scenarios import LONG, SHORT
from tests.parity.session import Predictor
from tests.parity.variants import official_predictor, small_variant

IMAGE_SIZE = 128
"""Model input: feature maps of 8x8, so that windows of 6 and 3 are padded."""


@dataclass(frozen=True)
class Clips:
    """Folders of numbered JPEG files."""

    short: Path
    long: Path


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Clips:
    folder = tmp_path_factory.mktemp("clips")
    return Clips(write_clip(folder / "short", SHORT), write_clip(folder / "long", LONG))


@pytest.fixture(scope="session")
def pair(
    clips: Clips, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], tuple[Any, Predictor]]]:
    """Give a function from the name of a variant to the official predictor and ours."""
    from qsam2_deploy.export import onnx_from_checkpoint
    from qsam2_deploy.quant.checkpoint import save_checkpoint
    from qsam2_deploy.runtime import SAM2VideoPredictor

    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("models")
    with ExitStack() as stack:

        @functools.cache
        def make(name: str) -> tuple[Any, Predictor]:
            config, state = small_variant(name, IMAGE_SIZE, clips.long)
            checkpoint = folder / f"{name}.pt"
            save_checkpoint(checkpoint, state, config=config)
            model = folder / f"{name}.onnx"
            onnx_from_checkpoint(checkpoint, model)
            ours = SAM2VideoPredictor(model, backend="ort", threads=1)
            return official_predictor(config, state), stack.enter_context(ours)

        yield make
