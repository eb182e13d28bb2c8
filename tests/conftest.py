"""Settings for all tests."""

from __future__ import annotations

import os

# Tiny models gain nothing from many threads, and tests should not take the whole machine.
os.environ.setdefault("OMP_NUM_THREADS", "2")
# Threads that spin while they wait slow everything down where the machine has other work.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
