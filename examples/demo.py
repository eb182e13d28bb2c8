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
from dataclasses import dataclass
from pathlib import Path

import _clip
from _agreement import Masks, frames_per_second, iou_per_frame, read_masks, score

from qsam2_deploy.cli._main import Parser, command
from qsam2_deploy.errors import InputError
from qsam2_deploy.media.prompting.prompt_flags import prompts_from_flags
from qsam2_deploy.media.prompting.prompts import validate_prompt
from qsam2_deploy.media.reading.sources import open_frames

ROOT = Path(__file__).parents[1]
SHIPPED = ROOT / "assets" / "demo.pt"
"""A trained checkpoint that names its own configuration, used where it is there."""

TRAINED = ROOT / "assets"
"""Folder of ``demo-w2a2.pt`` and others: the shipped checkpoint, trained at these widths."""

RANDOM_MODEL = """\
NOTE: there is no trained checkpoint here, so the demo makes a small model of random weights.
      Such a model does not segment. Its masks mean nothing; they only show that the pipeline
      runs. For real masks: --checkpoint FILE.pt [--config FILE.yaml]"""

IMAGES = 20
"""How many frames to calibrate on."""

KINDS = ("float", "quantized")


class StageError(Exception):
    """A command failed; it has said why. Holds its exit status."""


@dataclass(frozen=True)
class Inputs:
    """What the demo works on.

    Attributes:
        video: what to segment; the model is calibrated on it as well, without any labels.
        prompt: flag and value that show the object in its first frame.
        truth: the folder of its exact masks, where they are known.
    """

    video: Path
    prompt: tuple[str, str]
    truth: Path | None = None


@command("demo")
def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; return its exit status."""
    args = _checked_arguments(argv)
    checkpoint = args.checkpoint or (_from_here(SHIPPED) if SHIPPED.exists() else None)
    inputs = _inputs(args)
    _make_folder(args.output)
    if checkpoint is None:
        print(RANDOM_MODEL)
    began = time.perf_counter()
    try:
        _run(args, inputs, checkpoint)
    except StageError as error:
        return int(str(error))
    _summary(args, inputs, None if checkpoint is None else inputs.truth)
    print(f"\nDone in {time.perf_counter() - began:.0f} s. What is in {args.output}/:")
    _print_files(args.output)
    if checkpoint is None:
        print(f"\n{RANDOM_MODEL}")
    return 0


def _checked_arguments(argv: Sequence[str] | None) -> Namespace:
    parser = Parser("demo", "Run the whole pipeline, from a checkpoint to an overlay video.")
    add = parser.add_argument
    add("--video", type=Path, metavar="FILE", help="what to segment (default: the demo's own clip)")
    add("--click", metavar="X,Y", help="a point on the object in the first frame, in pixels")
    add("--box", metavar="X1,Y1,X2,Y2", help="a box around it instead")
    add("--checkpoint", type=Path, metavar="FILE.pt", help="a SAM 2 or 2.1 checkpoint")
    add("--config", type=Path, metavar="FILE.yaml", help="its architecture, if not an official one")
    add("--bits", default="w8a8", help="widths of weights and activations (default w8a8)")
    add(
        "--image-size", type=int, metavar="S", help="pixels of the model's input (default: its own)"
    )
    add("--frames", type=int, default=120, metavar="N", help="most frames to segment (default 120)")
    add("--output", type=Path, default=Path("demo_output"), metavar="DIR", help="what to write to")
    args = parser.parse_args(argv)
    if args.video and not (args.click or args.box):
        parser.error(
            "--video needs --click X,Y, a point on the object in the first frame, or --box"
        )
    if args.click and args.box:
        parser.error("--click and --box both say where the object is; give one")
    if args.config and not args.checkpoint:
        parser.error("--config needs --checkpoint, the model that it describes")
    if args.frames < 2:
        parser.error(f"--frames must be at least 2, to track something, but got {args.frames}")
    return args


def _inputs(args: Namespace) -> Inputs:
    """Return what to segment, once it is clear that it can be read and holds the prompt.

    Raises:
        VideoError: the video cannot be read.
        PromptError: the click or box is none, or outside of the frame.
    """
    video = args.video or _from_here(_clip.VIDEO)
    flag, text = ("--box", args.box) if args.box else ("--click", args.click or _clip.CLICK)
    prompts = prompts_from_flags(boxes=[text]) if args.box else prompts_from_flags([text])
    with open_frames(video) as frames:
        height, width = next(iter(frames)).shape[:2]
    for item in prompts:
        validate_prompt(item.prompt, height, width)
    known = not (args.video or args.click or args.box)
    return Inputs(video, (flag, text), _clip.MASKS if known else None)


def _from_here(path: Path) -> Path:
    """Return ``path`` as users would type it, if it is in the working folder."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {path}: {error.strerror}") from error


def _run(args: Namespace, inputs: Inputs, checkpoint: Path | None) -> None:
    """Run all stages but the last, the comparison."""
    out, trained = args.output, _trained(args)
    quantized = trained or out / "quantized.pt"
    with _stage(1, "the video and the checkpoint"):
        checkpoint = checkpoint or _random_checkpoint(out / "random.pt")
        print(f"{_file(inputs.video)}\n{_file(checkpoint)}")
    config = ["--config", args.config] if args.config else []
    if trained:
        with _stage(2, f"no calibration: the model was trained at {args.bits} already"):
            print(_file(trained))
            (out / "quantized.pt").unlink(missing_ok=True)  # of an earlier run at other widths
    else:
        with _stage(2, f"calibrate to {args.bits}, on frames of the video, without labels"):
            _call("calibrate", checkpoint, "--data", inputs.video, "-o", quantized,
                  "--bits", args.bits, "--images", IMAGES, *config)  # fmt: skip
    with _stage(3, "export, as it was and quantized"):
        size = ["--image-size", args.image_size] if args.image_size else []
        _call("export", checkpoint, out / "float.onnx", *config, *size)
        _call("export", quantized, out / "quantized.onnx", *size)
    with _stage(4, "segment with both, in processes that cannot import torch"):
        for kind in KINDS:
            _segment(kind, inputs, args)


def _trained(args: Namespace) -> Path | None:
    """Return the shipped checkpoint of the wanted widths, if there is one."""
    path = TRAINED / f"demo-{args.bits}.pt"
    return _from_here(path) if args.checkpoint is None and path.exists() else None


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
        *inputs.prompt, "--max-frames", args.frames,
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
    status = run_command(name, words, torch=torch)
    if status:
        raise StageError(status)


def run_command(name: str, words: Sequence[str], *, torch: bool) -> int:
    """Run a command in a new process and return its exit status.

    Args:
        name: without ``qsam2-``.
        words: its arguments.
        torch: whether it may import torch.
    """
    hide = "" if torch else "sys.modules['torch'] = None; "
    code = f"import sys; {hide}from qsam2_deploy.cli.{name} import main; sys.exit(main())"
    # Threads that spin while they wait make PyTorch ten times slower where cores are shared.
    environment = {"OMP_WAIT_POLICY": "passive", **os.environ}
    line = [sys.executable, "-c", code, *words]
    return subprocess.run(line, env=environment, check=False).returncode


@contextmanager
def _stage(number: int, title: str) -> Iterator[None]:
    print(f"\n[{number}/5] {title}", flush=True)
    began = time.perf_counter()
    yield
    print(f"      {time.perf_counter() - began:.1f} s", flush=True)


def _summary(args: Namespace, inputs: Inputs, truth_folder: Path | None) -> None:
    """Print how both models did, side by side."""
    out = args.output
    print(f"\n[5/5] compare: float and {args.bits}")
    masks = {kind: read_masks(out / kind / "masks") for kind in KINDS}
    count = len(masks["float"])
    truth = None if truth_folder is None else read_masks(truth_folder, count)
    print(f"\n{'':30}{'float':>12}{args.bits:>12}\n{'-' * 54}")
    for title, values in _rows(out, masks, truth):
        print(f"{title:30}{values[0]:>12}{values[1]:>12}")
    ious = iou_per_frame(masks["float"], masks["quantized"])
    worst = ious.index(min(ious))
    print(
        f"\nThe masks of the two overlap (IoU) by {sum(ious) / count:.3f} on average, "
        f"and by {ious[worst]:.3f} in frame {worst}, where they differ most."
    )
    if truth is not None:
        print(_about_scores(truth))
    elif inputs.truth is None:
        print("How good the masks are has no number: the true ones of this video are not known.")


def _rows(
    out: Path, masks: dict[str, Masks], truth: Masks | None
) -> Iterator[tuple[str, list[str]]]:
    """Yield a title and one value for each of ``KINDS``."""
    if truth is not None:
        scores = [score(masks[kind], truth) for kind in KINDS]
        yield "J&F, percent", [f"{item.j_and_f:.1f}" for item in scores]
        yield "  J, overlap of the masks", [f"{item.j:.1f}" for item in scores]
        yield "  F, match of their outlines", [f"{item.f:.1f}" for item in scores]
    sizes = [(out / f"{kind}.onnx").stat().st_size for kind in KINDS]
    yield "size of model.onnx", [f"{size / 1e6:.1f} MB" for size in sizes]
    rates = [frames_per_second(out / kind / "results.json") for kind in KINDS]
    yield "frames per second", [f"{rate:.1f}" for rate in rates]


def _about_scores(truth: Masks) -> str:
    areas = truth.sum(axis=(1, 2))
    least = areas.min() / areas.max()
    return (
        f"J and F as DAVIS defines them, on the {len(truth) - 1} frames after the one with the "
        f"click, by exact masks.\nAt its least, {least:.0%} of the object is seen."
    )


def _print_files(out: Path) -> None:
    for name, text in (
        ("quantized/overlay.mp4", "the video with its masks"),
        ("quantized/contact_sheet.png", "the same at a glance"),
        ("quantized/masks/", "one PNG per frame"),
        ("quantized/results.json", "scores, areas, boxes and times"),
        ("float/", "the same of the float model"),
        ("quantized.pt", "the calibrated checkpoint"),
        ("float.onnx, quantized.onnx", "the models for the device"),
    ):
        if name != "quantized.pt" or (out / name).exists():
            print(f"  {name:30}{text}")


def _file(path: Path) -> str:
    return f"{path} ({path.stat().st_size / 1e6:.1f} MB)" if path.is_file() else str(path)


if __name__ == "__main__":
    raise SystemExit(main())
