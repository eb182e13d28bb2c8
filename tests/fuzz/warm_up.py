"""What the process does before it forks: every module is imported, and all that is cached is made.

The threads that libraries have started by then sleep. Those of an engine's session would not, so no
session stays open, and none has more than one thread.
"""

import gc
import random
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from qsam2_deploy.errors import Qsam2Error
from tests.fuzz.readers import READERS


def warm_up(names: Iterable[str]) -> None:
    """Read one valid or changed file of each reader here."""
    for name in names:
        reader = READERS[name]
        for seed in range(3):
            rng = random.Random(seed)
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, "file")
                reader.make(rng)
                path.write_bytes(b"")
                try:
                    reader.read(path, rng)
                except Qsam2Error:
                    continue
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    if {"model", "inspect"} & set(names):
        _warm_up_engine()
    gc.freeze()  # what is not looked at again is not copied, either


def _warm_up_engine() -> None:
    """Open a valid model once, so that what is found out about the processor is known."""
    from qsam2_deploy.engines.onnxruntime.cpu import OrtBackend
    from tests.fuzz.samples import model_files

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "m.onnx")
        path.write_bytes(model_files()[0])
        with OrtBackend(path, 1, kernels=False):
            pass
