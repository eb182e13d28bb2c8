"""``qsam2-segment``: segment and track objects in a video."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..media.writing.result_format import format_helps
from ._main import (
    EXIT_INTERRUPTED,
    EXIT_OK,
    Parser,
    add_engine_options,
    add_memory_frames,
    command,
    whole_number,
)

if TYPE_CHECKING:
    from ..predictors.everything import Everything
    from ..predictors.segment_video import SegmentSummary

NAME = "qsam2-segment"

_DESCRIPTION = """\
Segment objects in a video and track them through it.

VIDEO is a video file, a folder of images, a pattern such as 'frames/*.png' or frames/%05d.png,
an image (also an animated one), a URL (http, https, rtsp, rtmp, srt, udp, rtp, tcp), - for
standard input, or a camera as its number or device. Of live streams and cameras the newest frame
is tracked; the others are left out and counted.
Say what to segment with clicks, boxes or masks, in pixels of the frame, or --everything."""

_EPILOG = """\
prompts:
  A click is X,Y, a box X1,Y1,X2,Y2, and a mask an image of the frame's size. In front of it,
  [OBJECT][@FRAME]: names the object and the frame, by default object 1 and the first frame.
  Each flag can be given many times. A prompts file is a JSON list such as
  [{"frame": 0, "object": 1, "points": [[320, 240]], "labels": [1]},
   {"frame": 15, "object": 2, "box": [100, 80, 300, 240]}]

examples:
  qsam2-segment cat.mp4 --model model.onnx --click 320,240 --out out.mp4
  qsam2-segment cat.mp4 --model model.onnx --click 1:320,240 --box 2@15:100,80,300,240 \\
      --out out.mp4 --masks masks --json out.json --contact-sheet out.png
  qsam2-segment cat.mp4 --model model.onnx --click 320,240 --negative-click 400,250 --out out.mp4
  qsam2-segment photo.jpg --model model.onnx --box 100,80,300,240 --out photo_masks.png
  qsam2-segment photo.jpg --model model.onnx --everything --out photo_masks.png
  qsam2-segment cat.mp4 --model model.onnx --everything --max-objects 5 --out out.mp4
  qsam2-segment cup.mp4 --model model.onnx --click 320,240 --save-objects cup.objects --out out.mp4
  qsam2-segment kitchen.mp4 --model model.onnx --objects cup.objects --out out.mp4
  qsam2-segment 0 --model model.onnx --click 320,240 --max-frames 300 --out camera.mp4
  qsam2-segment rtsp://camera/live --model model.onnx --click 320,240 --out camera.mp4

Ctrl-C stops after the current frame; what was written until then stays usable."""

_OUTPUT_NAMES = {
    "overlay": "overlay video",
    "masks": "masks",
    "json": "results",
    "contact_sheet": "contact sheet",
    "objects": "objects",
    **{name: name.replace("_", " ") for name in format_helps()},
}


@command(NAME)
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = command_parser()
    args = parser.parse_args(argv)
    formats = {name: path for name in format_helps() if (path := getattr(args, name)) is not None}
    if not any((args.out, args.masks, args.json, args.contact_sheet, args.save_objects, formats)):
        parser.error(
            "nothing would be written; give --out, --masks, --json, --contact-sheet or "
            + " or ".join(_flag(name) for name in format_helps())
        )
    # Imported here, so that --help needs nothing but Python.
    from ..media.prompting.prompt_file import prompts_from_file
    from ..media.prompting.prompt_flags import prompts_from_flags
    from ..media.reading.sources import source_from_text
    from ..predictors.segment_video import segment_video

    everything = _everything(args, parser)
    prompts = prompts_from_flags(args.click, args.negative_click, args.box, args.mask)
    for file in args.prompts:
        prompts += prompts_from_file(file)
    summary = segment_video(
        source_from_text(args.video),
        args.model,
        prompts,
        everything=everything,
        objects=args.objects,
        save_objects=args.save_objects,
        overlay=args.out,
        masks_dir=args.masks,
        json_path=args.json,
        contact_sheet=args.contact_sheet,
        formats=formats,
        start=args.start,
        max_frames=args.max_frames,
        ignore_orientation=args.ignore_orientation,
        audio=not args.no_audio,
        backend=args.backend,
        threads=args.threads,
        memory_frames=args.memory_frames,
        cache=args.cache,
        precision=args.precision,
        show_progress=False if args.quiet else None,
    )
    _print_summary(summary, args)
    return EXIT_INTERRUPTED if summary.interrupted else EXIT_OK


def command_parser() -> Parser:
    """Return the parser of the command."""
    parser = Parser(NAME, _DESCRIPTION, _EPILOG)
    parser.add_argument(
        "video", metavar="VIDEO", help="video, folder, pattern, image, URL, - or camera"
    )
    parser.add_argument(
        "--model",
        required=True,
        type=Path,
        metavar="FILE",
        help="a model.onnx made by qsam2-export, or a model.engine made by qsam2-build-engine",
    )
    what = parser.add_argument_group("what to segment")
    many: dict[str, Any] = {"action": "append", "default": []}
    what.add_argument("--click", metavar="X,Y[,LABEL]", help="a point on the object", **many)
    what.add_argument(
        "--negative-click", metavar="X,Y", help="a point that is not on the object", **many
    )
    what.add_argument("--box", metavar="X1,Y1,X2,Y2", help="a box around the object", **many)
    what.add_argument("--mask", metavar="FILE", help="an image of the object's mask", **many)
    what.add_argument("--prompts", metavar="FILE", type=Path, help="a JSON file of prompts", **many)
    what.add_argument(
        "--objects", metavar="FILE", type=Path, help="objects of another video: see --save-objects"
    )
    _add_everything(parser)
    results = parser.add_argument_group("results, at least one")
    results.add_argument(
        *("-o", "--out"),
        type=Path,
        metavar="FILE",
        help="overlay: .mp4, .mov, .mkv, .webm, .gif or .webp (.png or .jpg for an image)",
    )
    results.add_argument(
        "--masks", type=Path, metavar="DIR", help="folder for one indexed PNG per frame"
    )
    results.add_argument(
        "--json", type=Path, metavar="FILE", help="scores, areas, boxes and times per frame"
    )
    results.add_argument(
        "--contact-sheet", type=Path, metavar="FILE", help="picture of evenly spaced frames, .png"
    )
    for name, told in format_helps().items():
        results.add_argument(_flag(name), type=Path, metavar="PATH", help=told)
    results.add_argument(
        "--save-objects",
        type=Path,
        metavar="FILE",
        help="what is remembered of the objects when the video ends; --objects finds them again",
    )
    how = parser.add_argument_group("how")
    how.add_argument(
        "--start", type=whole_number(0), default=0, metavar="N", help="first frame (0)"
    )
    how.add_argument("--max-frames", type=whole_number(1), metavar="N", help="stop after N frames")
    how.add_argument(
        "--ignore-orientation",
        action="store_true",
        help="leave images as they are stored, not turned as their EXIF orientation says; the "
        "official predictor does so",
    )
    how.add_argument(
        "--no-audio", action="store_true", help="leave the video's sound out of the overlay"
    )
    add_engine_options(how)
    add_memory_frames(how)
    how.add_argument(
        "--cache",
        type=Path,
        metavar="DIR",
        help="folder that keeps the model in the engine's form, so that it opens faster next time",
    )
    how.add_argument("--quiet", action="store_true", help="no progress bar, no summary")
    return parser


def _flag(form: str) -> str:
    return "--" + form.replace("_", "-")


def _add_everything(parser: Parser) -> None:
    group = parser.add_argument_group("everything")
    add = group.add_argument
    add(
        "--everything",
        action="store_true",
        help="instead of prompts: all that is found on the first frame, numbered from the largest "
        "object to the smallest; in a video each of them is tracked",
    )
    number: dict[str, Any] = {"type": float, "metavar": "X"}
    add(
        "--max-objects",
        type=whole_number(1),
        metavar="N",
        help="keep the N best (255 of an image; 16 of a video, where each takes time)",
    )
    add(
        "--points-per-side",
        type=whole_number(1),
        metavar="N",
        help="look at N x N points (32)",
    )
    add("--pred-iou-thresh", help="predicted quality that masks must exceed (0.8)", **number)
    add(
        "--stability-score-thresh",
        help="least stability of masks (0.95): what stays the same when the edge is moved",
        **number,
    )
    add(
        "--stability-score-offset",
        help="how far the edge is moved for that, out and in, as a logit (1)",
        **number,
    )


def _everything(args: Namespace, parser: Parser) -> Everything | None:
    """Return what to look for, None if there are prompts."""
    from ..predictors.everything import Everything

    names = ("points_per_side", "pred_iou_thresh", "stability_score_thresh",
             "stability_score_offset")  # fmt: skip
    options = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if args.everything:
        return Everything(args.max_objects, options)
    if args.max_objects is not None:
        options["max_objects"] = args.max_objects
    if options:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in options)
        parser.error(f"{flags}: only with --everything")
    return None


def _print_summary(summary: SegmentSummary, args: Namespace) -> None:
    for warning in summary.warnings:
        print(f"{NAME}: warning: {warning}", file=sys.stderr)
    if args.quiet:
        return
    state = "interrupted after " if summary.interrupted else ""
    print(
        f"{state}{summary.frames} frames of {summary.width}x{summary.height} "
        f"in {summary.total_seconds:.1f} s ({summary.fps:.2f} frames per second)"
    )
    if summary.engine:
        print(f"engine: {summary.engine}")
    if summary.note:
        print(summary.note)
    for item in summary.objects if summary.frames > 1 or not summary.note else ():
        print(
            f"object {item.object_id}: visible on {item.visible_share:.0%} of {item.frames} frames"
        )
    for name, path in summary.outputs.items():
        print(f"{_OUTPUT_NAMES[name]}: {path}")


if __name__ == "__main__":
    raise SystemExit(main())
