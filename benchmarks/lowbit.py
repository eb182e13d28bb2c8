r"""Low-bit models from W8A8 down to W2A2: size, integer share, exactness, and masks against float.

Every width is calibrated on the frames of a video, exported, and run in ONNX Runtime twice: as
integers, and as the plain float reference of the same file. Masks are compared with those of the
float model, frame by frame; nothing is trained here, and without training the lowest widths fail.

Example::

    python -m benchmarks.lowbit --checkpoint assets/demo.pt --video assets/demo_clip.mp4 \
        --click 88,180 --data frames/
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from benchmarks._integer_share import integer_share
from benchmarks._report import add_report_options, write_report
from benchmarks.components import random_inputs
from qsam2_deploy._files import file_digest
from qsam2_deploy.calibration import CalibrationConfig, calibrate_checkpoint
from qsam2_deploy.cli._main import command
from qsam2_deploy.export import onnx_from_checkpoint
from qsam2_deploy.runtime import Prompt, VideoSegmenter
from qsam2_deploy.runtime.bundle import read_bundle
from qsam2_deploy.runtime.lowering import lower_to_float
from qsam2_deploy.runtime.media.sources import open_frames
from qsam2_deploy.runtime.ort import session_from_onnx

WIDTHS = ("w8a8", "w4a8", "w4a4", "w3a3", "w2a4", "w2a2")
SCOPES = ("encoder", "all")
BF16_BYTES = 2

Masks = list[npt.NDArray[np.bool_]]


def track(model: Path, video: Path, click: tuple[float, float], frames: int) -> Masks:
    """Return the masks of the clicked object on the first frames."""
    masks = []
    with VideoSegmenter(model, threads=1) as segmenter, open_frames(video) as source:
        prompts = [Prompt(object_id=1, points=[click], labels=[1])]
        for frame in itertools.islice(source, frames):
            masks.append(segmenter.track(frame, prompts)[1].mask)
            prompts = []
    return masks


def mean_iou(found: Masks, expected: Masks) -> float:
    """Return the mean over frames; two empty masks are equal."""
    pairs = zip(found, expected, strict=True)
    ious = [(a & b).sum() / (a | b).sum() if (a | b).any() else 1.0 for a, b in pairs]
    return float(np.mean(ious))


def disagreement(path: Path) -> dict[str, float]:
    """Return the root mean square difference of integers and float reference, by component.

    In units of the standard deviation of each output; the worst output of a component counts.
    """
    found = {}
    bundle, reference = read_bundle(path), read_bundle(path)
    for name, component in bundle.components.items():
        inputs = random_inputs(bundle.spec.component(name))
        plain = reference.components[name]
        lower_to_float(plain)
        exact = onnxruntime.InferenceSession(
            plain.SerializeToString(), providers=["CPUExecutionProvider"]
        ).run(None, inputs)
        integers = session_from_onnx(component, 1).run(None, inputs)
        found[name] = max(
            float(np.sqrt(np.mean((a - b) ** 2)) / (b.std() or 1.0))
            for a, b in zip(integers, exact, strict=True)
        )
    return found


def measure(
    args: argparse.Namespace, folder: Path, bits: str, scope: str, reference: Masks
) -> dict[str, Any]:
    """Calibrate, export and measure one width in one scope."""
    quantized, path = folder / f"{bits}_{scope}.pt", folder / f"{bits}_{scope}.onnx"
    settings = CalibrationConfig(bits=bits, scope=scope, limit=args.images)
    data = args.data or args.video
    calibrate_checkpoint(
        args.checkpoint, data, quantized, config=settings, model_config=args.config
    )
    onnx_from_checkpoint(quantized, path, show_progress=False)
    started = time.perf_counter()
    bundle = read_bundle(path)
    opened = time.perf_counter() - started
    return {
        "bits": bits,
        "scope": scope,
        "bytes": path.stat().st_size,
        "against_bf16": BF16_BYTES * args.parameters / path.stat().st_size,
        "integer_share": {
            name: None if math.isnan(share) else share  # nothing of the component is quantized
            for name, share in integer_share(bundle.components).items()
        },
        "difference_to_reference": disagreement(path),
        "read_seconds": round(opened, 3),
        "mask_iou": mean_iou(track(path, args.video, args.click, args.frames), reference),
    }


def show(row: dict[str, Any]) -> None:
    """Print one line of the table."""
    print(
        f"{row['bits']:6}{row['scope']:9}{row['bytes'] / 1e6:8.2f} MB"
        f"{row['against_bf16']:7.2f}x bf16{row['integer_share']['all']:9.2%} integer"
        f"{max(row['difference_to_reference'].values()):10.1e} to reference"
        f"{row['mask_iou']:8.3f} IoU",
        flush=True,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--checkpoint", type=Path, required=True, help="float checkpoint")
    add("--config", type=Path, help="its configuration, if it is no official one")
    add("--video", type=Path, required=True, help="what is tracked")
    add("--data", type=Path, help="calibration images or video (default: the video itself)")
    add("--click", type=_click, required=True, metavar="X,Y", help="on the first frame's object")
    add("--frames", type=int, default=16, help="frames to track (default 16)")
    add("--images", type=int, default=8, help="calibration images (default 8)")
    add("--bits", nargs="+", default=WIDTHS, help="widths (default: all of the table)")
    add("--scopes", nargs="+", default=SCOPES, help="scopes (default: both)")
    add_report_options(parser)
    return parser


def _click(text: str) -> tuple[float, float]:
    x, y = (float(part) for part in text.split(","))
    return x, y


@command("benchmarks.lowbit")
def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit status."""
    from qsam2_deploy.quant.checkpoint import load_checkpoint

    args = _parser().parse_args(argv)
    loaded = load_checkpoint(args.checkpoint, config=args.config)
    args.parameters = sum(t.numel() for t in loaded.model.state_dict().values())
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        onnx_from_checkpoint(loaded, folder / "float.onnx", show_progress=False)
        reference = track(folder / "float.onnx", args.video, args.click, args.frames)
        for scope, bits in itertools.product(args.scopes, args.bits):
            rows.append(measure(args, folder, bits, scope, reference))
            show(rows[-1])
    settings = {
        "model_sha256": file_digest(args.checkpoint),
        "video": args.video.name,
        "click": args.click,
        "frames": args.frames,
        "data": (args.data or args.video).name,
        "images": args.images,
    }
    results = {"settings": settings, "parameters": args.parameters, "rows": rows}
    write_report("lowbit", results, args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
