"""Engines of TensorRT and TensorRT-RTX: building them, and the file that holds them.

Everything here works with both libraries. Which one is meant is decided in :mod:`.library`, and all
calls to it are in :mod:`.adapter`.
"""

from __future__ import annotations
