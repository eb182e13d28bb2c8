"""A strict double of the CUDA runtime of ``cuda-python``, made from frozen lists of its names.

Device memory is host memory at addresses of its own. Nothing that is enqueued on a stream is done
before somebody waits for the stream: who reads a result, or changes a source, too early computes
with the wrong numbers. Reads and writes of memory that was not allocated, was freed, is too small
or is not pinned raise at once, and ``check`` finds what was not given back.
"""

from .memory import Allocation, Memory, MisuseError
from .runtime import VERSIONS, CudaDouble

__all__ = ["VERSIONS", "Allocation", "CudaDouble", "Memory", "MisuseError"]
