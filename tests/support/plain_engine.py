"""ONNX Runtime as tests use it for a graph of theirs, on one thread."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from qsam2_deploy.engines.onnxruntime.cpu import ort_products


def run_plainly(model: onnx.ModelProto, feeds: Mapping[str, Any]) -> list[np.ndarray]:
    """Check a model, run it, and return its outputs.

    The canonical form is computed as it is written, in floats: of QDQ around products ONNX Runtime
    would make integer products, which are not exact on processors without VNNI. What the lowering
    has made of it stays in integers.
    """
    onnx.checker.check_model(model, full_check=not any(o.domain for o in model.opset_import))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    if any(node.op_type == "DequantizeLinear" for node in model.graph.node):
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    found: list[np.ndarray] = session.run(None, dict(feeds))
    return found


FACTORS = [
    True,
    pytest.param(
        False,
        marks=pytest.mark.skipif(
            ort_products() != "unsigned by signed",
            reason="products of unsigned by signed bytes are not exact on this processor",
        ),
    ),
]
"""Both values of ``unsigned`` of the integer passes, as far as they are exact on this processor."""
