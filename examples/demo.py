"""The whole pipeline in one run: checkpoint, calibration, export, segmentation, comparison.

Every stage is a command that users type; the line that is shown is what runs. The last stage, the
one for the device, runs where importing torch fails.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from _agreement import Masks, iou_per_frame, milliseconds_per_frame, read_masks
from _clip import make_clip, write_clip

from qsam2_deploy.cli._main import Parser, command
from qsam2_deploy.errors import InputError

ROOT = Path(__file__).parents[1]
SHIPPED = ROOT / "assets" / "demo.pt"
"""A trained checkpoint that names its own configuration, used where it is there."""

RANDOM_MODEL = """\
NOTE: there is no trained checkpoint here, so the demo makes a small model of random weights.
      Such a model does not segment. Its masks mean nothing; they only show that the pipeline
      runs. For real masks: --checkpoint FILE.pt [--config FILE.yaml]"""

CALIBRATION_SEED = 1
"""Of the clip to calibrate on, which is another than the one that is segmented."""

KINDS = ("float", "quantized")


class StageError(Exception):
    """A command failed; it has said why. Holds its exit status."""


@dataclass(frozen=True)
class Inputs:
    """What the demo works on.

    Attributes:
        video: what to segment.
        click: a point on the object in its first frame, ``X,Y``.
        calibration: what to calibrate on.
        truth: the exact masks, where they are known.
    """

    video: Path
    click: str
    calibration: Path
    truth: Masks | None


@command("demo")
def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; return its exit status."""
    parser = _parser()
    args = parser.parse_args(argv)
    if args.video and not args.click:
        parser.error("--video needs --click X,Y, a point on the object in the first frame")
    if args.config and not args.checkpoint:
        parser.error("--config needs --checkpoint, the model that it describes")
    if args.frames < 1:
        parser.error(f"--frames must be at least 1, but got {args.frames}")
    checkpoint = args.checkpoint or (SHIPPED if SHIPPED.exists() else None)
    _make_folder(args.output)
    if checkpoint is None:
        print(RANDOM_MODEL)
    began = time.perf_counter()
    try:
        inputs = _run(args, checkpoint)
    except StageError as error:
        return int(str(error))
    if checkpoint is None:
        inputs = replace(inputs, truth=None)
    _summary(args, inputs, time.perf_counter() - began)
    if checkpoint is None:
        print(f"\n{RANDOM_MODEL}")
    return 0


def _parser() -> Parser:
    parser = Parser("demo", "Run the whole pipeline, from a checkpoint to an overlay video.")
    add = parser.add_argument
    add("--video", type=Path, metavar="FILE", help="what to segment (default: a generated clip)")
    add("--click", metavar="X,Y", help="a point on the object in the first frame")
    add("--checkpoint", type=Path, metavar="FILE.pt", help="a SAM 2 or 2.1 checkpoint")
    add("--config", type=Path, metavar="FILE.yaml", help="its architecture, if not an official one")
    add("--bits", default="w8a8", help="widths of weights and activations (default w8a8)")
    add("--frames", type=int, default=32, metavar="N", help="frames to segment (default 32)")
    add("--output", type=Path, default=Path("demo_output"), metavar="DIR", help="what to write to")
    return parser


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {path}: {error.strerror}") from error


def _run(args: Namespace, checkpoint: Path | None) -> Inputs:
    """Run all stages."""
    out = args.output
    with _stage(1, "the video"):
        inputs = _inputs(args)
    with _stage(2, "the checkpoint"):
        checkpoint = checkpoint or _random_checkpoint(out / "random.pt")
        print(_file(checkpoint))
    config = ["--config", args.config] if args.config else []
    quantized = out / "quantized.pt"
    with _stage(3, f"calibrate: VRC, and the clips of all quantizers, at {args.bits}"):
        _call("calibrate", checkpoint, "--data", inputs.calibration, "-o", quantized,
              "--bits", args.bits, *config)  # fmt: skip
    with _stage(4, "export, as it was and quantized"):
        _call("export", checkpoint, out / "float.onnx", *config)
        _call("export", quantized, out / "quantized.onnx")
    with _stage(5, "segment with both, in processes that cannot import torch"):
        for kind in KINDS:
            _segment(kind, inputs, args)
    return inputs


def _inputs(args: Namespace) -> Inputs:
    """Take the user's video, or draw one to segment and another one to calibrate on."""
    if args.video:
        print(f"{_file(args.video)}; it is calibrated on as well")
        return Inputs(args.video, args.click, args.video, None)
    video, calibration = args.output / "clip.mp4", args.output / "calibration.mp4"
    clip = make_clip(frames=args.frames)
    write_clip(clip, video)
    write_clip(make_clip(CALIBRATION_SEED, frames=args.frames), calibration)
    print(f"{_file(video)}, drawn; its exact masks are known\n{_file(calibration)}, drawn")
    return Inputs(video, args.click or f"{clip.click[0]},{clip.click[1]}", calibration, clip.masks)


def _random_checkpoint(path: Path) -> Path:
    from _random_model import write_random_checkpoint

    write_random_checkpoint(path)
    return path


def _segment(kind: str, inputs: Inputs, args: Namespace) -> None:
    folder = args.output / kind
    folder.mkdir(exist_ok=True)
    for earlier in (folder / "masks").glob("*.png"):
        earlier.unlink()
    _call(
        "segment", inputs.video, "--model", args.output / f"{kind}.onnx",
        "--click", inputs.click, "--max-frames", args.frames,
        "--out", folder / "overlay.mp4", "--masks", folder / "masks",
        "--json", folder / "results.json", "--contact-sheet", folder / "contact_sheet.png",
        torch=False,
    )  # fmt: skip


def _call(name: str, *arguments: object, torch: bool = True) -> None:
    """Run the command ``qsam2-<name>`` in a process of its own.

    Raises:
        StageError: it failed.
    """
    words = [str(argument) for argument in arguments]
    print(f"$ {shlex.join([f'qsam2-{name}', *words])}", flush=True)
    hide = "" if torch else "sys.modules['torch'] = None; "
    code = f"import sys; {hide}from qsam2_deploy.cli.{name} import main; sys.exit(main())"
    # Threads that spin while they wait make PyTorch ten times slower where cores are shared.
    environment = {"OMP_WAIT_POLICY": "passive", **os.environ}
    command_line = [sys.executable, "-c", code, *words]
    status = subprocess.run(command_line, env=environment, check=False).returncode
    if status:
        raise StageError(status)


@contextmanager
def _stage(number: int, title: str) -> Iterator[None]:
    print(f"\n[{number}/6] {title}", flush=True)
    began = time.perf_counter()
    yield
    print(f"      {time.perf_counter() - began:.1f} s", flush=True)


def _summary(args: Namespace, inputs: Inputs, seconds: float) -> None:
    """Compare both runs, and say where everything is."""
    out = args.output
    print(f"\n[6/6] compare: float and {args.bits}")
    masks = {kind: read_masks(out / kind / "masks") for kind in KINDS}
    _print_agreement(iou_per_frame(masks["float"], masks["quantized"]).tolist())
    print(f"\n{'':30}{'float':>12}{args.bits:>12}")
    for title, values in _rows(out, masks, inputs.truth):
        print(f"{title:30}{values[0]:>12}{values[1]:>12}")
    print(f"\nDone in {seconds:.0f} s. What is in {out}/:")
    for name, text in (
        ("quantized.pt", "the calibrated checkpoint"),
        ("float.onnx, quantized.onnx", "the models for the device"),
        ("quantized/overlay.mp4", "the video with its masks"),
        ("quantized/contact_sheet.png", "the same at a glance"),
        ("quantized/masks/", "one PNG per frame"),
        ("quantized/results.json", "scores, areas, boxes and times"),
        ("float/", "the same of the float model"),
    ):
        print(f"  {name:30}{text}")


def _print_agreement(ious: list[float]) -> None:
    print("overlap (IoU) of the two masks on each frame:")
    for start in range(0, len(ious), 8):
        row = " ".join(f"{value:.3f}" for value in ious[start : start + 8])
        print(f"  frame {start:3}: {row}")
    print(f"  mean {sum(ious) / len(ious):.3f}, worst {min(ious):.3f}")


def _rows(
    out: Path, masks: dict[str, Masks], truth: Masks | None
) -> Iterator[tuple[str, list[str]]]:
    """Yield a title and one value for each of ``KINDS``."""
    sizes = [(out / f"{kind}.onnx").stat().st_size for kind in KINDS]
    yield "size of the model", [f"{size / 1e6:.1f} MB" for size in sizes]
    times = [milliseconds_per_frame(out / kind / "results.json") for kind in KINDS]
    yield "time of a frame (median)", [f"{value:.0f} ms" for value in times]
    if truth is not None:
        seen = truth.any(axis=(1, 2))
        overlaps = [iou_per_frame(masks[kind], truth)[seen].mean() for kind in KINDS]
        yield "IoU with the exact masks", [f"{value:.3f}" for value in overlaps]


def _file(path: Path) -> str:
    return f"{path} ({path.stat().st_size / 1e6:.1f} MB)" if path.exists() else str(path)


if __name__ == "__main__":
    raise SystemExit(main())
