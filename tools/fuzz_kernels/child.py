"""Make calls in this process, which a report of a sanitizer ends.

    python -m tools.fuzz_kernels.child LIBRARY SEED FIRST COUNT PROGRESS

``PROGRESS`` is a file that holds the number of the call that is being made. The last line of the
output is a JSON object of ``{operator: {outcome: count}}``.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnxruntime
from onnx import ModelProto, helper, numpy_helper

from qsam2_deploy.engines.onnxruntime.kernels import processor_path
from tools.fuzz_kernels.calls import Call, random_call

PATHS = ("avx512vnni", "avxvnni", "avx2", "neon", "generic")


def model_of(call: Call) -> bytes:
    """Return a model of one node, serialised."""
    kind = helper.np_dtype_to_tensor_dtype
    outside = {n: v for n, v in call.inputs.items() if n not in call.constants | call.left_out}
    inside = {n: v for n, v in call.inputs.items() if n in call.constants - call.left_out}
    names = ["" if n in call.left_out else n for n in call.inputs]
    node = helper.make_node(call.operator, names, ["y"], "op", domain="qsam2", **call.attributes)
    graph = helper.make_graph(
        [node],
        "graph",
        [
            helper.make_tensor_value_info(n, kind(v.dtype), [None] * v.ndim)
            for n, v in outside.items()
        ],
        [helper.make_tensor_value_info("y", kind(np.dtype(call.output)), None)],
        [numpy_helper.from_array(v, n) for n, v in inside.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("qsam2", 1)]
    model: ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    serialised: bytes = model.SerializeToString()
    return serialised


def options_of(library: Path, threads: int) -> onnxruntime.SessionOptions:
    """Return options with which every tensor has memory of its own, whose ends are watched."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 4
    options.enable_cpu_mem_arena = options.enable_mem_pattern = False
    options.register_custom_ops_library(os.fspath(library))
    return options


def outcome_of(library: Path, call: Call) -> str:
    """Make a call; return where it was refused, or that it gave numbers."""
    feeds = {n: v for n, v in call.inputs.items() if n not in call.constants | call.left_out}
    model, options = model_of(call), options_of(library, call.threads)
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception:  # ONNX Runtime raises types of its own, without a base
        return "refused when opened"
    try:
        session.run(None, feeds)
    except Exception:
        return "refused when run"
    return "computed"


def main() -> None:
    """Make the calls that the command line asks for."""
    library, progress = Path(sys.argv[1]), Path(sys.argv[5])
    seed, first, count = (int(n) for n in sys.argv[2:5])
    paths = [name for name in PATHS if processor_path(library, name) is not None]
    outcomes: dict[str, Counter[str]] = {}
    with progress.open("wb", buffering=0) as stream:
        for number in range(first, first + count):
            os.pwrite(stream.fileno(), f"{number:12d}".encode(), 0)
            os.environ["QSAM2_KERNEL_PATH"] = paths[number % len(paths)]
            call = random_call(seed, number)
            outcomes.setdefault(call.operator, Counter())[outcome_of(library, call)] += 1
    sys.stdout.write(f"\n{json.dumps(outcomes)}\n")


if __name__ == "__main__":
    main()
