"""``qsam2-batch``: segment many videos, on this machine or on a Ray cluster."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..media.writing.result_format import format_helps
from ._main import (
    EXIT_ERROR,
    EXIT_INTERRUPTED,
    EXIT_OK,
    Parser,
    add_engine_options,
    add_memory_frames,
    command,
    whole_number,
)
from ._names import add_sequences, sequence_names

if TYPE_CHECKING:
    from ..batch.jobs import Job
    from ..batch.summary import BatchSummary

NAME = "qsam2-batch"
EXIT_SOME_FAILED = 1

_DESCRIPTION = """\
Segment many videos, several at the same time. Those that are finished are skipped, so a run that
was interrupted goes on where it stopped.

VIDEOS is a manifest with one JSON object per line, or a folder of videos and folders of images."""

_EPILOG = """\
manifest, paths relative to it:
  {"video": "cat.mp4", "prompts": [{"points": [[320, 240]]}]}
  {"video": "dog.mp4", "prompts": "dog.json", "name": "dog-1", "start": 50, "max_frames": 100}
  {"video": "frames/car", "annotations": "masks/car"}
  "prompts" is the list of a prompts file (see qsam2-segment), or the name of one; "annotations" is
  a folder of masks as DAVIS has them, of which each object's first one is the prompt.

folder:
  the prompts of cat.mp4 are in cat.json beside it, or the same for all: --click, --box, ...

results:
  DIR/<name>/ with the outputs that were asked for, and finished.json; DIR/summary.csv with a line
  for each video. Results are made again when the video, its prompts, the model or an option of the
  results has changed. DIR may be a URL that fsspec knows, such as s3://bucket/folder.

examples:
  qsam2-batch videos.jsonl --model model.onnx -o out --masks masks --json results.json
  qsam2-batch videos --model model.onnx -o out --click 320,240 --overlay overlay.mp4 --workers 4
  qsam2-batch --davis DAVIS --sequences val --model model.onnx -o out --masks masks
  qsam2-batch videos.jsonl --model model.onnx -o s3://bucket/out --masks masks --address auto

Exit status: 0 if all videos are finished, 1 if some failed, 2 after an error that ended the run,
130 after Ctrl-C, which lets those that are being segmented end."""


@command(NAME)
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = command_parser()
    args = parser.parse_args(argv)
    outputs = {name: given for name in _outputs() if (given := getattr(args, name)) is not None}
    if not outputs:
        flags = " or ".join(f"--{name.replace('_', '-')}" for name in _outputs())
        parser.error(f"nothing would be written; give {flags}")
    # Imported here, so that --help needs nothing but Python.
    from ..batch.options import BatchOptions
    from ..batch.run import run_batch

    options = BatchOptions(
        str(args.model),
        args.out,
        outputs,
        backend=args.backend,
        threads=args.threads or 1,
        precision=args.precision,
        memory_frames=args.memory_frames,
        cache=None if args.cache is None else str(args.cache),
        ignore_orientation=args.ignore_orientation,
        audio=not args.no_audio,
    )
    summary = run_batch(
        _jobs(args, parser),
        options,
        workers=args.workers,
        address=args.address,
        show_progress=False if args.quiet else None,
    )
    _print_summary(summary, quiet=args.quiet)
    return _status(summary)


def _outputs() -> dict[str, str]:
    """Return the help of each output by its name."""
    own = {
        "overlay": "the video with its masks, .mp4",
        "masks": "folder for one indexed PNG per frame",
        "json": "scores, areas, boxes and times per frame",
        "contact_sheet": "picture of evenly spaced frames, .png",
    }
    return {**own, **format_helps()}


def command_parser() -> Parser:
    """Return the parser of the command."""
    parser = Parser(NAME, _DESCRIPTION, _EPILOG)
    parser.add_argument("videos", metavar="VIDEOS", nargs="?", type=Path, help="manifest or folder")
    parser.add_argument(
        "--model", required=True, metavar="FILE", type=Path, help="a model.onnx or model.engine"
    )
    parser.add_argument("-o", "--out", required=True, metavar="DIR", help="folder of the results")
    data = parser.add_argument_group("a dataset instead, prompted with its first masks")
    data.add_argument("--davis", type=Path, metavar="ROOT", help="DAVIS 2016 or 2017 layout")
    data.add_argument("--sa-v", type=Path, metavar="ROOT", help="SA-V layout")
    add_sequences(data)
    many: dict[str, Any] = {"action": "append", "default": []}
    what = parser.add_argument_group("prompts for a folder's videos without a file of their own")
    what.add_argument("--click", metavar="X,Y[,LABEL]", help="as qsam2-segment has it", **many)
    what.add_argument("--negative-click", metavar="X,Y", help="likewise", **many)
    what.add_argument("--box", metavar="X1,Y1,X2,Y2", help="likewise", **many)
    what.add_argument("--mask", metavar="FILE", help="likewise", **many)
    what.add_argument("--prompts", metavar="FILE", type=Path, help="likewise", **many)
    results = parser.add_argument_group("results, at least one, named in the folder of each video")
    for name, told in _outputs().items():
        results.add_argument(f"--{name.replace('_', '-')}", metavar="NAME", dest=name, help=told)
    how = parser.add_argument_group("how")
    how.add_argument(
        "--workers",
        type=whole_number(1),
        metavar="N",
        help="videos at the same time, each with the model in memory (as many as there are "
        "cores for, with --threads 1; 1 on a GPU)",
    )
    how.add_argument(
        "--address",
        metavar="ADDRESS",
        help="of a Ray cluster that does the work: auto, HOST:PORT or ray://HOST:PORT; it must see "
        "the same paths",
    )
    how.add_argument(
        "--ignore-orientation", action="store_true", help="leave images as they are stored"
    )
    how.add_argument("--no-audio", action="store_true", help="leave sound out of overlays")
    add_engine_options(how)
    add_memory_frames(how)
    how.add_argument("--cache", type=Path, metavar="DIR", help="folder for the lowered model")
    how.add_argument("--quiet", action="store_true", help="no progress bar, no summary")
    return parser


def _jobs(args: Namespace, parser: Parser) -> list[Job]:
    from ..batch.jobs import jobs_from_davis, jobs_from_folder, jobs_from_manifest, jobs_from_sav
    from ..media.prompting.prompt_file import prompts_from_file
    from ..media.prompting.prompt_flags import prompts_from_flags

    given = [value for value in (args.videos, args.davis, args.sa_v) if value is not None]
    if len(given) != 1:
        parser.error("give one of VIDEOS, --davis and --sa-v")
    prompts = prompts_from_flags(args.click, args.negative_click, args.box, args.mask)
    for file in args.prompts:
        prompts += prompts_from_file(file)
    folder = args.videos is not None and args.videos.is_dir()
    if prompts and not folder:
        parser.error("--click, --box, --mask and --prompts are for the videos of a folder")
    if args.sequences is not None and args.videos is not None:
        parser.error("--sequences is for --davis and --sa-v")
    names = sequence_names(args.sequences)
    if args.davis is not None:
        return jobs_from_davis(args.davis, names, resolution=args.resolution)
    if args.sa_v is not None:
        return jobs_from_sav(args.sa_v, names)
    return jobs_from_folder(args.videos, prompts) if folder else jobs_from_manifest(args.videos)


def _print_summary(summary: BatchSummary, *, quiet: bool) -> None:
    """Print sentences about failures to standard error, and the rest to standard output."""
    for warning in summary.warnings:
        print(f"{NAME}: warning: {warning}", file=sys.stderr)
    for outcome in summary.of("failed"):
        if outcome.hopeless:  # it is said below, once
            continue
        print(f"{NAME}: {outcome.name}: {outcome.reason}", file=sys.stderr)
    if summary.stopped:
        print(
            f"{NAME}: error: {summary.stopped} ({len(summary.not_begun)} videos were not begun; "
            "what is finished stays, and the next run goes on)",
            file=sys.stderr,
        )
    if quiet:
        return
    states = [("done", "done"), ("skipped", "finished before"), ("failed", "failed")]
    counts = [f"{len(summary.of(state))} {name}" for state, name in states]
    if summary.not_begun:
        counts.append(f"{len(summary.not_begun)} not begun")
    print(("interrupted: " if summary.interrupted else "") + ", ".join(counts))
    engine = f", {summary.engine}" if summary.engine else ""
    workers = f"{summary.workers} worker" + ("s" if summary.workers > 1 else "")
    print(
        f"{summary.frames} frames in {summary.seconds:.1f} s "
        f"({summary.fps:.2f} frames per second, {workers}{engine})"
    )
    if summary.table:
        print(f"table: {summary.table}")


def _status(summary: BatchSummary) -> int:
    if summary.interrupted:
        return EXIT_INTERRUPTED
    if summary.stopped:
        return EXIT_ERROR
    return EXIT_SOME_FAILED if summary.of("failed") else EXIT_OK


if __name__ == "__main__":
    raise SystemExit(main())
