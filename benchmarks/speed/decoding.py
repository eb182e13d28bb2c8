"""Time to turn a decoded frame into RGB, by PyAV's default and exactly, as this package does it.

The same frames are converted in turns, and the least time of each size counts. ``decode`` is what
decoding such a frame from H.264 takes, for comparison.

Example::

    python -m benchmarks.speed.decoding --json benchmarks/results/decoding.json
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._report import benchmark_parser, write_report
from qsam2_deploy._common.rgb import RgbDecoder
from qsam2_deploy.cli._main import command
from qsam2_deploy.media.writing.video_writer import VideoWriter

SIZES = ((360, 640), (720, 1280), (1080, 1920))


def _write_clip(path: Path, height: int, width: int, frames: int = 24) -> None:
    y, x = np.mgrid[:height, :width]
    with VideoWriter(path, height=height, width=width, fps=24) as writer:
        for i in range(frames):
            texture = (x * 3 + y * 2 + ((x + 5 * i) // 40 * y // 30) * 17) % 256
            image = np.stack([texture, (x // 4 + 3 * i) % 256, (y // 3 + x // 9) % 256], axis=-1)
            writer.write(image.astype(np.uint8))


def _seconds(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def measure(height: int, width: int, repeat: int) -> dict[str, float]:
    """Return milliseconds per frame, and the differences of the two conversions."""
    import av

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        _write_clip(path, height, width)

        def decode() -> list[Any]:
            with av.open(str(path)) as container:
                container.streams.video[0].thread_type = "AUTO"
                return list(container.decode(video=0))

        frames = decode()
        to_rgb = RgbDecoder()
        best = {"decode": float("inf"), "default": float("inf"), "exact": float("inf")}
        for _ in range(repeat):
            best["decode"] = min(best["decode"], _seconds(decode) / len(frames))
            for frame in frames[:8]:
                default = _seconds(lambda frame=frame: frame.to_ndarray(format="rgb24"))
                best["default"] = min(best["default"], default)
                best["exact"] = min(best["exact"], _seconds(lambda frame=frame: to_rgb(frame)))
    plain = frames[0].to_ndarray(format="rgb24").astype(int)
    differences = np.abs(plain - to_rgb(frames[0]))
    return {
        **{f"{name}_ms": seconds * 1e3 for name, seconds in best.items()},
        "conversion_ratio": best["exact"] / best["default"],
        "frame_ratio": (best["decode"] + best["exact"]) / (best["decode"] + best["default"]),
        "mean_difference": float(differences.mean()),
        "max_difference": int(differences.max()),
    }


@command("benchmarks.speed.decoding")
def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = benchmark_parser("benchmarks.speed.decoding", __doc__)
    parser.add_argument("--repeat", type=int, default=9)
    args = parser.parse_args(argv)
    sizes = {}
    for height, width in SIZES:
        sizes[f"{width}x{height}"] = row = measure(height, width, args.repeat)
        print(f"{width}x{height}", *(f"{key} {value:.2f}" for key, value in row.items()))
    write_report("decoding", {"av": version("av"), "sizes": sizes}, args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
