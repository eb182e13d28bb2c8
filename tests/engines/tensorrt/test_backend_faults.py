"""What goes wrong on a GPU is one sentence, and leaves nothing behind."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from qsam2_deploy.engines.tensorrt.backend import TensorRtBackend
from qsam2_deploy.errors import EngineError, ModelFileError, VideoError
from qsam2_deploy.predictors.segmenter import VideoSegmenter
from qsam2_deploy.spec import MASK_DECODER, MEMORY_ATTENTION
from tests.engines.tensorrt.sessions import clicks, frame, open_engine, play
from tests.engines.tensorrt.test_execution import random_inputs
from tests.support.functional_gpu import FunctionalGpu


def _context_is_none(gpu: FunctionalGpu) -> None:
    gpu.trt.script.returns["ICudaEngine.create_execution_context"] = None


def _load_fails(gpu: FunctionalGpu) -> None:
    gpu.trt.script.load_fails = True


def _execution_fails(gpu: FunctionalGpu, text: str = "the kernel\nis not there") -> None:
    def fail(context: Any, stream_handle: int) -> bool:
        gpu.trt.log(_logger(gpu), "ERROR", text)
        return False

    gpu.trt.script.returns["IExecutionContext.execute_async_v3"] = fail


def _logger(gpu: FunctionalGpu) -> Any:
    from qsam2_deploy.engines.tensorrt.adapter import library_logger

    return library_logger(gpu.library.module)


def _profile_is_refused(gpu: FunctionalGpu) -> None:
    gpu.trt.script.returns["IExecutionContext.set_optimization_profile_async"] = False


def _no_gpu(gpu: FunctionalGpu) -> None:
    gpu.cuda.faults["cudaGetDevice"] = "cudaErrorNoDevice"


def _another_gpu(gpu: FunctionalGpu) -> None:
    gpu.cuda.name, gpu.cuda.capability = "Other", (9, 0)


def _broken_gpu(gpu: FunctionalGpu) -> None:
    gpu.cuda.faults["cudaStreamSynchronize"] = "cudaErrorIllegalAddress"


FAULTS: dict[str, Callable[[FunctionalGpu], None]] = {
    r"cannot be loaded \(TensorRT.*magic tag": _load_fails,
    "gives no execution context": _context_is_none,
    "refuses its profile 0": _profile_is_refused,
    r"failed while it ran \(TensorRT.*the kernel is not there\)": _execution_fails,
    "the GPU is out of memory: image_encoder does not fit": partial(
        _execution_fails, text="Cuda failure: 2 (out of memory)"
    ),
    "needs an NVIDIA GPU and its driver": _no_gpu,
    r"was built for Double of compute capability 8\.7, but this is Other of 9\.0": _another_gpu,
    "the GPU failed in cudaStreamSynchronize: cudaErrorIllegalAddress": _broken_gpu,
}


@pytest.mark.parametrize("message", FAULTS)
def test_a_fault_is_one_sentence_and_all_is_given_back(message, gpu, engine):
    FAULTS[message](gpu)
    backend = open_engine(gpu, engine)
    with pytest.raises(EngineError, match=message) as raised, VideoSegmenter(backend) as segmenter:
        segmenter.track(frame(0), clicks(1))
    assert "\n" not in str(raised.value)
    gpu.trt.check()
    if message.startswith("the GPU failed"):
        gpu.cuda.misuses.clear()  # nothing could be waited for
    else:
        gpu.check()


def test_too_little_memory_at_any_moment(gpu, engine):
    play(open_engine(gpu, engine), 3)
    total = sum(b.data.size for b in gpu.cuda.memory.blocks if b.kind == "device")
    messages = []
    for limit in np.linspace(0, total, 12, dtype=int):
        gpu.cuda.limit = int(limit)
        try:
            play(open_engine(gpu, engine), 3)
        except EngineError as error:
            messages.append(str(error))
        gpu.check()
    assert 3 <= len(messages) < 12
    assert all("the GPU is out of memory" in text and "\n" not in text for text in messages)


def test_a_frame_that_failed_is_not_taken(gpu, engine):
    with VideoSegmenter(open_engine(gpu, engine)) as segmenter:
        segmenter.track(frame(0), clicks(1))
        _execution_fails(gpu)
        with pytest.raises(EngineError, match="failed while it ran"):
            segmenter.track(frame(1))
        gpu.trt.script.returns.pop("IExecutionContext.execute_async_v3")
        assert segmenter.track(frame(1)).frame_index == 1
    gpu.check()


@pytest.mark.parametrize(
    ("component", "sizes", "message"),
    [
        (MASK_DECODER, {"P": 17}, "takes 1 to 16 points of a prompt, but got 17.*--max-points"),
        (MEMORY_ATTENTION, {"F": 11}, "takes 1 to 10 memory frames, but got 11"),
        (MEMORY_ATTENTION, {"N": 20}, "takes 0 to 19 object pointers.*--max-conditioning"),
    ],
)
def test_sizes_that_the_engine_was_not_built_for(opened, component, sizes, message):
    with pytest.raises(EngineError, match=message):
        opened.run(component, random_inputs(opened.spec, component, **sizes))
    assert opened.run(component, random_inputs(opened.spec, component))


def test_inputs_that_do_not_fit(opened):
    inputs = random_inputs(opened.spec, MASK_DECODER)
    small = inputs | {"mask_input": inputs["mask_input"][..., :-1]}
    with pytest.raises(EngineError, match=r"takes mask_input of \[B, 1, 16, 16\], but got"):
        opened.run(MASK_DECODER, small)
    inputs.pop("has_mask")
    with pytest.raises(EngineError, match=r"takes conditioned, .*has_mask, but got"):
        opened.run(MASK_DECODER, inputs)


def test_a_frame_of_another_size(gpu, engine):
    with VideoSegmenter(open_engine(gpu, engine)) as segmenter:
        segmenter.track(frame(0))
        with pytest.raises(VideoError, match="every frame must be of shape"):
            segmenter.track(frame(1)[:-1])
    gpu.check()


def test_a_damaged_file_does_not_reach_the_gpu(gpu, engine):
    data = bytearray(engine.read_bytes())
    data[-1] ^= 1
    engine.write_bytes(data)
    with pytest.raises(ModelFileError, match="does not match its SHA-256 digest"):
        open_engine(gpu, engine)
    assert not gpu.cuda.calls


def test_another_version_of_the_library(gpu, engine):
    other = FunctionalGpu("tensorrt-11.4")
    with pytest.raises(EngineError, match=r"was built by tensorrt 10\.3\.0, but this is tensorrt"):
        TensorRtBackend(engine, library=other.library, runtime=other.runtime)
