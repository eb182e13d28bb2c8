"""Run the tests that compare numbers with fewer instructions than this processor has.

    python -m tools.portable.instruction_sets

oneDNN (in torch and OpenVINO) and torch's own kernels take their instruction set from the
environment; ONNX Runtime has no such switch, and our own kernels are tested on every path by
``tests/engines/kernels``. OpenVINO asks the processor, too, and where the two contradict each other
it may refuse the probe of :mod:`qsam2_deploy.engines.exactness`, as a user would be told; then its
tests are left out. The exit status is 1 if a test fails.
"""

from __future__ import annotations

import argparse
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
_WITHOUT_OPENVINO = "not openvino and not auto_takes_the_engine"
_PROBE = """
import sys
from qsam2_deploy.engines.openvino.requests import require_exact_products
from qsam2_deploy.errors import EngineError
try:
    require_exact_products()
except EngineError:
    sys.exit(3)
"""


def run(variant: dict[str, str], *line: str) -> subprocess.CompletedProcess[str]:
    """Run Python with the environment of a variant."""
    variables = os.environ | {"OMP_NUM_THREADS": "1", **variant}
    return subprocess.run(
        [sys.executable, *line],
        cwd=ROOT,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )


def main() -> int:
    """Run all variants; return the exit status."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    failed = 0
    for variant in VARIANTS:
        line = ["-m", "pytest", "-q", "--numprocesses", "auto", "--dist", "loadfile", *TESTS]
        name = ", ".join(f"{key}={value}" for key, value in variant.items())
        if run(variant, "-c", _PROBE).returncode == 3:
            line += ["-k", _WITHOUT_OPENVINO]
            name += " (OpenVINO refuses to run so)"
        result = run(variant, *line)
        told = result.stdout.strip().splitlines()
        wrong = [line for line in told if line.startswith(("FAILED", "ERROR"))]
        print("\n  ".join([f"{name}: {told[-1] if told else result.stderr}", *wrong]), flush=True)
        failed += result.returncode != 0
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
