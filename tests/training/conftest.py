"""Fixtures for the tests of training."""

import importlib
import importlib.util
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Tiny models gain nothing from more, and sums come in the same order everywhere."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def upstream():
    """Upstream's ``training`` package, without the packages that only its trainer needs."""
    if importlib.util.find_spec("training.loss_fns") is None:
        pytest.skip("this sam2 package comes without upstream's training code")
    trainer, tensordict = ModuleType("training.trainer"), ModuleType("tensordict")
    trainer.CORE_LOSS_KEY = "core_loss"
    tensordict.tensorclass = lambda cls: cls
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "training.trainer", trainer)
        patch.setitem(sys.modules, "tensordict", tensordict)
        yield SimpleNamespace(
            losses=importlib.import_module("training.loss_fns"),
            model=importlib.import_module("training.model.sam2"),
        )
    for name in [name for name in sys.modules if name.split(".")[0] == "training"]:
        del sys.modules[name]
