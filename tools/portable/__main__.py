"""Compute layers, frames and masks on emulated processors, and compare them with this one's.

    python -m tools.portable [--folder DIR] [--write docs/processors.md] [--only NAME ...]

Takes about half an hour on two cores. The exit status is 1 if something that says exact is not.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from qsam2_deploy._common.machine import cpu_model
from tools.portable.processors import NATIVE, ROOT, Processor, emulated
from tools.portable.table import write_page

ENGINES = ("ort", "kernels", "openvino")
MODELS = ("float", "w8a8", "w2a2")
MIN_IOU = 0.999
FEW_BITS_IOU = 0.99
"""Likewise of a model of fewer than 8 bits, in an engine that multiplies floats on its grids.

A code that rounds the other way is a third of the range at 2 bits. With 1 % of the frame's values
moved by one level of 255, ONNX Runtime is at 0.67 to 0.96 from itself; see
``benchmarks.accuracy.few_bits``.
"""
FEW_BITS = ("w2a2",)
MAX_SHARE = 1e-3
"""Share of a layer's values that may be off, by one step of an 8-bit grid."""


@dataclass
class Result:
    """What was found of one engine on one processor.

    Attributes:
        processor: its name.
        engine: of :data:`ENGINES`.
        about: what the engine says of itself.
        layers: how many were compared with what was trained.
        worst_layer: the one that is furthest off.
        steps: by how many steps of an 8-bit grid over its range.
        share: the largest share of a layer's values that are off.
        frames_equal: whether the decoded frames are the same bytes as here.
        iou: lowest IoU with the masks of the same engine on this machine, by model.
        seconds: it took.
        error: why there is nothing; empty if all went well.
    """

    processor: str
    engine: str
    about: str = ""
    layers: int = 0
    worst_layer: str = ""
    steps: float = 0.0
    share: float = 0.0
    frames_equal: bool = False
    iou: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    error: str = ""

    @property
    def good(self) -> bool:
        """Whether it is what this machine and the trained grids say."""
        exact = self.steps <= 1 and self.share <= MAX_SHARE and self.frames_equal
        masks = all(value >= self.wanted_iou(name) for name, value in self.iou.items())
        return not self.error and exact and masks

    def wanted_iou(self, model: str) -> float:
        """Return the IoU that masks of a model must have."""
        floats = "floats" in self.about and model in FEW_BITS
        return FEW_BITS_IOU if floats else MIN_IOU


def main() -> int:
    """Run everything; return the exit status."""
    args = _arguments()
    folder: Path = args.folder.resolve()
    if not (folder / "w8a8.onnx").exists():
        from tools.portable.prepare import prepare  # needs torch

        prepare(folder)
    began = time.perf_counter()
    references = {engine: _probed(NATIVE, engine, folder, args) for engine in ENGINES}
    processors = [NATIVE, *emulated(folder / "arm", args.only)]
    jobs = [(processor, engine) for processor in processors for engine in ENGINES]
    with ThreadPoolExecutor(args.jobs) as pool:
        results = list(pool.map(lambda job: _result(*job, folder, args, references[job[1]]), jobs))
    minutes = (time.perf_counter() - began) / 60
    report = {"machine": cpu_model(), "frames": args.frames, "minutes": round(minutes, 1)}
    report["results"] = [asdict(result) for result in results]
    (folder / "results.json").write_text(json.dumps(report, indent=1) + "\n")
    if args.write is not None:
        write_page(ROOT / args.write, processors, results, report)
    bad = [result for result in results if not result.good]
    print(f"{len(results) - len(bad)} good, {len(bad)} not, in {minutes:.0f} minutes")
    return 1 if bad else 0


def _result(
    processor: Processor, engine: str, folder: Path, args: argparse.Namespace, reference: Path
) -> Result:
    result = Result(processor.name, engine)
    try:
        found = dict(np.load(_probed(processor, engine, folder, args)))
    except Exception as error:  # whatever it is, the other processors are of interest
        result.error = str(error)
        print(f"{processor.name}, {engine}: {result.error}", flush=True)
        return result
    wanted = np.load(reference)
    worst = int(np.lexsort((found["shares"], found["steps"]))[-1])
    result.about, result.layers = str(found["about"]), len(found["layers"])
    result.worst_layer, result.steps = str(found["layers"][worst]), float(found["steps"][worst])
    result.share, result.seconds = float(found["shares"].max()), float(found["seconds"])
    result.frames_equal = bool((found["digests"] == wanted["digests"]).all())
    for name in args.models:
        a, b = found[f"masks {name}"], wanted[f"masks {name}"]
        union = (a | b).sum((1, 2))
        result.iou[name] = float(((a & b).sum((1, 2)) / np.maximum(union, 1)).min())
    frames = "equal" if result.frames_equal else "DIFFER"
    print(
        f"{processor.name}, {result.about}: {result.layers} layers, at most {result.steps:.0f} "
        f"steps in {result.share:.2%}; frames {frames}; IoU "
        + ", ".join(f"{name} {value:.4f}" for name, value in result.iou.items())
        + f"; {result.seconds:.0f} s",
        flush=True,
    )
    return result


def _probed(processor: Processor, engine: str, folder: Path, args: argparse.Namespace) -> Path:
    """Return the file of what the processor computed, which is made unless it is there."""
    out = folder / f"{processor.name}-{engine}.npz"
    if out.exists() and not args.again:
        return out
    caches = folder / f"caches-{processor.name}"
    if engine == "kernels":
        room = "qsam2_deploy.engines.onnxruntime.kernels"
        build = f"from {room} import build_kernels; build_kernels(force=True)"
        processor.run(["-c", build], caches, timeout=600)
    arguments = ["-m", "tools.portable.probe", str(folder), engine, str(out)]
    arguments += ["--frames", str(args.frames), "--models", *args.models]
    processor.run(arguments, caches, timeout=3600)
    return out


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="compare emulated processors with this one")
    parser.add_argument("--folder", type=Path, default=ROOT / "build/portable")
    parser.add_argument("--write", type=Path, help="the page to write, below the repository")
    parser.add_argument("--only", nargs="+", help="names of processors")
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--frames", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--again", action="store_true", help="compute what is there already, too")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
