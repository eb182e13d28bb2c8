"""Operators of our own for ONNX Runtime on the CPU: optional, compiled once on the machine.

``src/`` is a library in C11 without dependencies. It speaks ONNX Runtime's interface for custom
operators; ``src/ort_abi.h`` declares the little of it that is needed. ``qsam2-build-kernels``
compiles it with the system's compiler into a folder of the user's cache, under a name that holds
the digest of the sources and flags, and from then on
:class:`~qsam2_deploy.engines.onnxruntime.cpu.OrtBackend` uses it. Without it, or with
``QSAM2_KERNELS=0``, the runtime computes the same with ONNX Runtime's own operators, more slowly.

The best code for the processor is chosen when a session is made: ``avx512vnni``, ``avxvnni``,
``avx2``, ``neon`` (with the dot product) or ``generic``. ``QSAM2_KERNEL_PATH`` forces one. All give
the same numbers to the bit.
"""

from .build import build_kernels
from .library import CACHE_VARIABLE, SWITCH_VARIABLE, find_kernels, kernels_path, processor_path

__all__ = [
    "CACHE_VARIABLE",
    "SWITCH_VARIABLE",
    "build_kernels",
    "find_kernels",
    "kernels_path",
    "processor_path",
]
