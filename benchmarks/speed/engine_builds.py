"""What TensorRT makes of a model: component by precision, with time, size and share of integers.

Nothing is run: TensorRT-RTX builds engines without a GPU. The share is that of the quantized
weights whose product is a fused layer with integers, as the builder's own table of layers says.

Example::

    python -m benchmarks.speed.engine_builds model.onnx --json out.json
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks._report import benchmark_parser, write_report
from qsam2_deploy.cli._main import command
from qsam2_deploy.engine_build.component import network_from_component
from qsam2_deploy.engines.tensorrt.adapter import build_plan
from qsam2_deploy.engines.tensorrt.engine_file import Variant
from qsam2_deploy.engines.tensorrt.layer_table import fused_layers, integer_share
from qsam2_deploy.engines.tensorrt.library import BUILDERS, Library, find_library
from qsam2_deploy.engines.tensorrt.options import BuildOptions, Limits
from qsam2_deploy.engines.tensorrt.plan_blocks import packed_blocks
from qsam2_deploy.errors import EngineError, UnsupportedModelError
from qsam2_deploy.lowering import TENSORRT_PRECISIONS
from qsam2_deploy.model_file.bundle import Bundle, read_bundle
from qsam2_deploy.spec import COMPONENTS

_COLUMNS = (
    f"{'component':18}{'precision':11}{'parse s':>8}{'build s':>9}{'plan MB':>9}{'in file':>9}"
    f"{'integer':>9}"
)


@dataclass(frozen=True)
class Build:
    """One row of the table.

    Attributes:
        component: its name.
        precision: of :data:`TENSORRT_PRECISIONS`.
        builder: name and version of the library.
        parses: the parser took it.
        builds: an engine was made.
        parse_seconds: time of the parser.
        build_seconds: time of the builder.
        bytes: size of the plan.
        stored_bytes: what it takes in an engine file.
        weights: quantized weights of the lowered graph.
        integer_share: share of them that is multiplied as integers; None without any.
        error: what the library or the lowering said.
    """

    component: str
    precision: str
    builder: str
    parses: bool
    builds: bool
    parse_seconds: float = 0.0
    build_seconds: float = 0.0
    bytes: int = 0
    stored_bytes: int = 0
    weights: int = 0
    integer_share: float | None = None
    error: str = ""

    def line(self) -> str:
        """Return the row as text."""
        if not self.builds:
            return f"{self.component:18}{self.precision:11}{self.error}"
        share = "-" if self.integer_share is None else f"{self.integer_share:.1%}"
        return (
            f"{self.component:18}{self.precision:11}{self.parse_seconds:8.2f}"
            f"{self.build_seconds:9.1f}{self.bytes / 1e6:9.1f}{self.stored_bytes / 1e6:9.1f}"
            f"{share:>9}"
        )


def measure(
    bundle: Bundle, component: str, precision: str, library: Library, options: BuildOptions
) -> Build:
    """Build one component in one precision."""
    about = (component, precision, library.title)
    try:
        network, _ = network_from_component(bundle, component, Variant(precision), Limits())
    except UnsupportedModelError as error:
        return Build(*about, parses=False, builds=False, error=str(error))
    messages: list[str] = []
    try:
        plan = build_plan(
            library, network, options, on_message=lambda _, text: messages.append(text)
        )
    except EngineError as error:
        parses = "refuses the layer" not in str(error)
        return Build(*about, parses=parses, builds=False, error=str(error))
    return Build(
        *about,
        parses=True,
        builds=True,
        parse_seconds=round(plan.parse_seconds, 3),
        build_seconds=round(plan.build_seconds, 2),
        bytes=len(plan.data),
        stored_bytes=sum(map(len, packed_blocks(plan.data))),
        weights=len(network.weights),
        integer_share=integer_share(fused_layers(messages), network.weights, precision),
    )


def _parser() -> argparse.ArgumentParser:
    parser = benchmark_parser("benchmarks.speed.engine_builds", __doc__)
    parser.add_argument("model", type=Path, help="a model.onnx, quantized for int8 and int4")
    parser.add_argument("--builder", choices=BUILDERS, help="default: the installed one")
    parser.add_argument("--precisions", nargs="+", choices=TENSORRT_PRECISIONS,
                        default=TENSORRT_PRECISIONS)  # fmt: skip
    parser.add_argument("--components", nargs="+", choices=COMPONENTS, default=COMPONENTS)
    parser.add_argument("--compute-capability", action="append", default=[], metavar="X.Y",
                        help="default: 8.0 and all later ones (TensorRT-RTX)")  # fmt: skip
    return parser


@command("engine_builds")
def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; return its exit status."""
    args = _parser().parse_args(argv)
    library = find_library(args.builder)
    options = BuildOptions(compute_capabilities=tuple(args.compute_capability))
    options.check_builder(library.name)
    bundle = read_bundle(args.model)
    print(f"{args.model.name}: {bundle.spec.name} at {bundle.spec.image_size}, {library.title}")
    print(_COLUMNS)
    started, worked, rows = time.perf_counter(), time.process_time(), []
    for component in args.components:
        for precision in args.precisions:
            rows.append(measure(bundle, component, precision, library, options))
            print(rows[-1].line(), flush=True)
    seconds = round(time.perf_counter() - started, 1)
    processor = round(time.process_time() - worked, 1)
    print(f"all: {seconds} s, of which {processor} s on the processor")
    results = {
        "model": bundle.spec.name,
        "image_size": bundle.spec.image_size,
        "compute_capabilities": args.compute_capability,
        "seconds": seconds,
        "processor_seconds": processor,
        "builds": [asdict(row) for row in rows],
    }
    write_report("engine_builds", results, args.json)
    return 0 if all(row.builds for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
