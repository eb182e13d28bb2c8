"""What one processor computes, without torch: layers, masks of a video, decoded frames.

    python -m tools.portable.probe FOLDER ENGINE OUT.npz [--models NAME ...] [--frames N]

``FOLDER`` is what ``tools.portable.prepare`` made. ``ENGINE`` is ``ort`` (as pip installs it),
``kernels`` (ONNX Runtime with our own operators, built for this processor) or ``openvino``.
``OUT.npz`` gets ``layers``, a value from each layer's ``worst``, and for each model ``masks NAME``,
bool ``[frames, height, width]``; ``digests`` of the frames; ``about``, a line for people.
"""

from __future__ import annotations

import argparse
import time
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

CLICK = (88.0, 180.0)
"""On the fish of the demo clip's first frame."""


def main() -> None:
    """Run the probe."""
    args = _arguments()
    began = time.perf_counter()
    found: dict[str, Any] = {}
    found |= layers(args.folder, args.engine)
    frames = decoded(args.folder / "clip.mp4", args.frames)
    found["digests"] = [sha256(frame.tobytes()).hexdigest()[:16] for frame in frames]
    for name in args.models:
        path = args.folder / f"{name}.onnx"
        found[f"masks {name}"], about = masks(path, args.engine, frames)
        found["about"] = about
    found["seconds"] = time.perf_counter() - began
    np.savez_compressed(args.out, **found)


def layers(folder: Path, engine: str) -> dict[str, Any]:
    """Return how far each layer is from what was trained.

    Returns:
        ``layers``: their names; ``steps``: by how many steps of an 8-bit grid over its range the
        worst value of each is off; ``share``: the share of values that are off at all.
    """
    names, steps, shares = [], [], []
    for path in sorted((folder / "layers").glob("*.onnx")):
        kept = np.load(path.with_suffix(".npz"))
        feeds = {name: kept[name] for name in kept.files if name != "expected"}
        found, expected = run_layer(path, engine, feeds), kept["expected"]
        step = float(np.ptp(expected)) / 255
        apart = np.abs(np.round(found / step) - np.round(expected / step))
        names.append(path.stem)
        steps.append(float(apart.max()))
        shares.append(float(np.mean(apart > 0)))
    return {"layers": names, "steps": steps, "shares": shares}


def run_layer(path: Path, engine: str, feeds: dict[str, Any]) -> npt.NDArray[np.float32]:
    """Return the only output of a component of one layer, lowered as ``engine`` gets it."""
    import onnx

    component = onnx.load(path)
    feeds = {name.replace("|", "/"): value for name, value in feeds.items()}
    if engine == "openvino":
        from qsam2_deploy.engines.openvino.requests import Requests, engine_settings
        from qsam2_deploy.lowering import lower_for_openvino

        output = component.graph.output[0].name
        lower_for_openvino(component)
        request = Requests(component.SerializeToString(), path.stem, engine_settings(1))
        result: npt.NDArray[np.float32] = request.infer(feeds)[output]
        return result
    from qsam2_deploy.engines.onnxruntime.cpu import session_from_onnx
    from qsam2_deploy.engines.onnxruntime.kernels import find_kernels

    kernels = find_kernels(True) if engine == "kernels" else None
    session = session_from_onnx(component, 1, kernels=kernels)
    [result] = session.run(None, feeds)
    return np.asarray(result)


def decoded(clip: Path, count: int) -> list[npt.NDArray[np.uint8]]:
    """Return the first frames of a video, RGB."""
    from qsam2_deploy.media.reading.sources import open_frames

    with open_frames(clip) as frames:
        return [np.ascontiguousarray(frame) for frame in islice(frames, count)]


def masks(
    model: Path, engine: str, frames: list[npt.NDArray[np.uint8]]
) -> tuple[npt.NDArray[np.bool_], str]:
    """Return the masks of a tracked object, bool ``[n, h, w]``, and what computed them."""
    from qsam2_deploy.engines.onnxruntime.cpu import OrtBackend
    from qsam2_deploy.engines.open import open_backend
    from qsam2_deploy.runtime import Prompt, VideoSegmenter

    backend: Any
    if engine == "openvino":
        backend = open_backend(model, "openvino", threads=1)
    else:
        backend = OrtBackend(model, 1, kernels=engine == "kernels")
    prompts = [Prompt(object_id=1, points=[CLICK], labels=[1])]
    found = []
    with VideoSegmenter(backend) as segmenter:
        for frame in frames:
            found.append(segmenter.track(frame, prompts)[1].mask)
            prompts = []
        return np.stack(found), f"{segmenter.engine}; products: {backend.products}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="compute what tools.portable compares")
    parser.add_argument("folder", type=Path)
    parser.add_argument("engine", choices=("ort", "kernels", "openvino"))
    parser.add_argument("out", type=Path)
    parser.add_argument("--models", nargs="*", default=["w8a8", "w2a2", "float"])
    parser.add_argument("--frames", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    main()
