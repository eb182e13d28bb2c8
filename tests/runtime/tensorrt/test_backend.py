"""The backend on the GPU: where its tensors are, what it asks of CUDA, and that all is given back.

The masks of long sessions are compared in ``tests/parity/test_gpu_parity.py``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from qsam2_deploy.errors import EngineError, ModelFileError, VideoError
from qsam2_deploy.runtime.ort import OrtBackend
from qsam2_deploy.runtime.results import Prompt
from qsam2_deploy.runtime.segmenter import VideoSegmenter
from qsam2_deploy.runtime.tensorrt.backend import DEVICE_OUTPUTS, TensorRtBackend
from qsam2_deploy.runtime.tensorrt.cuda import DeviceArray
from qsam2_deploy.runtime.tensorrt.device_memory import DeviceTensor
from qsam2_deploy.runtime.tensorrt.options import Limits
from qsam2_deploy.spec import (
    COMPONENTS,
    IMAGE_ENCODER,
    MASK_DECODER,
    MEMORY_ATTENTION,
    MEMORY_ENCODER,
)
from tests import cuda_double
from tests import tensorrt_double as doubles
from tests.functional_gpu import FunctionalGpu
from tests.runtime.tensorrt.test_execution import random_inputs

STEADY = 17
"""First frame at which 7 memories and 16 pointers are there."""


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


@pytest.fixture(scope="module")
def expected(model_path: Path) -> list[npt.NDArray[np.float32]]:
    return play(OrtBackend(model_path, threads=1), 6)


MACHINES = [
    *({"version": version} for version in doubles.VERSIONS),
    *({"cuda": version} for version in cuda_double.VERSIONS),
    {"integrated": True},
]


@pytest.mark.parametrize("machine", MACHINES, ids=str)
@pytest.mark.parametrize("limits", [Limits(), Limits(objects=1)], ids=["batch", "one by one"])
def test_the_masks_are_those_of_the_cpu(
    machine: dict[str, Any], limits: Limits, model_path: Path, tmp_path: Path, expected: Any
) -> None:
    gpu = FunctionalGpu(**machine)
    got = play(open_engine(gpu, gpu.build(model_path, tmp_path / "m", limits=limits)), 6)
    for a, b in zip(expected, got, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not gpu.trt.rejections
    gpu.check()


def test_only_what_the_host_reads_leaves_the_gpu(gpu: FunctionalGpu, engine: Path) -> None:
    with open_engine(gpu, engine) as backend:
        for name in COMPONENTS:
            before = len(gpu.cuda.copies)
            outputs = backend.run(name, random_inputs(backend.spec, name))
            inside = {key for key, value in outputs.items() if isinstance(value, DeviceTensor)}
            assert inside == outputs.keys() & DEVICE_OUTPUTS
            out = [size for way, size in gpu.cuda.copies[before:] if way == "device to pinned"]
            assert len(out) == (name in (MASK_DECODER, MEMORY_ENCODER))
            for key in inside:
                assert np.asarray(outputs[key]).shape == outputs[key].shape
    del outputs
    gpu.check()


def test_a_steady_frame(gpu: FunctionalGpu, engine: Path) -> None:
    """Four graphs, one copy of masks, no new memory, and nothing of the bank passes the host."""
    with VideoSegmenter(open_engine(gpu, engine)) as segmenter:
        segmenter.track(frame(0), clicks(1, 2))
        for index in range(1, STEADY + 6):
            segmenter.track(frame(index))
        calls, copies = len(gpu.cuda.calls), len(gpu.cuda.copies)
        segmenter.track(frame(99))
        counts = Counter(gpu.cuda.calls[calls:])
        ways = Counter(way for way, _ in gpu.cuda.copies[copies:])
        spec = segmenter.spec
    assert counts["cudaGraphLaunch"] == 4
    # That of the decoder for the masks, and that of the memory encoder for its check.
    assert counts["cudaStreamSynchronize"] == ways["device to pinned"] == 2
    assert not {"cudaMalloc", "cudaHostAlloc", "cudaFree", "cudaFreeHost"} & counts.keys()
    # Two objects with seven memories are gathered, and two new memories are kept.
    assert ways["device to device"] == 2 * spec.rules.num_maskmem + 2
    gpu.check()


def test_warming_up_is_not_recorded(gpu: FunctionalGpu, engine: Path) -> None:
    with VideoSegmenter(open_engine(gpu, engine)) as segmenter:
        segmenter.track(frame(0), clicks(1))
        for index in range(1, STEADY):
            before = len(gpu.trt.calls)
            segmenter.track(frame(index))
            names = [call.name for call in gpu.trt.calls[before:]]
            # Its shapes are new at every frame.
            assert "IExecutionContext.execute_async_v3" in names
    gpu.check()


def test_another_number_of_objects_is_recorded_anew(gpu: FunctionalGpu, engine: Path) -> None:
    def launches() -> int:
        return gpu.cuda.calls.count("cudaGraphLaunch")

    with VideoSegmenter(open_engine(gpu, engine)) as segmenter:
        segmenter.track(frame(0), clicks(1, 2))
        for index in range(1, STEADY + 6):
            segmenter.track(frame(index))
        segmenter.remove(2)
        graphs, before = gpu.cuda.calls.count("cudaGraphInstantiate"), launches()
        segmenter.track(frame(50))
        assert launches() == before + 1, "only the image encoder has its old shapes"
        for index in range(51, 56):
            segmenter.track(frame(index))
        assert gpu.cuda.calls.count("cudaGraphInstantiate") > graphs
        before = launches()
        segmenter.track(frame(56))
        assert launches() == before + 4
    gpu.check()


def test_an_engine_that_cannot_be_recorded_runs_plainly(gpu: FunctionalGpu, engine: Path) -> None:
    gpu.cuda.faults["cudaGraphInstantiate"] = "cudaErrorNotSupported"
    with open_engine(gpu, engine) as backend:
        inputs = random_inputs(backend.spec, MASK_DECODER)
        first, *others = [backend.run(MASK_DECODER, inputs) for _ in range(4)]
    for other in others:
        np.testing.assert_array_equal(first["mask_logits"], other["mask_logits"])
    assert gpu.cuda.calls.count("cudaGraphInstantiate") == 1
    gpu.check()


@pytest.mark.parametrize("integrated", [False, True])
def test_an_input_is_not_overwritten_before_it_was_read(
    integrated: bool, model_path: Path, tmp_path: Path
) -> None:
    """The host waits for nothing after the image encoder, whose input comes from the host."""
    gpu = FunctionalGpu(integrated=integrated)
    with open_engine(gpu, gpu.build(model_path, tmp_path / "m")) as backend:
        size = backend.spec.image_size
        images = np.random.default_rng(0).normal(size=(4, 1, 3, size, size)).astype(np.float32)
        made = [backend.run(IMAGE_ENCODER, {"image": image})["features"] for image in images]
        together = [np.asarray(features) for features in made]
        for image, features in zip(images, together, strict=True):
            alone = backend.run(IMAGE_ENCODER, {"image": image})["features"]
            np.testing.assert_array_equal(np.asarray(alone), features)
        del made, alone
    gpu.check()


def test_threads_take_turns(gpu: FunctionalGpu, engine: Path) -> None:
    with open_engine(gpu, engine) as backend:
        given = [random_inputs(backend.spec, MASK_DECODER, B=count) for count in (1, 2, 3)]
        expected = [backend.run(MASK_DECODER, inputs)["mask_logits"] for inputs in given]

        def run(index: int) -> bool:
            got = backend.run(MASK_DECODER, given[index % 3])["mask_logits"]
            return np.array_equal(got, expected[index % 3])

        with ThreadPoolExecutor(3) as pool:
            assert all(pool.map(run, range(60)))
    gpu.check()


def test_gathered_memories_have_one_address_while_they_fill_up(
    gpu: FunctionalGpu, engine: Path
) -> None:
    with open_engine(gpu, engine) as backend:
        inputs = random_inputs(backend.spec, MEMORY_ENCODER)
        assert backend.memories is not None
        kept = [backend.memories.keep(backend.run(MEMORY_ENCODER, inputs)) for _ in range(7)]
        pointers = set()
        for count in range(1, 8):
            rows = [[memories[row] for memories in kept[:count]] for row in range(2)]
            pointers.add(backend.memories.gather(rows).pointer)
        assert len(pointers) == 1
        del kept, rows
    gpu.check()


def test_a_memory_that_is_not_finite_is_not_kept(gpu: FunctionalGpu, engine: Path) -> None:
    with open_engine(gpu, engine) as backend:
        inputs = random_inputs(backend.spec, MEMORY_ENCODER)
        inputs["mask_logits"][1, 0, 3, 3] = np.nan
        assert backend.memories is not None
        kept = backend.memories.keep(backend.run(MEMORY_ENCODER, inputs))
        assert [memory is None for memory in kept] == [False, True]
    gpu.check()


def test_old_memories_go_to_the_host_when_there_are_too_many(
    gpu: FunctionalGpu, engine: Path
) -> None:
    with open_engine(gpu, engine, memory_limit_mib=0) as backend:
        assert backend.memories is not None
        inputs = random_inputs(backend.spec, MEMORY_ENCODER)
        kept, wanted = [], []
        for index in range(7):
            inputs["mask_logits"] += index
            outputs = backend.run(MEMORY_ENCODER, inputs)
            wanted.append(np.asarray(outputs["memory"]))
            kept.append(backend.memories.keep(outputs))
        on_host = [[memory.host is not None for memory in row] for row in kept]
        assert on_host == [[True] * 2] * 3 + [[False] * 2] * 4
        rows = list(zip(*kept, strict=True))
        gathered = np.asarray(backend.memories.gather(rows))
        np.testing.assert_array_equal(gathered, np.stack(wanted, axis=1))
        del outputs, kept, rows
    gpu.check()


def test_a_full_gpu_moves_memories_to_the_host(gpu: FunctionalGpu, engine: Path) -> None:
    with open_engine(gpu, engine) as backend:
        assert backend.memories is not None
        inputs = random_inputs(backend.spec, MEMORY_ENCODER)
        kept = [backend.memories.keep(backend.run(MEMORY_ENCODER, inputs)) for _ in range(4)]
        gpu.cuda.limit = gpu.cuda.memory.used
        kept.append(backend.memories.keep(backend.run(MEMORY_ENCODER, inputs)))
        assert [memory.host is not None for memory in kept[0]] == [True, True]
        assert [memory.host is None for memory in kept[4]] == [True, True]
        del kept
    gpu.check()


# ------------------------------------------------------------------- frames on the GPU
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


@pytest.mark.parametrize("prepared", [False, True])
def test_a_frame_on_the_gpu(gpu: FunctionalGpu, engine: Path, prepared: bool) -> None:
    from qsam2_deploy.runtime.preprocess import preprocess_frame

    size = open_engine(gpu, engine).spec.image_size
    on_host = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    with VideoSegmenter(open_engine(gpu, engine)) as segmenter:
        expected = segmenter.track(on_host, clicks(1))[1].logits
    copies = len(gpu.cuda.copies)
    with VideoSegmenter(open_engine(gpu, engine)) as segmenter:
        array = preprocess_frame(on_host, segmenter.spec) if prepared else on_host
        given = OnGpu(gpu, array)
        got = segmenter.track(given, clicks(1))[1].logits  # type: ignore[arg-type]
    given.close(gpu)
    np.testing.assert_array_equal(expected, got)
    found = [size for way, size in gpu.cuda.copies[copies:] if way == "device to pinned"]
    assert (on_host.nbytes in found) is not prepared
    gpu.check()


def test_the_owner_may_change_a_frame_when_it_was_taken(gpu: FunctionalGpu, engine: Path) -> None:
    with open_engine(gpu, engine) as backend:
        size = backend.spec.image_size
        image = np.random.default_rng(0).normal(size=(1, 3, size, size)).astype(np.float32)
        expected = np.asarray(backend.run("image_encoder", {"image": image})["features"])
        given = OnGpu(gpu, image)
        outputs = backend.run("image_encoder", {"image": given})
        given.block.data[:] = 0
        np.testing.assert_array_equal(np.asarray(outputs["features"]), expected)
        del outputs
    given.close(gpu)
    gpu.check()


def test_whoever_wrote_the_frame_is_waited_for(gpu: FunctionalGpu, engine: Path) -> None:
    stream = gpu.runtime.cudaStreamCreateWithFlags(gpu.runtime.cudaStreamNonBlocking)[1]
    pixels = np.random.default_rng(0).integers(0, 256, (48, 80, 3), dtype=np.uint8)
    given = OnGpu(gpu, np.zeros_like(pixels), stream=int(stream))

    def write() -> None:
        given.block.data[:] = pixels.reshape(-1)

    gpu.cuda.enqueue(stream, write, [(given.block.address, pixels.nbytes)])
    with open_engine(gpu, engine) as backend:
        np.testing.assert_array_equal(backend.take_frame(given), pixels)
    gpu.runtime.cudaStreamDestroy(stream)
    given.close(gpu)
    gpu.check()


@pytest.mark.parametrize(
    ("array", "other", "message"),
    [
        (np.zeros((4, 4), np.uint8), {}, "must be uint8 RGB"),
        (np.zeros((0, 4, 3), np.uint8), {}, "must be uint8 RGB"),
        (np.zeros((1, 3, 4, 4), np.float32), {}, r"float32 \[1, 3, 64, 64\], but got float32"),
        (np.zeros((4, 4, 3), np.uint8), {"strides": (48, 12, 4)}, "must be contiguous"),
    ],
)
def test_another_array_on_the_gpu_is_refused(
    gpu: FunctionalGpu, engine: Path, array: Any, other: dict[str, Any], message: str
) -> None:
    with VideoSegmenter(open_engine(gpu, engine)) as segmenter:
        given: Any = OnGpu(gpu, array, **other)
        with pytest.raises(VideoError, match=message):
            segmenter.track(given, clicks(1))
    given.close(gpu)
    gpu.check()


def test_the_cpu_does_not_take_frames_from_the_gpu(segmenter: VideoSegmenter) -> None:
    given: Any = OnGpu(FunctionalGpu(), frame(0))
    with pytest.raises(VideoError, match=r"only a model\.engine takes it"):
        segmenter.track(given)


# ------------------------------------------------------------------------------- faults
def _context_is_none(gpu: FunctionalGpu) -> None:
    gpu.trt.script.returns["ICudaEngine.create_execution_context"] = None


def _load_fails(gpu: FunctionalGpu) -> None:
    gpu.trt.script.load_fails = True


def _execution_fails(gpu: FunctionalGpu) -> None:
    def fail(context: Any, stream_handle: int) -> bool:
        gpu.trt.log(_logger(gpu), "ERROR", "the kernel\nis not there")
        return False

    gpu.trt.script.returns["IExecutionContext.execute_async_v3"] = fail


def _execution_is_out_of_memory(gpu: FunctionalGpu) -> None:
    def fail(context: Any, stream_handle: int) -> bool:
        gpu.trt.log(_logger(gpu), "ERROR", "Cuda failure: 2 (out of memory)")
        return False

    gpu.trt.script.returns["IExecutionContext.execute_async_v3"] = fail


def _logger(gpu: FunctionalGpu) -> Any:
    from qsam2_deploy.runtime.tensorrt.adapter import library_logger

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
    "the GPU is out of memory: image_encoder does not fit": _execution_is_out_of_memory,
    "needs an NVIDIA GPU and its driver": _no_gpu,
    r"was built for Double of compute capability 8\.7, but this is Other of 9\.0": _another_gpu,
    "the GPU failed in cudaStreamSynchronize: cudaErrorIllegalAddress": _broken_gpu,
}


@pytest.mark.parametrize("message", FAULTS)
def test_a_fault_is_one_sentence_and_all_is_given_back(
    message: str, gpu: FunctionalGpu, engine: Path
) -> None:
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


def test_too_little_memory_at_any_moment(gpu: FunctionalGpu, engine: Path) -> None:
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


def test_a_frame_that_failed_is_not_taken(gpu: FunctionalGpu, engine: Path) -> None:
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
def test_sizes_that_the_engine_was_not_built_for(
    gpu: FunctionalGpu, engine: Path, component: str, sizes: dict[str, int], message: str
) -> None:
    with open_engine(gpu, engine) as backend:
        with pytest.raises(EngineError, match=message):
            backend.run(component, random_inputs(backend.spec, component, **sizes))
        assert backend.run(component, random_inputs(backend.spec, component))
    gpu.check()


def test_inputs_that_do_not_fit(gpu: FunctionalGpu, engine: Path) -> None:
    with open_engine(gpu, engine) as backend:
        inputs = random_inputs(backend.spec, MASK_DECODER)
        small = inputs | {"mask_input": inputs["mask_input"][..., :-1]}
        with pytest.raises(EngineError, match=r"takes mask_input of \[B, 1, 16, 16\], but got"):
            backend.run(MASK_DECODER, small)
        inputs.pop("has_mask")
        with pytest.raises(EngineError, match=r"takes conditioned, .*has_mask, but got"):
            backend.run(MASK_DECODER, inputs)
    gpu.check()


def test_a_frame_of_another_size(gpu: FunctionalGpu, engine: Path) -> None:
    with VideoSegmenter(open_engine(gpu, engine)) as segmenter:
        segmenter.track(frame(0))
        with pytest.raises(VideoError, match="every frame must be of shape"):
            segmenter.track(frame(1)[:-1])
    gpu.check()


def test_a_damaged_file_does_not_reach_the_gpu(gpu: FunctionalGpu, engine: Path) -> None:
    data = bytearray(engine.read_bytes())
    data[-1] ^= 1
    engine.write_bytes(data)
    with pytest.raises(ModelFileError, match="does not match its SHA-256 digest"):
        open_engine(gpu, engine)
    assert not gpu.cuda.calls


def test_another_version_of_the_library(gpu: FunctionalGpu, engine: Path) -> None:
    other = FunctionalGpu("tensorrt-11.4")
    with pytest.raises(EngineError, match=r"was built by tensorrt 10\.3\.0, but this is tensorrt"):
        TensorRtBackend(engine, library=other.library, runtime=other.runtime)


# --------------------------------------------------------------------------- life time
def test_it_can_be_entered_again(gpu: FunctionalGpu, engine: Path) -> None:
    backend = open_engine(gpu, engine)
    first, second = play(backend, 3), play(backend, 3)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
    gpu.check()


def test_outside_its_context_it_says_so(gpu: FunctionalGpu, engine: Path) -> None:
    backend = open_engine(gpu, engine)
    inputs = random_inputs(backend.spec, MASK_DECODER)
    with pytest.raises(EngineError, match="the backend is closed"):
        backend.run(MASK_DECODER, inputs)
    with pytest.raises(EngineError, match="the backend is closed"):
        backend.take_frame(OnGpu(gpu, frame(0)))
    with backend:
        tensor = backend.run(MEMORY_ATTENTION, random_inputs(backend.spec, MEMORY_ATTENTION))
    with pytest.raises(EngineError, match="was closed"):
        np.asarray(tensor["conditioned"])


def test_device_arrays_are_shown_to_other_libraries(gpu: FunctionalGpu) -> None:
    from qsam2_deploy.runtime.tensorrt.cuda import Cuda

    with DeviceArray(Cuda(gpu.runtime), (2, 3), np.float32) as array:
        shown = array.__cuda_array_interface__
        assert (shown["shape"], shown["typestr"]) == ((2, 3), "<f4")
        assert shown["data"] == (array.pointer, False)
    gpu.check()
