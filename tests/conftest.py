"""Settings for all tests."""

import importlib
import os
import signal
from pathlib import Path
from types import ModuleType

import hypothesis
import pytest

from tests.support.external_data import REASON

pytest_plugins = ["tests.support.exported", "tests.support.hub_cache"]

# Tiny models gain nothing from many threads, and tests should not take the whole machine.
os.environ.setdefault("OMP_NUM_THREADS", "2")
# Threads that spin while they wait slow everything down where the machine has other work.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# How long an example takes says more about the machine's other work than about the code.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of data, so that they can be run alone."""
    for item in items:
        if any(mark.kwargs.get("reason") == REASON for mark in item.iter_markers("skipif")):
            item.add_marker("data")


def pytest_terminal_summary(terminalreporter):
    """Say in one line what was not tested for want of data."""
    skipped = terminalreporter.stats.get("skipped", [])
    count = sum(REASON in str(report.longrepr) for report in skipped)
    if count:
        where = "see tests/support/external_data.py and CONTRIBUTING.md"
        terminalreporter.write_line(f"{count} tests skipped: each {REASON}; {where}")


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c_interrupts():
    """A process that a script starts in the background ignores Ctrl-C; the tests send it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """Which engine is faster is remembered among the user's caches, but not from tests."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("caches")
        patch.setattr("qsam2_deploy.engines.choose.user_cache_folder", lambda: folder)
        yield


@pytest.fixture
def load(monkeypatch):
    """Give a function that imports a file of ``examples/``, as running one there does."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "examples")

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    return load


@pytest.fixture(scope="session")
def built(tmp_path_factory) -> Path:
    """The library of kernels, in a folder that is not the user's; or one that a test has built."""
    if given := os.environ.get("QSAM2_TEST_KERNELS"):
        return Path(given)
    pytest.importorskip("onnxruntime", reason="the kernels are for ONNX Runtime")
    from qsam2_deploy.engines.onnxruntime.kernels import build_kernels
    from qsam2_deploy.engines.onnxruntime.kernels.build import find_compiler
    from qsam2_deploy.errors import EngineError

    try:
        find_compiler()
    except EngineError as error:
        pytest.skip(str(error))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QSAM2_KERNEL_CACHE", str(tmp_path_factory.mktemp("kernels")))
        return build_kernels()


@pytest.fixture
def library(built, monkeypatch) -> Path:
    """The library, which backends find, with nothing of the user's own settings."""
    monkeypatch.setenv("QSAM2_KERNEL_CACHE", str(built.parent))
    for name in ("QSAM2_KERNELS", "QSAM2_KERNEL_PATH"):
        monkeypatch.delenv(name, raising=False)
    return built
