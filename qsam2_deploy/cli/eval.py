"""``qsam2-eval``: score a model, or the masks of an earlier run, against ground truth."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from ._main import EXIT_OK, Parser, add_engine_options, add_memory_frames, command, require
from ._names import add_sequences, sequence_names

if TYPE_CHECKING:
    from ..evaluation.model import Model
    from ..evaluation.run import DatasetKind, EvaluationConfig

NAME = "qsam2-eval"

_DESCRIPTION = """\
Score a model on annotated videos or images: J (region), F (boundary) and J&F, in percent.

MODEL is a model.onnx made by qsam2-export, a model.engine, a PyTorch checkpoint as qsam2-export
takes it (float or quantized, which runs in the official predictor), or a folder of PNG masks that
any program wrote:
DIR/<sequence>/00000.png with object numbers, or DIR/<sequence>/<object>/00000.png; either may be
in DIR/<sequence>/masks, where qsam2-batch --masks masks writes it."""

_EPILOG = """\
datasets:
  --davis ROOT   ROOT/JPEGImages/480p/<sequence>/*.jpg and ROOT/Annotations/480p/<sequence>/*.png;
                 rules of DAVIS 2016 and of DAVIS 2017 semi-supervised
  --sa-v ROOT    ROOT/JPEGImages_24fps/<video>/*.jpg and ROOT/Annotations_6fps/<video>/<object>/
                 *.png, or the training set's <video>.mp4 with <video>_manual.json
  --images ROOT  ROOT/images/* with ROOT/masks/<name>.png or ROOT/masks/<name>/<object>.png, or
                 SA-1B's <name>.jpg with <name>.json; J is the intersection over union (mIoU)
  --manifest FILE  the manifest of qsam2-batch, with "annotations" for each video: a folder of masks
                 as DAVIS has them, and the rules of DAVIS

prompts, made from the ground truth of the first frame that shows the object:
  mask   the mask itself (for videos; the default there)
  click  one click on the pixel that is farthest from the mask's outside (default for images)
  box    the tight box of the mask

examples:
  qsam2-eval model.onnx --davis DAVIS --json davis.json
  qsam2-eval model.onnx --davis DAVIS --sequences blackswan,dog --prompt click --plot worst.png
  qsam2-eval model.onnx --davis DAVIS --sequences val --save-masks masks
  qsam2-eval masks --davis DAVIS --sequences val
  qsam2-eval sam2.1_hiera_tiny.pt --sa-v sav_val --threads 8 --json sav.json
  qsam2-eval model.onnx --images photos --prompt box
  qsam2-eval out --manifest videos.jsonl

Frames per second count the model alone, not the reading of files."""


@command(NAME)
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    args = command_parser().parse_args(argv)
    # Imported here, so that --help needs nothing but Python.
    from ..evaluation.run import EvaluationConfig, run_evaluation
    from ..evaluation.table import format_table

    dataset, root = _dataset(args)
    config = EvaluationConfig(
        args.model,
        dataset,
        root,
        sequences=sequence_names(args.sequences),
        prompt=args.prompt,
        resolution=args.resolution,
        backend=args.backend,
        threads=args.threads,
        precision=args.precision,
        memory_frames=args.memory_frames,
        model_config=args.config,
        json_path=args.json,
        masks_dir=args.save_masks,
        plot_path=args.plot,
        show_progress=False if args.quiet else None,
    )
    evaluation = run_evaluation(config, _open_checkpoint)
    if not args.quiet:
        print(format_table(evaluation))
    return EXIT_OK


def _open_checkpoint(config: EvaluationConfig, exclusive: bool) -> AbstractContextManager[Model]:
    require(["torch", "sam2"], "train", "evaluating a PyTorch checkpoint")
    from ..quant.checkpoints.official_predictor import OfficialModel

    return OfficialModel(
        config.model, exclusive=exclusive, config=config.model_config, threads=config.threads
    )


def command_parser() -> Parser:
    """Return the parser of the command."""
    parser = Parser(NAME, _DESCRIPTION, _EPILOG)
    parser.add_argument("model", metavar="MODEL", type=Path, help="model, checkpoint or PNG folder")
    group = parser.add_argument_group("what to evaluate on, exactly one")
    dataset = group.add_mutually_exclusive_group(required=True)
    dataset.add_argument("--davis", type=Path, metavar="ROOT", help="DAVIS 2016 or 2017 layout")
    dataset.add_argument("--sa-v", type=Path, metavar="ROOT", help="SA-V layout")
    dataset.add_argument("--images", type=Path, metavar="ROOT", help="images with masks")
    dataset.add_argument("--manifest", type=Path, metavar="FILE", help="videos with masks")
    which = parser.add_argument_group("which part")
    add_sequences(which)
    results = parser.add_argument_group("results, besides the table")
    results.add_argument("--json", type=Path, metavar="FILE", help="all scores and settings")
    results.add_argument("--save-masks", type=Path, metavar="DIR", help="a PNG mask per frame")
    results.add_argument(
        "--plot",
        type=Path,
        metavar="FILE",
        help="picture of each object's worst frame, .png: the truth outlined, the result filled",
    )
    how = parser.add_argument_group("how")
    how.add_argument("--prompt", choices=("mask", "click", "box"), help="see below")
    add_engine_options(how)
    add_memory_frames(how)
    how.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="YAML file of a checkpoint's architecture, if it is no official one",
    )
    how.add_argument("--quiet", action="store_true", help="no progress bar, no table")
    return parser


def _dataset(args: Namespace) -> tuple[DatasetKind, Path]:
    if args.davis is not None:
        return "davis", args.davis
    if args.sa_v is not None:
        return "sa-v", args.sa_v
    if args.manifest is not None:
        return "manifest", args.manifest
    return "images", args.images


if __name__ == "__main__":
    raise SystemExit(main())
