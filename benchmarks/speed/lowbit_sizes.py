"""Sizes of low-bit files of official architectures, and how long they take to open.

Weights are random with the outliers of the real model: what they are does not change a size. All
layers are quantized, the first and last ones to 8 bits.

Example::

    python -m benchmarks.speed.lowbit_sizes --models tiny base_plus --bits w8a8 w4a4 w2a2
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks._report import benchmark_parser, write_report
from qsam2_deploy.calibration.plan import EDGES, parse_bits, plan_layers
from qsam2_deploy.cli._main import command
from qsam2_deploy.engines.onnxruntime.cpu import session_from_onnx
from qsam2_deploy.export import onnx_from_checkpoint
from qsam2_deploy.inspection.sizes import file_sizes
from qsam2_deploy.model_file.bundle import read_bundle, read_model
from qsam2_deploy.quant.checkpoints.architecture import (
    build_model,
    effective_config,
    official_config,
)
from qsam2_deploy.quant.checkpoints.checkpoint import Checkpoint
from qsam2_deploy.quant.checkpoints.storage import round_rest
from qsam2_deploy.quant.layers.modules import layers_in_scope, quantize_layers
from tests.support.weights import random_state_dict

BF16_BYTES = 2


def quantized(name: str, bits: str, state: dict[str, torch.Tensor]) -> Checkpoint:
    """Build an official model and quantize every layer of it, without data."""
    config = effective_config(official_config(f"sam2.1_hiera_{name}"))
    model = build_model(config)
    model.load_state_dict(state)
    names = list(layers_in_scope(model, "all"))
    plan = plan_layers(names, bits=bits, method="lsc", edges=EDGES, half_steps=True)
    round_rest(model, plan)
    for layer in quantize_layers(model, plan).values():
        rows = layer.weight_rows()
        layer.weight_quantizer.warm_start(2 * rows.std(1), rows.std(1), rows.mean(1))
        one = torch.tensor(1.0)
        layer.input_quantizer.warm_start(3 * one, one, 0 * one)
    model.eval().requires_grad_(False)
    widths = dict(zip(("weight_bits", "activation_bits"), parse_bits(bits), strict=True))
    return Checkpoint(Path(name), name, model, config, "0" * 64, {"scope": "all", **widths})


def open_seconds(path: Path) -> float:
    """Return processor seconds until ONNX Runtime has all four sessions."""
    started = time.process_time()
    sessions = [session_from_onnx(part, 1) for part in read_bundle(path).components.values()]
    seconds = time.process_time() - started
    assert len(sessions) == 4
    return round(seconds, 2)


def measure(name: str, bits: str, state: dict[str, torch.Tensor], folder: Path) -> dict[str, Any]:
    """Export one model at one width and measure the file."""
    path = folder / f"{name}_{bits}.onnx"
    onnx_from_checkpoint(quantized(name, bits, state), path, show_progress=False)
    whole = BF16_BYTES * sum(tensor.numel() for tensor in state.values())
    size = path.stat().st_size
    row = {"model": name, "bits": bits, "bytes": size, "bf16_bytes": whole}
    return row | {
        "parts": file_sizes(read_model(path)).parts,
        "open_cpu_seconds": open_seconds(path),
    }


@command("benchmarks.speed.lowbit_sizes")
def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit status."""
    parser = benchmark_parser("benchmarks.speed.lowbit_sizes", __doc__)
    parser.add_argument("--models", nargs="+", default=["tiny", "base_plus"])
    parser.add_argument("--bits", nargs="+", default=["w8a8", "w4a4", "w2a2"])
    args = parser.parse_args(argv)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in args.models:
            config = effective_config(official_config(f"sam2.1_hiera_{name}"))
            state = random_state_dict(build_model(config))
            for bits in args.bits:
                rows.append(measure(name, bits, state, Path(folder)))
                ratio = rows[-1]["bf16_bytes"] / rows[-1]["bytes"]
                size, seconds = rows[-1]["bytes"] / 1e6, rows[-1]["open_cpu_seconds"]
                print(f"{name:10}{bits:6}{size:8.2f} MB{ratio:7.2f}x bf16{seconds:7.2f} s to open")
    write_report("lowbit_sizes", rows, args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
