"""TensorRT and TensorRT-RTX: running engines, their file, and every call to the builder.

Everything here works with both libraries. Which one is meant is decided in :mod:`.library`, and all
calls to it are in :mod:`.adapter`.
"""

from __future__ import annotations
