"""Run the tests that compare numbers with fewer instructions than this processor has.

    python -m tools.portable.instruction_sets

oneDNN (in torch and OpenVINO) and torch's own kernels take their instruction set from the
environment; ONNX Runtime has no such switch, and our own kernels are tested on every path by
``tests/engines/kernels``. The exit status is 1 if a test fails.
"""

from __future__ import annotations

import os
import subprocess
import sys

from tools.portable.processors import ROOT

TESTS = (
    "tests/parity/test_attention_products.py",
    "tests/parity/test_component_parity.py",
    "tests/parity/test_quantized_layers.py",
    "tests/parity/test_quantized_parity.py",
    "tests/parity/test_segmenter_parity.py",
    "tests/parity/test_sensitivity.py",
    "tests/parity/test_video_parity.py",
    "tests/engines/test_exactness.py",
)
VARIANTS: tuple[dict[str, str], ...] = (
    {"ONEDNN_MAX_CPU_ISA": "AVX2"},
    {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"},
    {"ATEN_CPU_CAPABILITY": "default"},
    {"ATEN_CPU_CAPABILITY": "avx2"},
    {"OMP_NUM_THREADS": "2"},
)


def main() -> int:
    """Run all variants; return the exit status."""
    failed = 0
    for variant in VARIANTS:
        command = [sys.executable, "-m", "pytest", "-q", "--numprocesses", "auto"]
        command += ["--dist", "loadfile", *TESTS]
        variables = {"OMP_NUM_THREADS": "1", **variant}
        result = subprocess.run(
            command,
            cwd=ROOT,
            env=os.environ | variables,
            capture_output=True,
            text=True,
            check=False,
        )
        told = result.stdout.strip().splitlines()
        wrong = [line for line in told if line.startswith(("FAILED", "ERROR"))]
        name = ", ".join(f"{key}={value}" for key, value in variant.items())
        print("\n  ".join([f"{name}: {told[-1] if told else result.stderr}", *wrong]), flush=True)
        failed += result.returncode != 0
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
