"""How the time of a frame grows: with cores, objects, pixels, and the length of the video.

Each part runs in a process of its own, so that memory is told apart. Times are medians of tracked
frames with a full memory; nothing else should run on the machine meanwhile.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks._loop import (
    CHECKPOINT,
    CLIP,
    clicks,
    clip_frames,
    endless,
    export,
    milliseconds,
    on_cores,
    spread,
)
from benchmarks._report import benchmark_parser, resident_mib, usable_cores, write_report
from qsam2_deploy.cli._main import command
from qsam2_deploy.runtime import VideoSegmenter, open_backend
from qsam2_deploy.timing.steady import Stopwatch

Result = dict[str, Any]


def measure_cores(args: argparse.Namespace) -> Result:
    """One core with one thread, two cores with two, with and without encoding ahead."""
    found: Result = {}
    for name, cores, streamed in (
        ("1 core", 1, False),
        ("2 cores, frame by frame", 2, False),
        ("2 cores, streamed", 2, True),
    ):
        if cores > usable_cores():
            continue
        with on_cores(cores):
            found[name] = _measured(args, args.model, threads=cores, streamed=streamed)
    if "2 cores, streamed" in found:
        one, two = found["1 core"]["median_ms"], found["2 cores, streamed"]["median_ms"]
        found["2 cores against 1"] = one / two
        print(f"2 cores are {one / two:.2f} times as fast as 1")
    return found


def measure_objects(args: argparse.Namespace) -> Result:
    """The frame's time by component, and what each further object costs."""
    found: Result = {}
    for count in args.objects:
        with on_cores(1):
            found[str(count)] = _measured(args, args.model, threads=1, objects=count)
    first = found.get("1")
    for count in args.objects:
        if first is None or count == 1:
            continue
        further = (found[str(count)]["median_ms"] - first["median_ms"]) / (count - 1)
        track = first["median_ms"] - first["components_ms"]["image_encoder"]
        shares = {"of_track": further / track, "of_frame": further / first["median_ms"]}
        found[str(count)]["further_object"] = {"ms": further, **shares}
        print(f"{count} objects: each further one {further:.1f} ms, {further / track:.2f} of the "
              "first one's tracking")  # fmt: skip
    return found


def measure_sizes(args: argparse.Namespace) -> Result:
    """The same checkpoint at several sizes of the model's input."""
    found: Result = {}
    with tempfile.TemporaryDirectory() as folder:
        for size in args.sizes:
            model = Path(folder) / f"{size}.onnx"
            export(args.checkpoint, model, "--image-size", str(size))
            with on_cores(1):
                found[str(size)] = _measured(args, model, threads=1)
    return found


def measure_length(args: argparse.Namespace) -> Result:
    """Time per frame and resident memory along one long video."""
    clip = clip_frames(args.video, args.frames)
    marks: list[Result] = []
    with on_cores(1), VideoSegmenter(args.model, args.backend, threads=1) as segmenter:
        for length in args.lengths:
            done = segmenter.frame_index + 1
            times = []
            for frame in endless(clip, length - done):
                prompts = clicks(1, frame) if segmenter.frame_index < 0 else ()
                times.append(_timed(segmenter, frame, prompts))
            marks.append({"frames": length, **spread(times), "resident_mib": resident_mib()})
            print(f"after {length} frames: {marks[-1]['median_ms']:.1f} ms per frame, "
                  f"{marks[-1]['resident_mib']:.0f} MiB", flush=True)  # fmt: skip
    return {"marks": marks}


def _timed(segmenter: VideoSegmenter, frame: Any, prompts: Any) -> float:
    began = time.perf_counter()
    for item in segmenter.track(frame, prompts).objects:
        _ = item.mask
    return (time.perf_counter() - began) * 1e3


def _measured(
    args: argparse.Namespace, model: Path, *, threads: int, objects: int = 1, streamed: bool = False
) -> Result:
    """Return the time of a tracked frame with a full memory, in all and by component."""
    backend = Stopwatch(open_backend(model, args.backend, threads))
    clip = clip_frames(args.video, args.frames)
    skip = backend.spec.rules.num_maskmem
    with VideoSegmenter(backend) as segmenter:
        prompts = clicks(objects, clip[0])
        count = skip + args.repeat
        times = milliseconds(segmenter, endless(clip, count), prompts, skip=skip, streamed=streamed)
    # Over all frames, for the clock cannot tell them apart; warm-up frames are a little cheaper.
    components = {name: value * 1e3 / count for name, value in backend.seconds.items()}
    how = f"{objects} objects, {threads} threads{', streamed' if streamed else ''}"
    middle = spread(times)["median_ms"]
    print(f"{how}, {backend.spec.image_size} pixels: {middle:.1f} ms", flush=True)
    return {**spread(times), "components_ms": components, "resident_mib": resident_mib()}


PARTS: dict[str, Callable[[argparse.Namespace], Result]] = {
    "cores": measure_cores,
    "objects": measure_objects,
    "sizes": measure_sizes,
    "length": measure_length,
}


@command("benchmarks.speed.scaling")
def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    argv = list(sys.argv[1:] if argv is None else argv)
    args = _parser().parse_args(argv)
    if len(args.parts) == 1 and args.model is not None:
        write_report("scaling", PARTS[args.parts[0]](args), args.json)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        model = args.model or export(args.checkpoint, Path(folder) / "model.onnx")
        results = {"model": (args.model or args.checkpoint).name, "backend": args.backend}
        for part in args.parts:
            report = Path(folder) / f"{part}.json"
            own = ["--parts", part, "--model", str(model), "--json", str(report)]
            subprocess.run(
                [sys.executable, "-m", "benchmarks.speed.scaling", *argv, *own], check=True
            )
            results[part] = json.loads(report.read_text())["results"]
    write_report("scaling", results, args.json)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = benchmark_parser("benchmarks.speed.scaling", __doc__)
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT, help="float or quantized")
    parser.add_argument("--model", type=Path, help="default: the checkpoint, exported")
    parser.add_argument("--video", type=Path, default=CLIP)
    parser.add_argument("--frames", type=int, default=40, help="of the video, shown to and fro")
    parser.add_argument("--backend", default="ort")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--repeat", type=int, default=20, help="frames that are timed")
    parser.add_argument("--objects", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512, 768, 1024])
    parser.add_argument("--lengths", type=int, nargs="+", default=[10, 100, 300, 1000])
    return parser


if __name__ == "__main__":
    sys.exit(main())
