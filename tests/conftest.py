"""Settings for all tests."""

from __future__ import annotations

import os
import signal

import hypothesis
import pytest

# Tiny models gain nothing from many threads, and tests should not take the whole machine.
os.environ.setdefault("OMP_NUM_THREADS", "2")
# Threads that spin while they wait slow everything down where the machine has other work.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# How long an example takes says more about the machine's other work than about the code.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c_interrupts():
    """A process that a script starts in the background ignores Ctrl-C; the tests send it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
