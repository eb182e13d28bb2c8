r"""Time and memory of a training step, in floating point and quantized, side by side.

Each kind of training runs in a process of its own, on the same generated clips, with random
weights: neither number depends on them. On a GPU the peak is that of PyTorch's allocator, on a
processor that of the whole process (``maxrss``), less what it held before the first step.

Example::

    python -m benchmarks.qat_memory sam2.1_hiera_base_plus --frames 1 --clips 2 --device cuda \
        --precision bfloat16 --checkpoint-activations --json out.json
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks._report import ROOT, add_report_options, write_report
from qsam2_deploy.cli._main import command
from qsam2_deploy.data.generated.clips import GeneratedClips
from qsam2_deploy.data.generated.config import GeneratedClipsConfig
from qsam2_deploy.errors import Qsam2Error
from qsam2_deploy.quant.architecture import (
    OFFICIAL_NAMES,
    build_model,
    effective_config,
    official_config,
    read_config,
)
from qsam2_deploy.quant.modules import LayerPlan, layers_in_scope, quantize_layers
from qsam2_deploy.training.config import (
    DistillWeights,
    PromptPolicy,
    QuantizerTraining,
    Stage,
    TrainConfig,
)
from qsam2_deploy.training.distributed import World
from qsam2_deploy.training.log import TrainingLog
from qsam2_deploy.training.loop import TrainingRun

KINDS = ("float", "quantized", "quantized, distilled")
_MEBI = 1 << 20


@command("qat_memory")
def main(argv: Sequence[str] | None = None) -> int:
    """Measure every kind and print a table."""
    args = _parser().parse_args(argv)
    if args.kind is not None:
        print(json.dumps(_measured(args)))
        return 0
    found = {kind: _in_a_process(kind, argv) for kind in KINDS}
    print(f"{'':<22}{'s per step':>12}{'peak MiB':>12}{'time':>8}{'memory':>8}")
    for kind, numbers in found.items():
        time_ratio, memory_ratio = (
            numbers[key] / found["float"][key] for key in ("seconds", "peak_mebibytes")
        )
        print(
            f"{kind:<22}{numbers['seconds']:>12.3f}{numbers['peak_mebibytes']:>12.0f}"
            f"{time_ratio:>7.2f}x{memory_ratio:>7.2f}x"
        )
    options = {name: value for name, value in vars(args).items() if name not in ("json", "kind")}
    write_report("qat_memory", {"options": options, "kinds": found}, args.json)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="qat_memory", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("model", help="official name such as sam2.1_hiera_tiny, or a YAML configuration")
    add("--size", type=int, metavar="S", help="side of the images (default: the model's own)")
    add("--frames", type=int, default=1, help="frames of a clip (default 1: images)")
    add("--clips", type=int, default=1, help="clips of a batch")
    add("--objects", type=int, default=3, help="objects of a clip")
    add("--steps", type=int, default=5, help="steps; the first is not counted")
    add("--bits", type=int, default=4, help="widths of weights and activations")
    add("--scope", default="encoder", help="encoder or all")
    add("--method", default="lsc", help="quantizer")
    add("--precision", default="float32", choices=("float32", "bfloat16"))
    add("--checkpoint-activations", action="store_true")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--kind", choices=KINDS, help=argparse.SUPPRESS)
    add_report_options(parser)
    return parser


def _in_a_process(kind: str, argv: Sequence[str] | None) -> dict[str, float]:
    arguments = list(sys.argv[1:] if argv is None else argv)
    command_line = [sys.executable, "-m", "benchmarks.qat_memory", *arguments, "--kind", kind]
    done = subprocess.run(command_line, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise Qsam2Error(f"the {kind} training failed: {reason}")
    numbers: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return numbers


def _measured(args: argparse.Namespace) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        run = _run(args, Path(folder))
        before, seconds = _reset_peak(run.world.device), []
        real: Any = run._step

        def timed(*arguments: Any) -> Any:
            _synchronise(run.world.device)
            started = time.perf_counter()
            losses = real(*arguments)
            _synchronise(run.world.device)
            seconds.append(time.perf_counter() - started)
            return losses

        run._step = timed  # type: ignore[method-assign]
        run.train()
        peak = _peak(run.world.device) - before
    return {"seconds": median(seconds[1:] or seconds), "peak_mebibytes": peak / _MEBI}


def _run(args: argparse.Namespace, folder: Path) -> TrainingRun:
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
        quantizers=QuantizerTraining(observe_first=1, freeze=0.0),
        save_every=args.steps + 1,
    )
    return TrainingRun(
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


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _reset_peak(device: torch.device) -> int:
    """Return what counts as nothing: on a GPU 0, for weights and moments are part of the peak."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return 0
    return _peak(device)


def _peak(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    raise SystemExit(main())
