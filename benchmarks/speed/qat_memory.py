r"""Time and memory of a training step, in floating point and quantized, side by side.

Each kind of training runs in a process of its own, on the same generated clips, with random
weights: neither number depends on them.

A step is timed whole: forward and backward pass, the optimizer, statistics of the quantizers, the
look at their clips, and the average; only clips are made beforehand. Every fourth step updates
statistics, so those and the others have a median each, and the time per step is the mean of the
two by their shares. The first step, which also allocates, is not counted.

On a GPU the peak is that of PyTorch's allocator, weights and moments included. On a processor it is
that of the whole process, less what it held before the first step; what it held in all, on whatever
device, is beside it.

Example::

    python -m benchmarks.speed.qat_memory sam2.1_hiera_base_plus --frames 1 --clips 2 \
        --device cuda --precision bfloat16 --checkpoint-activations --json out.json
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks._report import ROOT, benchmark_parser, write_report
from qsam2_deploy.cli._main import command, whole_number
from qsam2_deploy.data.generated.clips import GeneratedClips
from qsam2_deploy.data.generated.config import GeneratedClipsConfig
from qsam2_deploy.errors import Qsam2Error
from qsam2_deploy.quant.checkpoints.architecture import (
    OFFICIAL_NAMES,
    build_model,
    effective_config,
    official_config,
    read_config,
)
from qsam2_deploy.quant.layers.modules import LayerPlan, layers_in_scope, quantize_layers
from qsam2_deploy.timing.worker import resident_memory
from qsam2_deploy.training.config import (
    DistillWeights,
    PromptPolicy,
    QuantizerTraining,
    Stage,
    TrainConfig,
)
from qsam2_deploy.training.distributed import World
from qsam2_deploy.training.inputs.batch import ClipBatch
from qsam2_deploy.training.model.losses import Losses
from qsam2_deploy.training.run.log import TrainingLog
from qsam2_deploy.training.run.loop import TrainingRun

KINDS = ("float", "quantized", "quantized, distilled")
_QUANTIZERS = QuantizerTraining(observe_first=1, freeze=0.0)
_LEAST_STEPS = 1 + 2 * _QUANTIZERS.observe_every
"""One that is not counted, and two periods of the statistics; the last step looks at the clips."""

_MEBI = 1 << 20


@command("qat_memory")
def main(argv: Sequence[str] | None = None) -> int:
    """Measure every kind and print a table."""
    args = _parser().parse_args(argv)
    if args.kind is not None:
        print(json.dumps(_measured(args)))
        return 0
    found = {kind: _in_a_process(kind, argv) for kind in KINDS}
    _print_table(found)
    options = {name: value for name, value in vars(args).items() if name not in ("json", "kind")}
    write_report("qat_memory", {"options": options, "kinds": found}, args.json)
    return 0


def _print_table(found: Mapping[str, Mapping[str, float]]) -> None:
    heads = ("s per step", "observing", "others", "peak MiB", "process MiB", "time", "memory")
    print(f"{'':<22}" + "".join(f"{head:>12}" for head in heads))
    columns = ("seconds", "seconds_observing", "seconds_others")
    for kind, numbers in found.items():
        times = "".join(f"{numbers[column]:>12.3f}" for column in columns)
        peaks = "".join(f"{numbers[c]:>12.0f}" for c in ("peak_mebibytes", "process_mebibytes"))
        ratios = "".join(
            f"{numbers[column] / found[KINDS[0]][column]:>11.2f}x"
            for column in ("seconds", "peak_mebibytes")
        )
        print(f"{kind:<22}{times}{peaks}{ratios}")


def _parser() -> argparse.ArgumentParser:
    parser = benchmark_parser("benchmarks.speed.qat_memory", __doc__)
    add = parser.add_argument
    add("model", help="official name such as sam2.1_hiera_tiny, or a YAML configuration")
    add("--size", type=int, metavar="S", help="side of the images (default: the model's own)")
    add("--frames", type=int, default=1, help="frames of a clip (default 1: images)")
    add("--clips", type=int, default=1, help="clips of a batch")
    add("--objects", type=int, default=3, help="objects of a clip")
    add(
        "--steps",
        type=whole_number(_LEAST_STEPS),
        default=_LEAST_STEPS,
        help=f"steps, from {_LEAST_STEPS} (default); the first is not counted",
    )
    add("--bits", type=int, default=4, help="widths of weights and activations")
    add("--scope", default="encoder", help="encoder or all")
    add("--method", default="lsc", help="quantizer")
    add("--precision", default="float32", choices=("float32", "bfloat16"))
    add("--checkpoint-activations", action="store_true")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--kind", choices=KINDS, help=argparse.SUPPRESS)
    return parser


def _in_a_process(kind: str, argv: Sequence[str] | None) -> dict[str, float]:
    arguments = list(sys.argv[1:] if argv is None else argv)
    command_line = [sys.executable, "-m", "benchmarks.speed.qat_memory", *arguments, "--kind", kind]
    done = subprocess.run(command_line, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise Qsam2Error(f"the {kind} training failed: {reason}")
    numbers: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return numbers


class _TimedRun(TrainingRun):
    """Takes the time of each step, from the batch on the device to the updated average."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.seconds: list[float] = []
        self._started = 0.0

    def _step(self, stage: Stage, batch: ClipBatch) -> Losses:
        self._started = self._now()
        return super()._step(stage, batch)

    def _end_step(self, batch: ClipBatch) -> list[str]:
        notes = super()._end_step(batch)
        self.seconds.append(self._now() - self._started)
        return notes

    def _now(self) -> float:
        if self.world.device.type == "cuda":
            torch.cuda.synchronize(self.world.device)
        return time.perf_counter()


def _measured(args: argparse.Namespace) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        run = _run(args, Path(folder))
        before, _ = resident_memory()
        if run.world.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(run.world.device)
        run.train()
    _, process = resident_memory()
    on_gpu = run.world.device.type == "cuda"
    peak = torch.cuda.max_memory_allocated(run.world.device) if on_gpu else process - before
    return {
        **times(run.seconds, _QUANTIZERS.observe_every),
        "peak_mebibytes": peak / _MEBI,
        "process_mebibytes": process / _MEBI,
    }


def times(seconds: Sequence[float], period: int) -> dict[str, float]:
    """Return the seconds per step of a run, and those of the two kinds of steps, all but the first.

    Args:
        seconds: of each step, from step 0.
        period: every step whose number it divides updates statistics.
    """
    counted = list(enumerate(seconds))[1:]
    observing = median(value for step, value in counted if step % period == 0)
    others = median(value for step, value in counted if step % period)
    return {
        "seconds": (observing + (period - 1) * others) / period,
        "seconds_observing": observing,
        "seconds_others": others,
    }


def _run(args: argparse.Namespace, folder: Path) -> _TimedRun:
    torch.manual_seed(0)
    named = args.model in OFFICIAL_NAMES
    config = effective_config(
        official_config(args.model) if named else read_config(args.model), args.size
    )
    distilled = args.kind == KINDS[2]
    model: Any = build_model(config)
    if args.kind != KINDS[0]:
        _quantize(model, args)
    stage = Stage(
        "steps",
        steps=args.steps,
        frames=args.frames,
        clips=args.clips,
        objects=args.objects,
        image_size=int(model.image_size),
        prompts=PromptPolicy(points=0.0, corrections=0),
        distill=DistillWeights(features=1.0, masks=1.0) if distilled else DistillWeights(),
    )
    train = TrainConfig(
        stages=(stage,),
        precision=args.precision,
        checkpoint_activations=args.checkpoint_activations,
        quantizers=_QUANTIZERS,
        save_every=args.steps + 1,
    )
    return _TimedRun(
        config=train,
        sam2=model,
        inputs={},
        sources={"generated": GeneratedClips(GeneratedClipsConfig(textures=4))},
        world=World(0, 1, torch.device(args.device)),
        state_path=folder / "run.state",
        log=TrainingLog(folder / "run.log.jsonl", quiet=True),
        teacher=build_model(config) if distilled else None,
    )


def _quantize(model: Any, args: argparse.Namespace) -> None:
    """Quantize with clips of the right order; a calibration would give the same costs."""
    plan = LayerPlan(args.bits, args.bits, args.method)
    layers = quantize_layers(model, dict.fromkeys(layers_in_scope(model, args.scope), plan))
    for layer in layers.values():
        rows = layer.weight_rows().detach()
        layer.weight_quantizer.warm_start(2 * rows.std(1), rows.std(1), rows.mean(1))
        layer.input_quantizer.warm_start(*(torch.tensor(v) for v in (2.0, 1.0, 0.0)))


if __name__ == "__main__":
    raise SystemExit(main())
