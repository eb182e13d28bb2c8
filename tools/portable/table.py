"""The page of results by processor."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qsam2_deploy._common.versions import installed_versions
from tools.portable.processors import Processor

if TYPE_CHECKING:
    from tools.portable.__main__ import Result

_ENGINES = {
    "ort": "ONNX Runtime",
    "kernels": "ONNX Runtime with our kernels",
    "openvino": "OpenVINO",
}


def write_page(
    path: Path, processors: Sequence[Processor], results: Sequence[Result], report: dict[str, Any]
) -> None:
    """Write the page, in Markdown."""
    whose = {processor.name: processor.whose for processor in processors}
    lines = [_HEAD, "| processor | whose |", "|---|---|"]
    lines += [f"| {name} | {text} |" for name, text in whose.items()]
    lines += ["", _COLUMNS, "|---|---|---|---|---|---|---|"]
    lines += [_row(result) for result in results]
    versions = installed_versions("onnxruntime", "openvino", "av", "onnx")
    told = ", ".join(f"{name} {version}" for name, version in versions.items())
    lines += ["", f"Native: {report['machine']}. {report['frames']} frames; {told}."]
    path.write_text("\n".join(lines) + "\n")


def _row(result: Result) -> str:
    engine = _ENGINES[result.engine]
    if result.error:
        return f"| {result.processor} | {engine} | {result.error} | | | | |"
    products = result.about.partition("products: ")[2]
    layers = f"{result.steps:.0f} step in {result.share:.2%}" if result.steps else "equal"
    frames = "the same" if result.frames_equal else "**others**"
    ious = " / ".join(f"{value:.4f}" for value in result.iou.values())
    return (
        f"| {result.processor} | {engine} | {products} | {layers} "
        f"| {frames} | {ious} | {'yes' if result.good else '**no**'} |"
    )


_COLUMNS = (
    "| processor | engine | integers by products of | worst layer against the trained grid "
    "| frames | lowest IoU: float / W8A8 / W2A2 | good |"
)

_HEAD = """\
# Processors

For those who ask whether a model computes the same on their processor as on ours. This page is
written by

```
make test-portable
```

which emulates processors with QEMU: each runs its own instructions, so the numbers are its own.
Three things are compared:

- Layers of every kind and width, and attention products, with what torch computes on the trained
  grid, as the next layer sees it, rounded to 8 bits. One step in at most one of a thousand values
  may differ.
- Decoded frames, byte by byte.
- Masks of the demo model (a click on the first frame of the demo clip) with those of the same
  engine on this machine's own processor. Good is an IoU of 0.999 or more in every frame. At W2A2 in
  floats on the trained grids it is 0.99, because there a code that rounds the other way is a third
  of the range.

[parity.md](parity.md#what-depends-on-the-processor) says how far apart that lets masks be, and what
each engine does so that integers are exact where the processor has no VNNI.
"""
