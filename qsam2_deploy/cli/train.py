"""``qsam2-train``: train a SAM2 model, in floating point or quantized."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ._main import CHECKPOINT_HELP, EXIT_OK, Parser, command, require
from ._names import sequence_names

if TYPE_CHECKING:
    from ..data.sample import VideoSequence

NAME = "qsam2-train"

_DESCRIPTION = """\
Train a SAM2 model: a quantized checkpoint, or a float model from a recipe.

QUANTIZED.pt (of qsam2-calibrate) is trained with its quantizers in place; the result goes through
qsam2-export as it did. With --teacher it also learns what the float model would say, which needs
no labels. The recipe is a built-in one, recipes/qat.yaml, unless --recipe names another.

RECIPE.yaml trains in floating point: from random weights, or from a checkpoint (--init).

A recipe holds the stages: images first, then clips, with clicks, boxes, masks and correction
clicks as prompts. Clips are generated, and cut from videos and images if there are any."""

_EPILOG = """\
examples:
  qsam2-train tiny_w4a4.pt --teacher sam2.1_hiera_tiny.pt --davis DAVIS -o trained.pt
  qsam2-train tiny_w4a4.pt --teacher sam2.1_hiera_tiny.pt --video street.mp4 -o trained.pt
  qsam2-train recipes/demo.yaml --davis DAVIS --sequences dog,cows -o mine.pt --half
  qsam2-train recipe.yaml --init sam2.1_hiera_tiny.pt --sa-v sav_train -o tuned.pt --device cuda
  qsam2-train recipe.yaml --davis DAVIS --preview clips.png
  qsam2-train recipe.yaml -o mine.pt --resume
  torchrun --nproc-per-node 8 -m qsam2_deploy.cli.train recipe.yaml --davis DAVIS -o mine.pt

Beside FILE.pt appear FILE.state (to resume), FILE.log.jsonl and FILE.curves.png."""


@command(NAME)
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    args = command_parser().parse_args(argv)
    # Imported here, so that --help needs nothing but Python.
    require(("torch", "sam2", "cv2", "matplotlib", "yaml"), "train", "training")
    from ..data.clips.unlabelled import unlabelled_sequence
    from ..training.recipe import read_recipe
    from ..training.run.preview import draw_preview
    from ..training.train import TrainJob, sized_recipe, train_model

    recipe = read_recipe(_recipe(args))
    output = args.preview or _output(args)
    validation = _validation(args)
    sequences = _sequences(args, left_out={sequence.name for sequence in validation})
    job = TrainJob(
        recipe=replace(recipe, train=recipe.train.scaled(args.scale)),
        output=output,
        init=args.init,
        quantized=None if _is_recipe(args.start) else args.start,
        teacher=args.teacher,
        sequences=sequences,
        validation=validation,
        resume=args.resume,
        device=args.device,
        half=args.half,
        unlabelled=[unlabelled_sequence(path) for path in args.video or ()],
    )
    if args.preview:
        found = draw_preview(sized_recipe(job), sequences, output, job.unlabelled)
        print(f"wrote {found}")
        return EXIT_OK
    written = train_model(job)
    if written is not None:  # only the first process writes it
        print(f"wrote {written}")
    return EXIT_OK


def command_parser() -> Parser:
    """Return the parser of the command."""
    parser = Parser(NAME, _DESCRIPTION, _EPILOG)
    add = parser.add_argument
    add(
        "start",
        metavar="QUANTIZED.pt|RECIPE.yaml",
        type=Path,
        help="quantized checkpoint to train, or recipe of a float training",
    )
    add("-o", "--output", metavar="FILE", type=Path, help="trained checkpoint, .pt")
    add("--preview", metavar="FILE", type=Path, help="only draw the first clips of each stage")
    add("--recipe", metavar="FILE", type=Path, help="stages for the quantized checkpoint, .yaml")
    add(
        "--teacher",
        metavar="FILE",
        type=Path,
        help="float model for the quantized one to follow, as --init",
    )
    add(
        "--init",
        metavar="FILE",
        type=Path,
        help=f"what a recipe starts from, instead of random weights; {CHECKPOINT_HELP}",
    )
    add("--davis", metavar="ROOT", type=Path, help="train on videos in the DAVIS layout")
    add("--sequences", metavar="A,B", help="DAVIS sequences: names, a split, or a file")
    add("--sa-v", metavar="ROOT", type=Path, help="train on videos in the SA-V layout")
    add("--images", metavar="ROOT", type=Path, help="train on images with masks")
    add(
        "--video",
        metavar="PATH",
        type=Path,
        action="append",
        help="train on a video or folder of frames without labels, with --teacher (repeatable)",
    )
    add(
        "--validate", metavar="A,B", help="DAVIS sequences to score while training, not to train on"
    )
    add("--resume", action="store_true", help="continue the run whose state is beside FILE")
    add("--scale", type=float, default=1.0, metavar="X", help="do X times the steps of each stage")
    add("--half", action="store_true", help="store weights in half precision")
    add("--device", help="cpu or cuda (default: cuda where there is a GPU)")
    return parser


def _is_recipe(path: Path) -> bool:
    return path.suffix.lower() in (".yaml", ".yml")


def _recipe(args: Namespace) -> Path:
    """Return the path of the recipe, and refuse options of the other kind of training."""
    from ..errors import InputError
    from ..training.recipe import default_qat_recipe

    if not _is_recipe(args.start):
        if args.init is not None:
            raise InputError(
                f"--init is for float training with a recipe, but {args.start} is a checkpoint; "
                "leave --init out"
            )
        return Path(args.recipe or default_qat_recipe())
    if args.recipe is not None:
        raise InputError(
            f"{args.start} is a recipe already; give --recipe together with a quantized checkpoint"
        )
    return Path(args.start)


def _output(args: Namespace) -> Path:
    from ..errors import InputError

    if args.output is None:
        raise InputError(
            "no output was named; give the trained checkpoint with -o FILE.pt, or only look at "
            "the clips with --preview FILE.png"
        )
    return Path(args.output)


def _sequences(args: Namespace, *, left_out: set[str]) -> list[VideoSequence]:
    from ..data.datasets.davis import davis_sequences
    from ..data.datasets.image_set import image_set
    from ..data.datasets.sav import sav_sequences
    from ..errors import InputError

    if args.sequences and not args.davis:
        raise InputError("--sequences names DAVIS sequences; give their folder with --davis")
    found: list[VideoSequence] = []
    if args.davis:
        found += davis_sequences(args.davis, sequence_names(args.sequences))
    if args.sa_v:
        found += sav_sequences(args.sa_v)
    if args.images:
        found += image_set(args.images)
    return [sequence for sequence in found if sequence.name not in left_out]


def _validation(args: Namespace) -> list[VideoSequence]:
    from ..data.datasets.davis import davis_sequences
    from ..errors import InputError

    names = sequence_names(args.validate)
    if names and not args.davis:
        raise InputError("--validate names DAVIS sequences; give their folder with --davis")
    return list(davis_sequences(args.davis, names)) if names else []


if __name__ == "__main__":  # for torchrun -m
    raise SystemExit(main())
