"""Frames that are on the GPU already."""

from typing import Any

import numpy as np
import pytest

from qsam2_deploy.errors import VideoError
from qsam2_deploy.predictors.segmenter import VideoSegmenter
from tests.engines.tensorrt.sessions import OnGpu, clicks, frame, open_engine
from tests.support.functional_gpu import FunctionalGpu


@pytest.mark.parametrize("prepared", [False, True])
def test_a_frame_on_the_gpu(gpu, engine, prepared):
    from qsam2_deploy.tracking.preprocess import preprocess_frame

    size = open_engine(gpu, engine).spec.image_size
    on_host = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    with VideoSegmenter(open_engine(gpu, engine)) as segmenter:
        expected = segmenter.track(on_host, clicks(1))[1].logits
    copies = len(gpu.cuda.copies)
    with VideoSegmenter(open_engine(gpu, engine)) as segmenter:
        array = preprocess_frame(on_host, segmenter.spec) if prepared else on_host
        given = OnGpu(gpu, array)
        got = segmenter.track(given, clicks(1))[1].logits
    given.close(gpu)
    np.testing.assert_array_equal(expected, got)
    found = [size for way, size in gpu.cuda.copies[copies:] if way == "device to pinned"]
    assert (on_host.nbytes in found) is not prepared
    gpu.check()


def test_the_owner_may_change_a_frame_when_it_was_taken(gpu, engine):
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


def test_whoever_wrote_the_frame_is_waited_for(gpu, engine):
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
def test_another_array_on_the_gpu_is_refused(gpu, engine, array, other, message):
    with VideoSegmenter(open_engine(gpu, engine)) as segmenter:
        given: Any = OnGpu(gpu, array, **other)
        with pytest.raises(VideoError, match=message):
            segmenter.track(given, clicks(1))
    given.close(gpu)
    gpu.check()


def test_the_cpu_does_not_take_frames_from_the_gpu(segmenter):
    given: Any = OnGpu(FunctionalGpu(), frame(0))
    with pytest.raises(VideoError, match=r"only a model\.engine takes it"):
        segmenter.track(given)
