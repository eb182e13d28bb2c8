"""Clips, pairs of predictors and their records, made once for all parity tests."""

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
import torch

from tests.parity.clip import write_clip
from tests.parity.pair import Clips, Pair, Records
from tests.parity.scenarios import LONG, SHORT
from tests.parity.trained import trained_variant


@pytest.fixture(scope="session")
def clips(tmp_path_factory) -> Clips:
    folder = tmp_path_factory.mktemp("clips")
    return Clips(write_clip(folder / "short", SHORT), write_clip(folder / "long", LONG))


@pytest.fixture(scope="session")
def pair(clips, tmp_path_factory) -> Iterator[Callable[[str], Pair]]:
    """Give a function from the name of a variant to the trained model in both predictors."""
    from qsam2_deploy.export import onnx_from_checkpoint
    from qsam2_deploy.quant.checkpoints.checkpoint import save_checkpoint
    from qsam2_deploy.runtime import SAM2VideoPredictor

    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("models")
    with ExitStack() as stack:

        @functools.cache
        def make(name: str) -> Pair:
            config, state = trained_variant(name, clips.long)
            checkpoint = folder / f"{name}.pt"
            save_checkpoint(checkpoint, state, config=config)
            model = folder / f"{name}.onnx"
            onnx_from_checkpoint(checkpoint, model, show_progress=False)
            ours = SAM2VideoPredictor(model, backend="ort", threads=1)
            return Pair(config, state, stack.enter_context(ours))

        yield make


@pytest.fixture(scope="session")
def records(pair, clips) -> Records:
    """Scenarios that the official predictor has played."""
    return Records(pair, clips)
