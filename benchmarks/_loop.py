"""What the benchmarks of the frame loop share: exports without torch in the process, and clocks."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import numpy as np
import numpy.typing as npt

from benchmarks._report import ROOT
from qsam2_deploy.errors import InputError
from qsam2_deploy.media.reading.sources import open_frames
from qsam2_deploy.predictors.segmenter import VideoSegmenter
from qsam2_deploy.runtime import Prompt
from qsam2_deploy.tracking.results import FrameResult

CLIP = ROOT / "assets" / "demo_clip.mp4"
CHECKPOINT = ROOT / "assets" / "demo.pt"
Frame = npt.NDArray[np.uint8]


def export(checkpoint: Path, model: Path, *options: str) -> Path:
    """Run ``qsam2-export`` in another process, so that torch's memory is not in this one.

    Raises:
        InputError: it failed.
    """
    command = [sys.executable, "-m", "qsam2_deploy.cli.export", str(checkpoint), str(model)]
    result = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    if result.returncode:
        raise InputError(result.stderr.strip().splitlines()[-1])
    return model


def clip_frames(video: Path, count: int) -> list[Frame]:
    """Return the first ``count`` frames of a video."""
    with open_frames(video) as source:
        return list(itertools.islice(source, count))


def endless(frames: Sequence[Frame], count: int) -> Iterator[Frame]:
    """Show ``frames`` forwards and backwards until ``count`` of them have been shown."""
    there_and_back = [*frames, *frames[-2:0:-1]]
    return itertools.islice(itertools.cycle(there_and_back), count)


def clicks(objects: int, frame: Frame) -> list[Prompt]:
    """Return a click for each of some objects, spread over a frame."""
    height, width = frame.shape[:2]
    columns = int(np.ceil(np.sqrt(objects)))
    places = [
        ((i % columns + 0.5) / columns, (i // columns + 0.5) / columns) for i in range(objects)
    ]
    return [
        Prompt(number, points=[(x * width, y * height)], labels=[1])
        for number, (x, y) in enumerate(places, start=1)
    ]


def milliseconds(
    segmenter: VideoSegmenter,
    frames: Iterator[Frame],
    prompts: Sequence[Prompt],
    *,
    skip: int,
    streamed: bool,
) -> list[float]:
    """Return the time of each frame after the first ``skip``, with all of its masks.

    Args:
        segmenter: entered; it is reset first.
        frames: at least ``skip + 1``.
        prompts: on the first frame.
        skip: frames until the memory is full.
        streamed: encode the next frame while one is tracked.
    """
    segmenter.reset()
    results = (
        segmenter.stream(frames, {0: prompts})
        if streamed
        else (segmenter.track(f, prompts if i == 0 else ()) for i, f in enumerate(frames))
    )
    times, began = [], time.perf_counter()
    for result in results:
        _read(result)
        now = time.perf_counter()
        times.append((now - began) * 1e3)
        began = now
    return times[skip:]


def spread(times: Sequence[float]) -> dict[str, float]:
    """Return median, and the quarter and the three quarters of all, to see how steady it was."""
    low, high = np.percentile(times, [25, 75])
    return {"median_ms": median(times), "low_ms": float(low), "high_ms": float(high)}


@contextmanager
def on_cores(count: int) -> Iterator[None]:
    """Keep this thread, and those that it starts, on the first ``count`` cores (Linux)."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(allowed)[:count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def _read(result: FrameResult) -> None:
    for item in result.objects:
        _ = item.mask
