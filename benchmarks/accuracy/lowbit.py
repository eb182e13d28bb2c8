r"""The acceptance table of low-bit models, from W8A8 down to W2A2, in both scopes.

Every width is calibrated on the frames of a video, exported, and checked: size, share of integer
products in the engines' own graphs, layers that compute what was trained, masks against those of
the float model, ONNX's checker, OpenVINO, TensorRT-RTX. Nothing is trained here, and without
training the masks of the lowest widths fail.

Example::

    python -m benchmarks.accuracy.lowbit --checkpoint assets/demo.pt --video assets/demo_clip.mp4 \
        --click 88,180 --data frames/
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import itertools
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from benchmarks._report import benchmark_parser, write_report
from benchmarks.accuracy._exactness import layer_exactness
from benchmarks.speed.components import random_inputs
from qsam2_deploy._common.files import file_digest
from qsam2_deploy.calibration import CalibrationConfig, calibrate_checkpoint
from qsam2_deploy.calibration.data import calibration_images
from qsam2_deploy.cli._main import command
from qsam2_deploy.engines.onnxruntime.cpu import session_from_onnx
from qsam2_deploy.errors import EngineError
from qsam2_deploy.export import onnx_from_checkpoint
from qsam2_deploy.inspection.engines import openvino_integer_products
from qsam2_deploy.inspection.report import Inspection, inspect_model
from qsam2_deploy.lowering import lower_for_tensorrt_int4, lower_for_tensorrt_int8, lower_to_float
from qsam2_deploy.media.reading.sources import open_frames
from qsam2_deploy.model_file.bundle import read_bundle
from qsam2_deploy.quant.checkpoints.checkpoint import load_checkpoint
from qsam2_deploy.runtime import Prompt, VideoSegmenter

WIDTHS = ("w8a8", "w4a8", "w4a4", "w3a3", "w2a4", "w2a2")
SCOPES = ("encoder", "all")
YES, NO, NOT_INSTALLED = "yes", "no", "not installed"
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


def layers_against_torch(checkpoint: Path, data: Path, images: int) -> dict[str, Any]:
    """Return how many layers compute what was trained, each on its own, and the worst one.

    See :mod:`benchmarks.accuracy._exactness`. Shares are of layers with 1000 values or more.
    """
    model = load_checkpoint(checkpoint).model
    frames = calibration_images(data, model.image_size, images)
    found = layer_exactness(model, frames)
    result: dict[str, Any] = {
        "layers": len(found),
        "exact_layers": sum(layer.is_exact for layer in found.values()),
        "not_exact": sorted(name for name, layer in found.items() if not layer.is_exact),
    }
    for kind in ("inputs", "reference", "integers"):
        shares = [(getattr(layer, kind), name) for name, layer in found.items()]
        large = [(d.share, name) for d, name in shares if d.values >= 1000]
        share, name = max(large)
        result[kind] = {"worst_share": share, "layer": name}
        result[kind]["most_steps"] = max(d.steps for d, _ in shares)
    return result


def opens_in_openvino(path: Path) -> str:
    """Return whether OpenVINO compiles all components."""
    if importlib.util.find_spec("openvino") is None:
        return NOT_INSTALLED
    try:
        for component in read_bundle(path).components.values():
            openvino_integer_products(component)
    except EngineError:
        return NO
    return YES


def builds_with_tensorrt_rtx(path: Path) -> dict[str, str]:
    """Return whether TensorRT-RTX builds engines of all components, by precision."""
    from tests.lowering.test_tensorrt_rtx import BINDINGS, build

    lowerings: dict[str, Any] = {"int8": lower_for_tensorrt_int8, "int4": lower_for_tensorrt_int4}
    if importlib.util.find_spec(BINDINGS) is None:
        return dict.fromkeys(lowerings, NOT_INSTALLED)
    trt = importlib.import_module(BINDINGS)
    found = {}
    for precision, lower in lowerings.items():
        components = read_bundle(path).components.values()
        for component in components:
            lower(component)
        try:
            built = all(build(trt, component) is not None for component in components)
        except AssertionError:  # the parser refuses it
            built = False
        found[precision] = YES if built else NO
    return found


def integer_shares(inspection: Inspection) -> dict[str, Any]:
    """Return the share of integer multiply-adds by engine: of quantized layers, and of all."""
    return {
        engine: {
            "quantized": inspection.total_work.quantized_share(engine),
            "all": inspection.total_work.share(engine),
        }
        for engine in inspection.installed
    }


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
    # It refuses what does not pass onnx.checker with full_check.
    inspection = inspect_model(path, show_progress=False)
    return {
        "bits": bits,
        "scope": scope,
        "bytes": path.stat().st_size,
        "against_bf16": BF16_BYTES * args.parameters / path.stat().st_size,
        "integer_share": integer_shares(inspection),
        "difference_to_reference": disagreement(path),
        "layers_against_torch": layers_against_torch(quantized, data, args.images),
        "mask_iou": mean_iou(track(path, args.video, args.click, args.frames), reference),
        "onnx_checker": YES,
        "openvino": opens_in_openvino(path),
        "tensorrt_rtx": builds_with_tensorrt_rtx(path),
    }


HEADER = (
    "bits  scope        size  x bf16  integer  of all  exact layers  worst  ints-ref    IoU  "
    "checker  OpenVINO       RTX int8/int4"
)


def show(row: dict[str, Any]) -> None:
    """Print one line of the table."""
    share = row["integer_share"]["onnxruntime"]
    layers = row["layers_against_torch"]
    worst = max(layers[kind]["worst_share"] for kind in ("inputs", "reference", "integers"))
    print(
        f"{row['bits']:6}{row['scope']:8}{row['bytes'] / 1e6:6.2f} MB{row['against_bf16']:8.2f}"
        f"{share['quantized']:9.2%}{share['all']:8.1%}"
        f"{layers['exact_layers']:8}/{layers['layers']:<5}{worst:7.0e}"
        f"{max(row['difference_to_reference'].values()):10.0e}{row['mask_iou']:7.3f}"
        f"  {row['onnx_checker']:9}{row['openvino']:15}{'/'.join(row['tensorrt_rtx'].values())}",
        flush=True,
    )


def _parser() -> argparse.ArgumentParser:
    parser = benchmark_parser("benchmarks.accuracy.lowbit", __doc__)
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
    return parser


def _click(text: str) -> tuple[float, float]:
    x, y = (float(part) for part in text.split(","))
    return x, y


@command("benchmarks.accuracy.lowbit")
def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit status."""
    args = _parser().parse_args(argv)
    loaded = load_checkpoint(args.checkpoint, config=args.config)
    args.parameters = sum(t.numel() for t in loaded.model.state_dict().values())
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        onnx_from_checkpoint(loaded, folder / "float.onnx", show_progress=False)
        reference = track(folder / "float.onnx", args.video, args.click, args.frames)
        print(HEADER)
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
