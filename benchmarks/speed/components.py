"""Where a frame's time goes: each component, its operators, and what the processor can do at most.

All memory slots are filled (7 memories, 16 pointers). Beside the operators stand the rates at which
ONNX Runtime and torch multiply float matrices of the model's shapes, one after another: if both are
alike, a float model can only be faster by doing less.

Example::

    python -m benchmarks.speed.components model.onnx --json out.json
    python -m benchmarks.speed.components model.onnx --backend openvino

The share of the integer limit is the time that the integer products of a component would take at
the highest rate of an integer product in the same run, over the time that it takes.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper

from benchmarks._report import benchmark_parser, write_report
from benchmarks.speed._openvino_profile import openvino_component, openvino_integer_rate
from qsam2_deploy.cli._main import command
from qsam2_deploy.engines.onnxruntime.cpu import session_from_onnx
from qsam2_deploy.engines.onnxruntime.kernels import find_kernels, processor_path
from qsam2_deploy.inspection.products import multiply_adds
from qsam2_deploy.lowering.integer_matmul import DOMAIN, FUSED
from qsam2_deploy.model_file.bundle import read_bundle
from qsam2_deploy.onnx_graph.index import GraphIndex
from qsam2_deploy.onnx_graph.tensors import STEADY_STATE
from qsam2_deploy.spec import COMPONENTS, ComponentSpec

PRODUCTS = ((4096, 384, 1536), (512, 256, 28736), (512, 28736, 64))
"""Rows, depth and columns: a linear layer of the tiny encoder, and attention to 7 memories."""

Inputs = dict[str, npt.NDArray[Any]]


def random_inputs(component: ComponentSpec) -> Inputs:
    """Return inputs of the right shapes."""
    rng = np.random.default_rng(0)
    inputs: Inputs = {}
    for tensor in component.inputs:
        shape = [STEADY_STATE[d] if isinstance(d, str) else d for d in tensor.shape]
        if tensor.dtype == "float32":
            inputs[tensor.name] = rng.standard_normal(shape).astype(np.float32)
        else:
            inputs[tensor.name] = np.zeros(shape, tensor.dtype)
    return inputs


def milliseconds(run: Callable[[], Any], repeat: int) -> float:
    """Return the median time of a call, after one that is not counted."""
    run()
    times = []
    for _ in range(repeat):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return median(times) * 1e3


def operators(profile: str) -> dict[str, float]:
    """Return milliseconds by operator from a profile of a single run."""
    total: Counter[str] = Counter()
    for event in json.loads(Path(profile).read_text()):
        if event.get("cat") == "Node" and event["name"].endswith("kernel_time"):
            total[event["args"]["op_name"]] += event["dur"] / 1e3
    return {name: round(value, 1) for name, value in total.most_common(8)}


def measure_component(
    path: Path, name: str, threads: int, repeat: int, kernels: Path | None = None
) -> dict[str, Any]:
    """Time one component, and one more run of it by operator."""
    bundle = read_bundle(path)
    inputs = random_inputs(bundle.spec.component(name))
    session = session_from_onnx(bundle.components[name], threads, kernels=kernels)
    total = milliseconds(lambda: session.run(None, inputs), repeat)
    with tempfile.TemporaryDirectory() as folder:
        profiled = session_from_onnx(
            read_bundle(path).components[name],
            threads,
            profile=f"{folder}/profile",
            kernels=kernels,
        )
        profiled.run(None, inputs)
        return {"ms": round(total, 1), "operators_ms": operators(profiled.end_profiling())}


def integer_operations(path: Path, name: str) -> int:
    """Return the operations of the products of one component whose factors are both quantized."""
    component = read_bundle(path).components[name]
    counts, index = multiply_adds(component), GraphIndex(component)
    quantized = [
        node.name
        for node in component.graph.node
        if node.name in counts
        and index.quantized_input(node.input[0]) is not None
        and (index.quantized_input(node.input[1]) or index.quantized_constant(node.input[1]))
    ]
    return 2 * sum(counts[product] for product in quantized)


def measure(
    path: Path, name: str, args: argparse.Namespace, kernels: Path | None
) -> dict[str, Any]:
    """Time one component on the engine that was asked for."""
    if args.backend == "ort":
        return measure_component(path, name, args.threads, args.repeat, kernels)
    inputs = random_inputs(read_bundle(path).spec.component(name))
    return openvino_component(
        path, name, args.threads, inputs, lambda run: milliseconds(run, args.repeat)
    )


def add_shares(results: dict[str, Any], path: Path, highest: float) -> None:
    """Add to the results of each component how near it comes to the rate ``highest``, in GOP/s."""
    for name in COMPONENTS:
        limit = integer_operations(path, name) / highest / 1e6
        share = limit / results[name]["ms"]
        results[name] |= {"integer_limit_ms": round(limit, 1), "share_of_limit": round(share, 3)}
        print(f"{name:18} integer limit {limit:8.1f} ms, share reached {share:.0%}")


def product_rates(threads: int) -> list[dict[str, Any]]:
    """Return giga operations a second of float products in both engines."""
    torch.set_num_threads(threads)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    make = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["a", "b"], ["c"])],
        "product",
        [make("a", TensorProto.FLOAT, ["m", "k"]), make("b", TensorProto.FLOAT, ["k", "n"])],
        [make("c", TensorProto.FLOAT, ["m", "n"])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    rng = np.random.default_rng(0)
    rates = []
    for m, k, n in PRODUCTS:
        a, b = (rng.standard_normal(s).astype(np.float32) for s in ((m, k), (k, n)))
        first, second = torch.from_numpy(a), torch.from_numpy(b)
        operations = 2 * m * k * n / 1e6
        ort = milliseconds(lambda a=a, b=b: session.run(None, {"a": a, "b": b}), 5)
        eager = milliseconds(lambda a=first, b=second: a @ b, 5)
        rates.append(
            {"shape": [m, k, n], "onnxruntime": operations / ort, "torch": operations / eager}
        )
    return rates


def integer_rates(threads: int) -> dict[str, float]:
    """Return giga operations a second of the first product in integers, by signs of its inputs."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    rng = np.random.default_rng(0)
    m, k, n = PRODUCTS[0]
    constants = {
        "weight": rng.integers(-127, 128, (k, n), dtype=np.int8),
        "scale": np.float32(0.01),
        "scales": np.full(n, 0.01, np.float32),
        "zeros": np.zeros(n, np.int8),
    }
    rates = {}
    for name, zero in (("unsigned by signed", np.uint8(128)), ("signed by signed", np.int8(0))):
        values = {**constants, "zero": zero}
        inputs = ["a", "weight", "scale", "scales", "zero", "zeros"]
        kind = helper.np_dtype_to_tensor_dtype(zero.dtype)
        graph = helper.make_graph(
            [helper.make_node(FUSED, inputs, ["c"], domain=DOMAIN)],
            "product",
            [helper.make_tensor_value_info("a", kind, [m, k])],
            [helper.make_tensor_value_info("c", TensorProto.FLOAT, [m, n])],
            [numpy_helper.from_array(np.asarray(v), key) for key, v in values.items()],
        )
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        session = onnxruntime.InferenceSession(model.SerializeToString(), options)
        codes = (rng.integers(-128, 128, (m, k)) + int(zero)).astype(zero.dtype)
        time_ms = milliseconds(lambda s=session, a=codes: s.run(None, {"a": a}), 3)
        rates[name] = 2 * m * k * n / 1e6 / time_ms
    return rates


@command("benchmarks.speed.components")
def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = benchmark_parser("benchmarks.speed.components", __doc__)
    parser.add_argument("model", type=Path, metavar="MODEL.onnx")
    parser.add_argument("--backend", choices=("ort", "openvino"), default="ort")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--no-kernels", action="store_true", help="without kernels of our own")
    args = parser.parse_args(argv)
    kernels = find_kernels(False if args.no_kernels else None) if args.backend == "ort" else None
    results: dict[str, Any] = {
        "model": args.model.name,
        "threads": args.threads,
        "backend": args.backend,
        "kernels": None if kernels is None else processor_path(kernels),
    }
    for name in COMPONENTS:
        found = measure(args.model, name, args, kernels)
        results[name] = found
        shown = ", ".join(f"{k} {v:.0f}" for k, v in found["operators_ms"].items())
        print(f"{name:18} {found['ms']:8.1f} ms   ({shown})", flush=True)
    integers = integer_rates(args.threads)
    integers["OpenVINO"] = openvino_integer_rate(*PRODUCTS[0], args.threads)
    results["integer_products"] = integers
    add_shares(results, args.model, max(integers.values()))
    results["products"] = product_rates(args.threads)
    for rate in results["products"]:
        print(
            f"product {rate['shape']}: ONNX Runtime {rate['onnxruntime']:.0f} GFLOP/s, "
            f"torch {rate['torch']:.0f} GFLOP/s"
        )
    for name, value in integers.items():
        print(f"integer product {list(PRODUCTS[0])}, {name}: {value:.0f} GOP/s")
    write_report("components", results, args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
