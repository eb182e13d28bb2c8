"""Quantize the graphs of a folder with NNCF's post-training quantization; a program of its own.

``python -m benchmarks.speed._nncf FOLDER INPUTS OUT``: graphs ``NAME.onnx`` with fixed shapes, one
set of inputs ``NAME.npz`` each. NNCF is an optional package and imports torch where it finds it.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import openvino

from benchmarks.speed._plain_backends import SPEC_FILE
from qsam2_deploy.spec import COMPONENTS


def main(folder: Path, inputs: Path, out: Path) -> None:
    """Write ``NAME.xml`` for every component."""
    import nncf

    out.mkdir(parents=True)
    for name in COMPONENTS:
        model = openvino.Core().read_model(folder / f"{name}.onnx")
        given = np.load(inputs / f"{name}.npz")
        feeds = {port.any_name: given[port.any_name] for port in model.inputs}
        quantized = nncf.quantize(
            model,
            nncf.Dataset([feeds]),
            model_type=nncf.ModelType.TRANSFORMER,
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=1,
        )
        openvino.save_model(quantized, out / f"{name}.xml", compress_to_fp16=False)
    shutil.copy(folder / SPEC_FILE, out)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
