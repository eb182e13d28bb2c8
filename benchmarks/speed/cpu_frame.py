"""A tracked frame on a CPU, ours beside other ways to run the same weights.

All memories are full (7 frames and 16 pointers). Each contender has a process of its own, pinned
to its processors, and they take turns frame by frame, so that other programs on the machine hit
all alike. All run in the same loop, that of our runtime; only what runs the four components
differs:

- torch: the official modules, eager, in float32 and under bfloat16 autocast.
- plain: these modules exported with ``torch.onnx``, in ONNX Runtime and in OpenVINO.
- NNCF: our float graphs for OpenVINO, quantized by NNCF after training (``pip install nncf``).
- ours: the float model and the quantized ones that are given, in ONNX Runtime with and without
  our kernels (``qsam2-build-kernels``), and in OpenVINO.

What is prepared, exports and NNCF's graphs, is kept in ``--work``.

Example::

    qsam2-calibrate tiny.pt --data FRAMES -o w8a8.pt --scope all --bits w8a8 --attention int8
    python -m benchmarks.speed.cpu_frame --checkpoint tiny.pt --quantized w8a8.pt w2a2.pt \
        --work work/ --json out.json --plot out.png
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks._report import ROOT, benchmark_parser, write_report
from benchmarks.speed._plain_backends import SPEC_FILE, PlainOpenVino, PlainOrt
from qsam2_deploy.cli._main import command
from qsam2_deploy.engines.onnxruntime.cpu import OrtBackend
from qsam2_deploy.engines.open import open_backend
from qsam2_deploy.engines.protocol import Backend
from qsam2_deploy.errors import EngineError
from qsam2_deploy.timing.measure import Timing, measure_in_turns
from qsam2_deploy.timing.steady import SteadyTracker, Stopwatch
from qsam2_deploy.timing.table import format_timings
from qsam2_deploy.timing.worker import OpenBackend

Recorded = dict[str, dict[str, npt.NDArray[Any]]]


class Recorder(Stopwatch):
    """Keeps the latest inputs of every component."""

    def __init__(self, backend: Backend) -> None:
        """Listen to ``backend``."""
        super().__init__(backend)
        self.inputs: Recorded = {}

    def run(self, component: str, inputs: Mapping[str, npt.NDArray[Any]]) -> Any:
        """Run one component."""
        self.inputs[component] = {name: np.ascontiguousarray(x) for name, x in inputs.items()}
        return super().run(component, inputs)


def torch_backend(checkpoint: Path, config: Path | None, threads: int, dtype: str) -> Any:
    """Open the official modules; imports torch where it is called."""
    from benchmarks.speed._torch_backend import TorchBackend

    return TorchBackend(checkpoint, config, threads, dtype)


class Preparation:
    """Makes the files of the contenders, those that are missing."""

    def __init__(self, args: argparse.Namespace) -> None:
        """See ``main``."""
        self.args, self.work = args, args.work
        self.work.mkdir(parents=True, exist_ok=True)

    def model(self, checkpoint: Path) -> Path:
        """Return our ``model.onnx`` of a checkpoint."""
        path = self.work / f"{checkpoint.stem}.onnx"
        if not path.exists():
            from qsam2_deploy.export import onnx_from_checkpoint

            onnx_from_checkpoint(checkpoint, path, config=self.args.config, show_progress=False)
        return path

    def inputs(self) -> Path:
        """Return a folder with the inputs of a tracked frame, ``NAME.npz``."""
        folder = self.work / "inputs"
        if not folder.exists():
            with open_backend(self.model(self.args.checkpoint), "ort", self.args.threads) as engine:
                recorder = Recorder(engine)
                SteadyTracker(recorder).step()
            folder.mkdir()
            for name, arrays in recorder.inputs.items():
                np.savez(folder / f"{name}.npz", **arrays)
        return folder

    def plain(self) -> Path:
        """Return a folder with the plain export."""
        folder = self.work / "plain"
        if not folder.exists():
            from benchmarks.speed._torch_backend import export_plain

            inputs = {path.stem: dict(np.load(path)) for path in self.inputs().iterdir()}
            export_plain(self.args.checkpoint, self.args.config, inputs, folder)
        return folder

    def nncf(self) -> Path | None:
        """Return a folder with graphs of NNCF; None if it is not installed."""
        folder = self.work / "nncf"
        if folder.exists():
            return folder
        if importlib.util.find_spec("nncf") is None:
            return None
        arguments = [self._for_openvino(), self.inputs(), folder]
        program = [sys.executable, "-W", "ignore", "-m", "benchmarks.speed._nncf"]
        subprocess.run([*program, *map(str, arguments)], check=True, cwd=ROOT)
        return folder

    def _for_openvino(self) -> Path:
        """Return a folder with our float graphs as OpenVINO gets them, of fixed shapes."""
        import onnx

        from qsam2_deploy.lowering import lower_for_openvino
        from qsam2_deploy.model_file.bundle import read_bundle
        from qsam2_deploy.onnx_graph.tensors import fix_dimensions

        folder = self.work / "float"
        if not folder.exists():
            bundle = read_bundle(self.model(self.args.checkpoint))
            folder.mkdir()
            for name, component in bundle.components.items():
                fix_dimensions(component)
                lower_for_openvino(component)
                onnx.save(component, str(folder / f"{name}.onnx"))
            (folder / SPEC_FILE).write_text(bundle.spec.to_json())
        return folder

    def contenders(self) -> dict[str, OpenBackend]:
        """Return what opens each contender; the first is what ratios refer to."""
        args = self.args
        given = (args.checkpoint.resolve(), args.config, args.threads)
        found: dict[str, OpenBackend] = {
            "torch, float32": partial(torch_backend, *given, "float32"),
            "torch, bfloat16": partial(torch_backend, *given, "bfloat16"),
            "ONNX Runtime, plain export": partial(PlainOrt, self.plain(), args.threads),
        }
        for precision in ("f32", "bf16"):
            found[f"OpenVINO {precision}, plain export"] = partial(
                PlainOpenVino, self.plain(), args.threads, precision
            )
        quantized = self.nncf()
        for precision in ("f32", "bf16") if quantized else ():
            found[f"OpenVINO {precision}, NNCF INT8"] = partial(
                PlainOpenVino, quantized, args.threads, precision
            )
        for checkpoint in (args.checkpoint, *args.quantized):
            found |= self._ours(self.model(checkpoint))
        return {name: opener for name, opener in found.items() if _wanted(name, args)}

    def _ours(self, model: Path) -> dict[str, OpenBackend]:
        """Return our own ways to run a model; ``auto`` chooses between the first two."""
        name, threads = f"ours, {model.stem}", self.args.threads
        return {
            f"{name}, ort": partial(OrtBackend, model, threads, kernels=True),
            f"{name}, openvino": partial(open_backend, model, "openvino", threads),
            f"{name}, openvino fast": partial(open_fast, model, threads),
            f"{name}, ort without kernels": partial(OrtBackend, model, threads, kernels=False),
        }


def open_fast(model: Path, threads: int) -> Backend:
    """Open a model in OpenVINO with floats of less precision.

    Raises:
        EngineError: there are none on this processor; OpenVINO would compute exactly.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        backend = open_backend(model, "openvino", threads, precision="fast")
    if getattr(backend, "precision", "") != "fast":
        raise EngineError("this processor has no bfloat16; it would be computed exactly")
    return backend


def _wanted(name: str, args: argparse.Namespace) -> bool:
    chosen = not args.only or any(part in name for part in args.only)
    return chosen and not any(part in name for part in args.skip)


def plot(timings: Mapping[str, Timing], path: Path, title: str) -> None:
    """Draw a bar for each contender, cut into its components."""
    from matplotlib.figure import Figure

    measured = {name: timing for name, timing in timings.items() if not timing.error}
    figure = Figure(figsize=(9, 1.5 + 0.42 * len(measured)), layout="constrained")
    axis = figure.subplots()
    places = list(range(len(measured), 0, -1))
    left = np.zeros(len(measured))
    for part in next(iter(measured.values())).parts:
        widths = np.array([timing.parts[part] for timing in measured.values()])
        axis.barh(places, widths, left=left, label=part.replace("_", " "))
        left += widths
    for place, timing, end in zip(places, measured.values(), left, strict=True):
        axis.text(end, place, f" {timing.milliseconds:,.0f} ms", va="center", fontsize=9)
    axis.set_yticks(places, list(measured))
    axis.set_xlim(0, 1.15 * max(left))
    axis.set_xlabel("milliseconds per tracked frame")
    axis.set_title(title, fontsize=10)
    figure.legend(frameon=False, fontsize=8, loc="outside lower center", ncols=5)
    figure.savefig(path, dpi=120)


@command("benchmarks.speed.cpu_frame")
def main(argv: Sequence[str] | None = None) -> int:
    """Prepare what is missing, measure, and print the table."""
    args = _parser().parse_args(argv)
    contenders = Preparation(args).contenders()
    timings = measure_in_turns(
        contenders, threads=args.threads, rounds=args.rounds, objects=args.objects
    )
    print(format_timings(timings))
    results = {
        "checkpoint": args.checkpoint.name,
        "threads": args.threads,
        "objects": args.objects,
        "contenders": {name: timing.to_json() for name, timing in timings.items()},
    }
    write_report("cpu_frame", results, args.json)
    if args.plot:
        plot(timings, args.plot, f"{args.checkpoint.stem}, {args.threads} thread(s)")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = benchmark_parser("benchmarks.speed.cpu_frame", __doc__)
    add = parser.add_argument
    add("--checkpoint", type=Path, required=True, help="float, for torch and all exports")
    add("--config", type=Path, help="YAML of the architecture")
    add("--quantized", type=Path, nargs="+", default=[], help="quantized checkpoints of the same")
    add("--work", type=Path, required=True, metavar="FOLDER", help="for what is prepared")
    add("--only", nargs="+", default=[], metavar="TEXT", help="contenders with this in the name")
    add("--skip", nargs="+", default=[], metavar="TEXT", help="and without this")
    add("--threads", type=int, default=1, help="of every contender (default 1)")
    add("--objects", type=int, default=1, help="tracked at once (default 1)")
    add("--rounds", type=int, default=5, help="frames of each (default 5)")
    add("--plot", type=Path, metavar="FILE", help="draw the table, .png")
    return parser


if __name__ == "__main__":
    sys.exit(main())
