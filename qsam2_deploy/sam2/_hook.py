"""Answers ``import sam2`` with the modules of this folder."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

from ..errors import Qsam2Error

_OURS = __name__.rpartition(".")[0]


class NotAnsweredError(ModuleNotFoundError, Qsam2Error):
    """A module that scripts may import, and that is not there."""


class _Alias(Loader):
    """Makes a module with the names of another one."""

    def __init__(self, target: str) -> None:
        self._target = target

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:  # noqa: ARG002 - see the base
        return None

    def exec_module(self, module: ModuleType) -> None:
        target = importlib.import_module(self._target)
        own = {"__name__", "__spec__", "__loader__", "__package__", "__path__"}
        module.__dict__.update({k: v for k, v in vars(target).items() if k not in own})


class _Finder(MetaPathFinder):
    """Finds ``sam2`` and its modules here, whatever is installed or put on ``sys.path``."""

    def __init__(self, name: str, target: str) -> None:
        self._name, self._target = name, target

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,  # noqa: ARG002 - see the base
        target: ModuleType | None = None,  # noqa: ARG002 - see the base
    ) -> ModuleSpec | None:
        if fullname != self._name and not fullname.startswith(f"{self._name}."):
            return None
        ours = self._target + fullname[len(self._name) :]
        try:
            found = importlib.util.find_spec(ours)
        except ModuleNotFoundError:  # its parent is not there either
            found = None
        if found is None:
            raise NotAnsweredError(self._absent(fullname), name=fullname)
        is_package = found.submodule_search_locations is not None
        spec = ModuleSpec(fullname, _Alias(ours), origin=found.origin, is_package=is_package)
        spec.has_location = True
        return spec

    def _absent(self, name: str) -> str:
        if self._name == "sam2":
            return (
                f"the script imports {name}, which qsam2-run has not: it answers what predicts "
                "masks (build_sam, the predictors, automatic_mask_generator, utils.misc), and no "
                "modules to train or change"
            )
        return (
            f"the script imports {name}, which the stand-in for {self._name} of qsam2-run has not; "
            f"run: pip install {self._name}"
        )


def answer_imports(name: str = "sam2", target: str = _OURS) -> None:
    """Give whoever imports ``name``, or a module of it, those of ``target``.

    What has been imported by this name before is forgotten.

    Args:
        name: a package.
        target: a package of ours.
    """
    for loaded in [key for key in sys.modules if key == name or key.startswith(f"{name}.")]:
        del sys.modules[loaded]
    sys.meta_path.insert(0, _Finder(name, target))
