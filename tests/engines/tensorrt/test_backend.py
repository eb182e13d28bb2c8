"""The backend on the GPU: where its tensors are, what it asks of CUDA, and that all is given back.

The masks of long sessions are compared in ``tests/parity/test_gpu_parity.py``.
"""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import pytest

from qsam2_deploy.engines.onnxruntime.cpu import OrtBackend
from qsam2_deploy.engines.tensorrt.backend import DEVICE_OUTPUTS
from qsam2_deploy.engines.tensorrt.cuda import DeviceArray
from qsam2_deploy.engines.tensorrt.device_memory import DeviceTensor
from qsam2_deploy.engines.tensorrt.options import Limits
from qsam2_deploy.errors import EngineError
from qsam2_deploy.predictors.segmenter import VideoSegmenter
from qsam2_deploy.spec import (
    COMPONENTS,
    IMAGE_ENCODER,
    MASK_DECODER,
    MEMORY_ATTENTION,
    MEMORY_ENCODER,
)
from tests import cuda_double
from tests import tensorrt_double as doubles
from tests.engines.tensorrt.sessions import OnGpu, clicks, frame, open_engine, play
from tests.engines.tensorrt.test_execution import random_inputs
from tests.support.functional_gpu import FunctionalGpu

STEADY = 17
"""First frame at which 7 memories and 16 pointers are there."""


@pytest.fixture(scope="module")
def expected(model_path) -> list[npt.NDArray[np.float32]]:
    return play(OrtBackend(model_path, threads=1), 6)


MACHINES = [
    *({"version": version} for version in doubles.VERSIONS),
    *({"cuda": version} for version in cuda_double.VERSIONS),
    {"integrated": True},
]


@pytest.mark.parametrize(
    ("machine", "limits"),
    [
        *(pytest.param(machine, Limits(), id=f"batch-{machine}") for machine in MACHINES),
        *(
            pytest.param(
                machine, Limits(objects=1), id=f"one by one-{machine}",
                marks=() if machine == {"integrated": True} else pytest.mark.slow,
            )
            for machine in MACHINES
        ),
    ],
)  # fmt: skip
def test_the_masks_are_those_of_the_cpu(machine, limits, model_path, tmp_path, expected):
    gpu = FunctionalGpu(**machine)
    got = play(open_engine(gpu, gpu.build(model_path, tmp_path / "m", limits=limits)), 6)
    for a, b in zip(expected, got, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not gpu.trt.rejections
    gpu.check()


def test_only_what_the_host_reads_leaves_the_gpu(gpu, engine):
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


@pytest.mark.parametrize(
    "version",
    [
        doubles.VERSIONS[0],
        doubles.VERSIONS[-1],
        *(pytest.param(version, marks=pytest.mark.slow) for version in doubles.VERSIONS[1:-1]),
    ],
)
def test_a_steady_frame(version, model_path, tmp_path):
    """Four graphs, one copy of masks, no new memory, and nothing of the bank passes the host."""
    gpu = FunctionalGpu(version)
    engine = gpu.build(model_path, tmp_path / "m.engine")
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


def test_warming_up_is_not_recorded(gpu, engine):
    with VideoSegmenter(open_engine(gpu, engine)) as segmenter:
        segmenter.track(frame(0), clicks(1))
        for index in range(1, STEADY):
            before = len(gpu.trt.calls)
            segmenter.track(frame(index))
            names = [call.name for call in gpu.trt.calls[before:]]
            # Its shapes are new at every frame.
            assert "IExecutionContext.execute_async_v3" in names
    gpu.check()


def test_another_number_of_objects_is_recorded_anew(gpu, engine):
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


def test_an_engine_that_cannot_be_recorded_runs_plainly(gpu, engine):
    gpu.cuda.faults["cudaGraphInstantiate"] = "cudaErrorNotSupported"
    with open_engine(gpu, engine) as backend:
        inputs = random_inputs(backend.spec, MASK_DECODER)
        first, *others = [backend.run(MASK_DECODER, inputs) for _ in range(4)]
    for other in others:
        np.testing.assert_array_equal(first["mask_logits"], other["mask_logits"])
    assert gpu.cuda.calls.count("cudaGraphInstantiate") == 1
    gpu.check()


@pytest.mark.parametrize("integrated", [False, True])
def test_an_input_is_not_overwritten_before_it_was_read(integrated, model_path, tmp_path):
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


def test_threads_take_turns(opened):
    given = [random_inputs(opened.spec, MASK_DECODER, B=count) for count in (1, 2, 3)]
    expected = [opened.run(MASK_DECODER, inputs)["mask_logits"] for inputs in given]

    def run(index: int) -> bool:
        got = opened.run(MASK_DECODER, given[index % 3])["mask_logits"]
        return np.array_equal(got, expected[index % 3])

    with ThreadPoolExecutor(3) as pool:
        assert all(pool.map(run, range(60)))


def test_gathered_memories_have_one_address_while_they_fill_up(opened):
    inputs = random_inputs(opened.spec, MEMORY_ENCODER)
    assert opened.memories is not None
    kept = [opened.memories.keep(opened.run(MEMORY_ENCODER, inputs)) for _ in range(7)]
    pointers = set()
    for count in range(1, 8):
        rows = [[memories[row] for memories in kept[:count]] for row in range(2)]
        pointers.add(opened.memories.gather(rows).pointer)
    assert len(pointers) == 1
    del kept, rows


def test_a_memory_that_is_not_finite_is_not_kept(opened):
    inputs = random_inputs(opened.spec, MEMORY_ENCODER)
    inputs["mask_logits"][1, 0, 3, 3] = np.nan
    assert opened.memories is not None
    kept = opened.memories.keep(opened.run(MEMORY_ENCODER, inputs))
    assert [memory is None for memory in kept] == [False, True]


def test_old_memories_go_to_the_host_when_there_are_too_many(gpu, engine):
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


def test_memories_that_were_on_disk_are_what_they_were(gpu, engine):
    with open_engine(gpu, engine, memory_limit_mib=0) as backend:
        memories = backend.memories
        assert memories is not None
        outputs = backend.run(MEMORY_ENCODER, random_inputs(backend.spec, MEMORY_ENCODER))
        wanted = np.asarray(outputs["memory"])
        kept = memories.keep(outputs)
        on_disk = [memories.to_host(memory).copy() for memory in kept]
        others = [memories.keep(outputs) for _ in range(7)]
        assert [memory.host is not None for memory in kept] == [True, True]
        for row, memory in zip(on_disk, kept, strict=True):
            np.testing.assert_array_equal(memories.to_host(memory), row)
        rows = [
            [memories.from_host(row), memory] for row, memory in zip(on_disk, kept, strict=True)
        ]
        gathered = np.asarray(memories.gather(rows))
        np.testing.assert_array_equal(gathered, np.stack([wanted, wanted], axis=1))
        del outputs, kept, others, rows
    gpu.check()


def test_a_full_gpu_moves_memories_to_the_host(gpu, opened):
    assert opened.memories is not None
    inputs = random_inputs(opened.spec, MEMORY_ENCODER)
    kept = [opened.memories.keep(opened.run(MEMORY_ENCODER, inputs)) for _ in range(4)]
    gpu.cuda.limit = gpu.cuda.memory.used
    kept.append(opened.memories.keep(opened.run(MEMORY_ENCODER, inputs)))
    assert [memory.host is not None for memory in kept[0]] == [True, True]
    assert [memory.host is None for memory in kept[4]] == [True, True]
    del kept


def test_it_can_be_entered_again(gpu, engine):
    backend = open_engine(gpu, engine)
    first, second = play(backend, 3), play(backend, 3)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
    gpu.check()


def test_outside_its_context_it_says_so(gpu, engine):
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


def test_device_arrays_are_shown_to_other_libraries(gpu):
    from qsam2_deploy.engines.tensorrt.cuda import Cuda

    with DeviceArray(Cuda(gpu.runtime), (2, 3), np.float32) as array:
        shown = array.__cuda_array_interface__
        assert (shown["shape"], shown["typestr"]) == ((2, 3), "<f4")
        assert shown["data"] == (array.pointer, False)
    gpu.check()
