"""A frame on an NVIDIA GPU: ONNX Runtime's CUDA provider and torch, by component.

SAM 2.1 tiny and base+ at 1024 pixels with random weights, which change masks, not times. Torch is
the official predictor in bfloat16, eager and with its parts compiled as upstream's own fast
predictor has them; ONNX Runtime runs ``ort-cuda`` in half precision. Each tracks one clicked
object; times are medians from the frame on at which all memories and pointers are there.

Example::

    python -m benchmarks.speed.gpu_frame --json benchmarks/results/gpu_frame.json
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks import _models
from benchmarks._report import benchmark_parser, write_report
from benchmarks.speed.frame_time import timed
from qsam2_deploy.cli._main import command
from qsam2_deploy.engines.open import open_backend
from qsam2_deploy.errors import EngineError
from qsam2_deploy.export import onnx_from_checkpoint
from qsam2_deploy.quant.checkpoints.architecture import official_config
from qsam2_deploy.quant.checkpoints.checkpoint import load_checkpoint
from qsam2_deploy.runtime import SAM2VideoPredictor
from qsam2_deploy.spec import (
    COMPONENTS,
    IMAGE_ENCODER,
    MASK_DECODER,
    MEMORY_ATTENTION,
    MEMORY_ENCODER,
)
from qsam2_deploy.timing.steady import Stopwatch
from tests.support.weights import write_checkpoint

STEADY = 17
"""From this frame on, all memories and pointers are there, and torch has compiled all shapes."""

MODULES = {
    IMAGE_ENCODER: ("image_encoder",),
    MEMORY_ATTENTION: ("memory_attention",),
    MASK_DECODER: ("sam_prompt_encoder", "sam_mask_decoder"),
    MEMORY_ENCODER: ("memory_encoder",),
}
"""The official model's modules of each component."""

FRAME = "frame"

Seconds = dict[str, list[float]]
"""By component, and for the whole frame; one number for each tracked frame."""


def runtime_seconds(model: Path, backend: str, video: Path, size: tuple[int, int]) -> Seconds:
    """Track with our runtime and return the seconds of every tracked frame."""
    # With one thread no frame is encoded while another is tracked, so no times overlap.
    stopwatch = Stopwatch(open_backend(model, backend, threads=1))
    stopwatch.seconds = dict.fromkeys(COMPONENTS, 0.0)
    with SAM2VideoPredictor(stopwatch, show_progress=False) as predictor:
        return _collect(timed(predictor, video, size), stopwatch.seconds)


def torch_seconds(
    checkpoint: Path, video: Path, size: tuple[int, int], device: str, *, compiled: bool
) -> Seconds:
    """Track with the official predictor in bfloat16 and return the seconds of every frame."""
    config = checkpoint.with_suffix(".yaml")
    predictor: Any = load_checkpoint(checkpoint, config=config).model.to(device).eval()
    names = [name for modules in MODULES.values() for name in modules]
    if compiled:
        for name in names:
            module = getattr(predictor, name)
            mode = "max-autotune" if name == "image_encoder" else "max-autotune-no-cudagraphs"
            module.forward = torch.compile(module.forward, mode=mode, dynamic=False)
    frame = dict.fromkeys(COMPONENTS, 0.0)
    with _hooked(predictor, frame, device), torch.autocast(device, torch.bfloat16):
        return _collect(timed(predictor, video, size), frame)


@contextmanager
def _hooked(predictor: Any, frame: dict[str, float], device: str) -> Iterator[None]:
    """Add the time of each module's calls to ``frame``; the GPU is waited for on both sides."""
    wait: Callable[[], None] = torch.cuda.synchronize if device == "cuda" else lambda: None
    originals = {}
    for component, modules in MODULES.items():
        for name in modules:
            module = getattr(predictor, name)
            originals[name] = (module, module.forward)
            module.forward = _stopwatch(module.forward, component, frame, wait)
    try:
        yield
    finally:
        for module, forward in originals.values():
            module.forward = forward


def _stopwatch(
    forward: Callable[..., Any], component: str, frame: dict[str, float], wait: Callable[[], None]
) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        wait()
        started = time.perf_counter()
        result = forward(*args, **kwargs)
        wait()
        frame[component] += time.perf_counter() - started
        return result

    return call


def _collect(frames: Iterator[float], parts: dict[str, float]) -> Seconds:
    """Take the frames one by one; ``parts`` adds up between them.

    The first tracked frame is left out: what the click took is in its parts.
    """
    seconds: Seconds = {name: [] for name in (*COMPONENTS, FRAME)}
    next(frames)
    before = dict(parts)
    for whole in frames:
        seconds[FRAME].append(whole)
        for name in COMPONENTS:
            seconds[name].append(parts[name] - before[name])
        before = dict(parts)
    return seconds


def steady_milliseconds(seconds: Seconds, first: int = STEADY) -> dict[str, float]:
    """Return the medians of the frames from number ``first`` on; the lists begin at 2."""
    return {name: round(1e3 * median(values[first - 2 :]), 3) for name, values in seconds.items()}


def measure(name: str, frames: int, video: Path | None, folder: Path) -> dict[str, Any]:
    """Time all contenders on one official model."""
    checkpoint = write_checkpoint(folder / f"{name}.pt", official_config(f"sam2.1_hiera_{name}"))
    images = folder / f"{name}_frames"
    size = _models.write_frames(video, images, frames)
    model = folder / f"{name}.onnx"
    onnx_from_checkpoint(
        checkpoint, model, config=checkpoint.with_suffix(".yaml"), show_progress=False
    )
    rows = {"onnxruntime cuda, float16": runtime_seconds(model, "ort-cuda", images, size)}
    for compiled in (False, True):
        kind = "compiled" if compiled else "eager"
        rows[f"torch {kind}, bfloat16"] = torch_seconds(
            checkpoint, images, size, "cuda", compiled=compiled
        )
    return {key: steady_milliseconds(value) for key, value in rows.items()}


def format_rows(name: str, rows: Mapping[str, Mapping[str, float]]) -> str:
    """Return the table of one model."""
    columns = (*COMPONENTS, FRAME)
    lines = [f"{name + ', ms':28}" + "".join(f"{column:>18}" for column in columns)]
    lines += [
        f"{key:28}" + "".join(f"{row[column]:18.2f}" for column in columns)
        for key, row in rows.items()
    ]
    return "\n".join(lines)


@command("benchmarks.speed.gpu_frame")
def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; return its exit status."""
    parser = benchmark_parser("benchmarks.speed.gpu_frame", __doc__)
    parser.add_argument("--models", nargs="+", default=["tiny", "base_plus"])
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--video", type=Path, help="default: a generated clip")
    args = parser.parse_args(argv)
    if args.frames <= STEADY + 1:
        parser.error(f"--frames must be more than {STEADY + 1}, but got {args.frames}")
    if not torch.cuda.is_available():
        raise EngineError(
            "this benchmark needs an NVIDIA GPU, and torch finds none; run it where torch with "
            "CUDA and onnxruntime-gpu are installed"
        )
    results: dict[str, Any] = {"gpu": torch.cuda.get_device_name(), "models": {}}
    with tempfile.TemporaryDirectory() as folder:
        for name in args.models:
            results["models"][name] = measure(name, args.frames, args.video, Path(folder))
            print(format_rows(name, results["models"][name]), flush=True)
    write_report("gpu_frame", results, args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
