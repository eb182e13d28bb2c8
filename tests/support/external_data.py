"""Data that the repository does not hold: real videos, photos, another trained checkpoint."""

import os
from pathlib import Path

import pytest

DATA = Path(os.environ.get("QSAM2_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
"""Where they are looked for; only the tests that are marked with :func:`needs_data` use them.

``davis/`` is DAVIS 2016 at 480p, ``images/truck.jpg`` the photo of SAM 2's notebooks,
``checkpoints/nano128.pt`` any small trained checkpoint with its ``.yaml``.
"""

REASON = "needs real videos, photos or a checkpoint"
"""Reason of tests that are skipped without the data; the end of a run counts them."""


def needs_data(*paths: Path) -> pytest.MarkDecorator:
    """Skip a test where one of ``paths`` is absent; ``conftest.py`` marks it as ``data``."""
    return pytest.mark.skipif(not all(path.exists() for path in paths), reason=REASON)
