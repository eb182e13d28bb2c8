"""Keeping the inference engines from reporting home, before either of them is imported.

ONNX Runtime from 1.29 on keeps a device id and a database of events in the home folder, and sends
them, unless ``ORT_DISABLE_TELEMETRY`` is set when it is imported. OpenVINO sends an event when it
is imported, through the package ``openvino_telemetry``; without that it sends nothing. The library
of the Hugging Face Hub tells the hub more than which file it wants, unless
``HF_HUB_DISABLE_TELEMETRY`` is set.
"""

from __future__ import annotations

import os
import sys
from typing import Any

ALLOW_VARIABLE = "QSAM2_ALLOW_TELEMETRY"
"""Environment variable that leaves the engines as their makers ship them, if it is ``1``."""

_ONNXRUNTIME_VARIABLE = "ORT_DISABLE_TELEMETRY"
_HUB_VARIABLE = "HF_HUB_DISABLE_TELEMETRY"
_OPENVINO_PACKAGE = "openvino_telemetry"


def silence() -> None:
    """Switch telemetry off in this process and those that it starts.

    Does nothing where ``QSAM2_ALLOW_TELEMETRY=1``. What an engine sent that was imported earlier
    cannot be taken back; ONNX Runtime is then asked to send no more.
    """
    if os.environ.get(ALLOW_VARIABLE) == "1":
        return
    os.environ[_ONNXRUNTIME_VARIABLE] = "1"
    os.environ[_HUB_VARIABLE] = "1"
    # An entry of None makes importing fail, and OpenVINO then uses a stub of its own.
    modules: dict[str, Any] = sys.modules
    modules.setdefault(_OPENVINO_PACKAGE, None)
    disable = getattr(modules.get("onnxruntime"), "disable_telemetry_events", None)
    if disable is not None:
        disable()
