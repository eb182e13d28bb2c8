"""What tests of the GPU backend play on it."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from qsam2_deploy.engines.tensorrt.backend import TensorRtBackend
from qsam2_deploy.predictors.segmenter import VideoSegmenter
from qsam2_deploy.tracking.results import Prompt
from tests.support.functional_gpu import FunctionalGpu


def open_engine(gpu: FunctionalGpu, engine: Path, **other: Any) -> TensorRtBackend:
    return TensorRtBackend(engine, library=gpu.library, runtime=gpu.runtime, **other)


def frame(index: int) -> npt.NDArray[np.uint8]:
    rng = np.random.default_rng(index)
    return rng.integers(0, 256, (48, 80, 3), dtype=np.uint8)


def clicks(*objects: int) -> list[Prompt]:
    return [Prompt(object_id=i, points=[(10 * i, 20)], labels=[1]) for i in objects]


def play(backend: Any, frames: int) -> list[npt.NDArray[np.float32]]:
    """Track two objects, correct one, add another, and return all logits."""
    with VideoSegmenter(backend) as segmenter:
        results = [segmenter.track(frame(0), clicks(1, 2))]
        for index in range(1, frames):
            results.append(segmenter.track(frame(index), clicks(3) if index == 3 else []))
            if index == 2:
                results.append(segmenter.refine(Prompt(1, [(40, 30)], [0])))
    return [np.stack([o.logits for o in result.objects]) for result in results]


class OnGpu:
    """An array as other libraries show it."""

    def __init__(self, gpu: FunctionalGpu, array: npt.NDArray[Any], **other: Any) -> None:
        self.block = gpu.cuda.memory.device(max(array.nbytes, 1))
        self.block.data[: array.nbytes] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        self.__cuda_array_interface__ = {
            "shape": array.shape,
            "typestr": array.dtype.str,
            "data": (self.block.address, False),
            "version": 3,
            **other,
        }

    def close(self, gpu: FunctionalGpu) -> None:
        gpu.cuda.memory.free(self.block.address, "device")
