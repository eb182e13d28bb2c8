"""What exact integers cost where the processor has no VNNI: ways to multiply, taking turns.

The image encoder and the memory attention (7 memories, 16 pointers) of a quantized model are
lowered for each way, and run one after the other, round by round, so that the machine's other load
hits all alike; the medians are told, and how far the outputs are from the model in floats on its
grids.

- ``ort signed``: unsigned by signed codes, inexact without VNNI
- ``ort unsigned``: unsigned by unsigned codes
- ``ort kernels``: our own operators, if they are built
- ``openvino integers``: inexact without VNNI
- ``openvino floats``: floats on the trained grids

Example::

    python -m benchmarks.speed.exact_products w8a8.onnx --json exact_products.json
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks._report import benchmark_parser, write_report
from qsam2_deploy.cli._main import command
from qsam2_deploy.engines.onnxruntime.cpu import (
    multiplies_signed_conv_weights,
    ort_products,
    session_from_lowered,
)
from qsam2_deploy.engines.onnxruntime.kernels import find_kernels
from qsam2_deploy.engines.openvino.requests import FIXED_AFTER, Requests, engine_settings
from qsam2_deploy.engines.openvino.requests import products as openvino_products
from qsam2_deploy.engines.protocol import Arrays
from qsam2_deploy.lowering import lower_for_openvino, lower_for_ort, lower_to_float
from qsam2_deploy.model_file.bundle import read_bundle
from qsam2_deploy.onnx_graph.tensors import copy_of
from qsam2_deploy.spec import IMAGE_ENCODER, MEMORY_ATTENTION, ModelSpec

SIZES = {"B": 1, "F": 7, "N": 16}
Run = Callable[[], Any]


def ways(component: Any, feeds: Arrays, batched: Sequence[str]) -> dict[str, Run]:
    """Return what runs a component in each way; it is not changed."""

    def ort(lower: Callable[[Any], None], kernels: Path | None = None) -> Run:
        own = copy_of(component)
        lower(own)
        lowered = own.SerializeToString()
        session = session_from_lowered(lowered, component.graph.name, 1, kernels=kernels)
        return lambda: session.run(None, feeds)

    def signed() -> Run:
        """As ``ort``, without the option that keeps ONNX Runtime from inexact products."""
        own = copy_of(component)
        lower_for_ort(own, unsigned_conv_weights=not multiplies_signed_conv_weights())
        lowered, name = own.SerializeToString(), component.graph.name
        session = session_from_lowered(lowered, name, 1, unsigned_weights=False)
        return lambda: session.run(None, feeds)

    def openvino(integers: bool) -> Run:
        own = copy_of(component)
        lower_for_openvino(own)
        settings = engine_settings(1, integers=integers)
        requests = Requests(own.SerializeToString(), component.graph.name, settings, batched)
        names = [output.name for output in component.graph.output]

        def run() -> list[Any]:
            found = requests.infer(feeds)
            return [found[name] for name in names]

        return run

    found = {
        "reference": ort(lower_to_float),
        "ort signed": signed(),
        "ort unsigned": ort(lambda m: lower_for_ort(m, unsigned=True)),
    }
    library = find_kernels()
    if library is not None:
        found["ort kernels"] = ort(lambda m: lower_for_ort(m, unsigned=True, kernels=True), library)
    found["openvino integers"] = openvino(True)
    found["openvino floats"] = openvino(False)
    return found


def measure(model: Path, rounds: int) -> dict[str, Any]:
    """Time both components in every way."""
    bundle, results = read_bundle(model), {}
    for name in (IMAGE_ENCODER, MEMORY_ATTENTION):
        feeds = feeds_of(bundle.spec, name)
        batched = [t.name for t in bundle.spec.component(name).inputs if t.shape[:1] == ("B",)]
        runs = ways(bundle.components[name], feeds, batched)
        expected = runs.pop("reference")()
        times: dict[str, list[float]] = {way: [] for way in runs}
        apart = {way: _apart(run(), expected) for way, run in runs.items()}
        for _ in range(FIXED_AFTER):  # OpenVINO compiles for sizes that repeat
            runs["openvino integers"](), runs["openvino floats"]()
        for _ in range(rounds):
            for way, run in runs.items():
                began = time.perf_counter()
                run()
                times[way].append(1e3 * (time.perf_counter() - began))
        results[name] = {
            way: {"milliseconds": median(times[way]), "mean_error_of_range": apart[way]}
            for way in runs
        }
    products = {"onnxruntime": ort_products(), "openvino": openvino_products()}
    return {"model": model.name, "exact_here": products, "components": results}


def _apart(found: Sequence[Any], expected: Sequence[Any]) -> float:
    """Return the mean difference of the first output over its range."""
    return float(np.abs(found[0] - expected[0]).mean() / np.ptp(expected[0]))


def feeds_of(spec: ModelSpec, component: str) -> Arrays:
    """Return random inputs of a component, with full memories."""
    rng, feeds = np.random.default_rng(0), {}
    for tensor in spec.component(component).inputs:
        shape = [SIZES[d] if isinstance(d, str) else d for d in tensor.shape]
        if tensor.dtype == "float32":
            feeds[tensor.name] = rng.standard_normal(shape).astype(np.float32)
        else:
            feeds[tensor.name] = np.arange(shape[0]).astype(tensor.dtype)
    return feeds


@command("benchmarks.speed.exact_products")
def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit status."""
    parser = benchmark_parser("benchmarks.speed.exact_products", __doc__)
    parser.add_argument("model", type=Path, metavar="MODEL.onnx")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each way (default 5)")
    args = parser.parse_args(argv)
    results = measure(args.model, args.rounds)
    for name, rows in results["components"].items():
        print(name)
        for way, row in rows.items():
            error = row["mean_error_of_range"]
            print(f"  {way:18} {row['milliseconds']:9.1f} ms   mean error {error:.1e} of the range")
    write_report("exact_products", results, args.json)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
