"""The backend on the GPU gives the masks of the one on the CPU, whatever the user does.

That one gives the masks of the official predictor, which other tests show. On the doubles the
arithmetic is that of ONNX Runtime too, so that every bit has to be the same; on a GPU it is not.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from qsam2_deploy.engines.tensorrt.backend import TensorRtBackend
from qsam2_deploy.engines.tensorrt.options import Limits
from qsam2_deploy.runtime import SAM2VideoPredictor
from tests.parity.clip import HEIGHT, WIDTH
from tests.parity.compare import MAX_DIFFERENCE, compare, relative_difference
from tests.parity.pair import Pair
from tests.parity.scenarios import SCENARIOS
from tests.parity.session import Predictor
from tests.parity.test_segmenter_parity import STORIES, play_stream
from tests.support.functional_gpu import FunctionalGpu
from tests.support.gpu_machine import RealGpu

Make = Callable[[str], Pair]
LIMITS = Limits(objects=2, conditioning=6)
"""Some scenarios have three objects, which then run in two batches."""


QUICK = {
    "clicks in turn", "mask correction", "both ways", "remove object", "all of it", "two objects",
    "two nearest prompts",
}  # fmt: skip
"""Scenarios and stories of the usual run, which are those with the most in them.

What else there is, such as objects that are away, is the tracker's, whatever the backend.
"""


def _cases(found: Sequence[Any]) -> list[Any]:
    return [
        pytest.param(case, id=case.name, marks=() if case.name in QUICK else pytest.mark.slow)
        for case in found
    ]


@pytest.fixture(scope="module", params=["doubles", pytest.param("gpu", marks=pytest.mark.gpu)])
def kind(request) -> str:
    name: str = request.param
    if name == "gpu":
        RealGpu()  # skips where there is none
    return name


@pytest.fixture(scope="module")
def pairs(kind, pair, tmp_path_factory) -> Iterator[Callable[[str], tuple[Predictor, Predictor]]]:
    """Give a function from a variant to predictors on the CPU and on the GPU."""
    folder = tmp_path_factory.mktemp("engines")
    machines: list[Any] = []
    with ExitStack() as stack:

        @functools.cache
        def make(name: str) -> tuple[Predictor, Predictor]:
            machine: Any = FunctionalGpu() if kind == "doubles" else RealGpu()
            machines.append(machine)
            on_cpu: Any = pair(name).ours
            engine = machine.build(on_cpu._backend._path, folder / f"{name}.engine", limits=LIMITS)
            backend = TensorRtBackend(engine, library=machine.library, runtime=machine.runtime)
            return on_cpu, stack.enter_context(SAM2VideoPredictor(backend))

        yield make
    assert machines
    for machine in machines:
        machine.check()


@pytest.mark.parametrize("scenario", _cases(SCENARIOS))
def test_same_masks_in_a_video(scenario, kind, pairs, clips):
    video = clips.of(scenario)
    expected, got = (
        scenario.run(predictor, video, WIDTH, HEIGHT) for predictor in pairs(scenario.variant)
    )
    if kind == "gpu":
        assert compare(expected, got).equal, f"{scenario.name}: {compare(expected, got)}"
        return
    assert len(got) == len(expected)
    for a, b in zip(expected, got, strict=True):
        assert (a.label, a.frame, a.object_ids) == (b.label, b.frame, b.object_ids)
        np.testing.assert_array_equal(a.logits, b.logits)


@pytest.fixture(scope="module")
def frames(clips) -> list[npt.NDArray[np.uint8]]:
    return [np.asarray(Image.open(path)) for path in sorted(clips.long.iterdir())]


@pytest.mark.parametrize("story", _cases(STORIES))
def test_same_masks_in_a_stream(story, kind, pairs, frames):
    expected, got = (play_stream(story, ours, frames) for ours in pairs(story.variant))
    assert got.keys() == expected.keys()
    for key, logits in expected.items():
        if kind == "gpu":
            assert relative_difference(logits, got[key]) <= MAX_DIFFERENCE
        else:
            np.testing.assert_array_equal(logits, got[key])
