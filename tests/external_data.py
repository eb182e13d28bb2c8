"""Data that the repository does not hold: real videos, photos, other checkpoints."""

from __future__ import annotations

import os
from pathlib import Path

DATA = Path(os.environ.get("QSAM2_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
"""Where they are looked for; tests that use them skip where they are absent.

``davis/`` is DAVIS 2016 at 480p, ``images/truck.jpg`` the photo of SAM 2's notebooks,
``checkpoints/nano128.pt`` any small trained checkpoint with its ``.yaml``, ``weight_stats/*.csv``
name, numel, mean, std, min and max of every tensor of a real checkpoint.
"""
