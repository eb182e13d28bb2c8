"""Predicts frames per second on Jetson modules from peak figures; nothing is run on a device.

Operations and bytes of each component are counted in graphs of official architectures at 1024
pixels, with random weights, for one object and seven memory frames. A component takes at least
``max(operations / peak rate, bytes / bandwidth)``; a frame takes the sum of all four. What comes
out is an upper bound: no engine reaches peak rates, cameras and drawing are not counted, and
activations that stay in a cache are the only thing that it does not allow for. It is printed for
ideal fusion, and for none; see ``benchmarks/speed/_traffic.py``.

Example::

    python -m benchmarks.speed.roofline --models tiny base_plus --json roofline.json
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks._report import benchmark_parser, write_report
from benchmarks.speed._traffic import PRECISIONS, Work, work_of
from qsam2_deploy.cli._main import command
from qsam2_deploy.export import onnx_from_checkpoint
from qsam2_deploy.model_file.bundle import read_bundle
from qsam2_deploy.onnx_graph.tensors import STEADY_STATE
from qsam2_deploy.spec import ModelSpec

SIZES = ("tiny", "small", "base_plus", "large")
BITS = "w4a8"  # one file has all: its codes of 4 bits are also INT8 codes, and numbers in FP16

NOTE = "Predictions, not measurements: upper bounds from peak figures. Nothing was run on a device."


@dataclass(frozen=True)
class Device:
    """Published peak figures of a module's GPU, without sparsity, without DLA.

    Attributes:
        name: of the module and its fastest power mode.
        fp16: tensor-core TFLOP/s with dense FP16.
        int8: tensor-core TOP/s with dense INT8.
        bandwidth: of the memory, in GB/s.
        source: where the figures are from, and what was derived from them.
    """

    name: str
    fp16: float
    int8: float
    bandwidth: float
    source: str


# An Ampere SM of these modules does 4096 dense INT8 operations a cycle, and half as many in FP16:
# 16 SMs at 1.3 GHz are the 85 TOPS (170 sparse) of the AGX Orin 64 GB, 8 at 1.02 GHz the 33 TOPS
# of the Orin Nano Super.
DEVICES = (
    Device(
        "Orin Nano 8GB (Super)",
        fp16=17,
        int8=33,
        bandwidth=102,
        source=(
            "NVIDIA Technical Blog, 'NVIDIA Jetson Orin Nano Developer Kit Gets a \"Super\" Boost' "
            "(December 2024), table of specifications: 67 TOPS sparse, 33 TOPS dense, 17 FP16 "
            "TFLOPS, 102 GB/s"
        ),
    ),
    Device(
        "Orin NX 16GB (Super)",
        fp16=19.2,
        int8=38.4,
        bandwidth=102.4,
        source=(
            "NVIDIA Technical Blog, 'NVIDIA JetPack 6.2 Brings Super Mode to NVIDIA Jetson Orin "
            "Nano and Jetson Orin NX Modules' (January 2025): GPU of 1024 cores at 1173 MHz, 157 "
            "TOPS sparse with DLA; NVIDIA, 'Jetson Orin NX Series Modules Data Sheet' "
            "(DS-10712-001): 102.4 GB/s. The GPU's share is derived: 8 SMs x 4096 operations x "
            "1173 MHz, half of it in FP16"
        ),
    ),
    Device(
        "AGX Orin 64GB",
        fp16=42.5,
        int8=85,
        bandwidth=204.8,
        source=(
            "NVIDIA, 'Jetson AGX Orin Series Technical Brief' v1.2 and the README of "
            "NVIDIA/Deep-Learning-Accelerator-SW: 170 (171) TOPS sparse INT8 of the GPU in MAXN; "
            "NVIDIA, 'Jetson AGX Orin Series Data Sheet' (DS-10662-001): 204.8 GB/s. Dense is half "
            "of sparse, and FP16 half of INT8"
        ),
    ),
    Device(
        "Thor T5000",
        fp16=258,
        int8=517,
        bandwidth=273,
        source=(
            "NVIDIA, 'Jetson Thor' product page and 'Jetson Thor Series Modules Data Sheet' "
            "(DS-11945-001): 2070 TFLOPS sparse FP4, 1035 sparse FP8, 273 GB/s. Dense is half of "
            "sparse, FP16 half of FP8. INT8 is ASSUMED to run at the rate of FP8: no published "
            "figure was found"
        ),
    ),
)


@dataclass(frozen=True)
class Bound:
    """The least time of a frame on one device.

    Attributes:
        milliseconds: by component.
        limited_by: ``operations`` or ``bytes``, by component.
    """

    milliseconds: dict[str, float]
    limited_by: dict[str, str]

    @property
    def fps(self) -> float:
        """Frames per second that cannot be exceeded."""
        return 1e3 / sum(self.milliseconds.values())


def bound(works: dict[str, Work], precision: str, device: Device, *, fused: bool) -> Bound:
    """Return the roofline of a tracked frame.

    Args:
        works: of all components, counted at ``precision``.
        precision: only ``int8`` multiplies integers; ``int4`` is widened to FP16 first.
        device: where.
        fused: whether activations between products stay on the chip.
    """
    milliseconds, limits = {}, {}
    for name, work in works.items():
        rate = device.int8 if precision == "int8" else device.fp16
        compute = work.quantized / rate + (work.attention + work.other) / device.fp16
        moved = work.weights + (work.fused if fused else work.unfused)
        times = {"operations": compute / 1e9, "bytes": moved / device.bandwidth / 1e6}
        limits[name] = max(times, key=times.__getitem__)
        milliseconds[name] = times[limits[name]]
    return Bound(milliseconds, limits)


def bank_bytes(spec: ModelSpec) -> int:
    """Return the bytes that one object's memories and pointers take when all slots are filled."""
    memory = 2 * spec.memory_dim * spec.feature_size**2  # in bfloat16, as the runtime keeps them
    return STEADY_STATE["F"] * memory + STEADY_STATE["N"] * 4 * spec.d_model


def count(path: Path) -> dict[str, Any]:
    """Return the work of a model file by precision and component, and its memory bank's bytes."""
    bundle = read_bundle(path)
    works = {
        precision: {name: work_of(part, precision) for name, part in bundle.components.items()}
        for precision in PRECISIONS
    }
    return {"works": works, "bank": bank_bytes(bundle.spec)}


def export(name: str, folder: Path) -> Path:
    """Write an official architecture with random weights, unless the folder has it already."""
    path = folder / f"{name}_{BITS}.onnx"
    if not path.exists():
        # These import torch, which takes long and is not needed for files that are there.
        from benchmarks.speed.lowbit_sizes import quantized
        from qsam2_deploy.quant.checkpoints.architecture import (
            build_model,
            effective_config,
            official_config,
        )
        from tests.support.weights import random_state_dict

        config = effective_config(official_config(f"sam2.1_hiera_{name}"))
        state = random_state_dict(build_model(config))
        onnx_from_checkpoint(quantized(name, BITS, state), path, show_progress=False)
    return path


def rows_of(name: str, counted: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what one model needs and reaches, one row for each precision."""
    for precision, works in counted["works"].items():
        predictions = {}
        for device in DEVICES:
            ideal, none = (bound(works, precision, device, fused=fused) for fused in (True, False))
            predictions[device.name] = {
                "fps_ideal_fusion": round(ideal.fps, 1),
                "fps_no_fusion": round(none.fps, 1),
                "ms_ideal_fusion": {k: round(v, 3) for k, v in ideal.milliseconds.items()},
                "limited_by": ideal.limited_by,
            }
        yield {
            "model": name,
            "precision": precision,
            "work": {part: asdict(work) for part, work in works.items()},
            "memory": {
                "weights": sum(work.weights for work in works.values()),
                "scratch": max(work.scratch for work in works.values()),
                "bank_per_object": counted["bank"],
            },
            "predictions": predictions,
        }


def print_work(rows: Sequence[dict[str, Any]]) -> None:
    """Print operations, bytes and memory of every model."""
    print(f"{'':22}{'GFLOP per frame':>28}{'MB per frame':>27}{'MB of memory':>24}")
    print(
        f"{'model':12}{'widths':10}{'quantized':>10}{'attention':>10}{'other':>8}"
        f"{'weights':>9}{'fused':>9}{'unfused':>9}{'scratch':>12}{'bank/object':>12}"
    )
    for row in rows:
        parts = row["work"].values()
        sums = {key: sum(part[key] for part in parts) for key in next(iter(parts))}
        flop = [sums[key] / 1e9 for key in ("quantized", "attention", "other")]
        moved = [sums[key] / 1e6 for key in ("weights", "fused", "unfused")]
        memory = [row["memory"][key] / 1e6 for key in ("scratch", "bank_per_object")]
        print(
            f"{row['model']:12}{row['precision']:10}{flop[0]:10.1f}{flop[1]:10.1f}{flop[2]:8.1f}"
            f"{moved[0]:9.1f}{moved[1]:9.0f}{moved[2]:9.0f}{memory[0]:12.0f}{memory[1]:12.2f}"
        )


def print_predictions(rows: Sequence[dict[str, Any]]) -> None:
    """Print the bounds of frames per second: without fusion and with ideal fusion."""
    print(f"\nframes per second, no fusion - ideal fusion. {NOTE}")
    print(f"{'model':12}{'widths':10}" + "".join(f"{device.name:>24}" for device in DEVICES))
    for row in rows:
        cells = (
            f"{found['fps_no_fusion']:.1f} - {found['fps_ideal_fusion']:.1f}"
            for found in row["predictions"].values()
        )
        print(f"{row['model']:12}{row['precision']:10}" + "".join(f"{cell:>24}" for cell in cells))


@command("benchmarks.speed.roofline")
def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit status."""
    parser = benchmark_parser("benchmarks.speed.roofline", __doc__)
    parser.add_argument("--models", nargs="+", default=list(SIZES), choices=SIZES)
    parser.add_argument("--folder", type=Path, help="keep the models here, to use them again")
    args = parser.parse_args(argv)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        for name in args.models:
            rows += rows_of(name, count(export(name, folder)))
    print_work(rows)
    print_predictions(rows)
    devices = [asdict(device) for device in DEVICES]
    results = {"note": NOTE, "steady_state": STEADY_STATE, "devices": devices, "rows": rows}
    write_report("roofline", results, args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
