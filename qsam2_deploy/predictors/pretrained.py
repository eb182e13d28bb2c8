"""Models by the name or path of their checkpoint: exported once, and kept among the user's caches.

Exporting needs torch, which this process never imports: ``qsam2-export`` runs in another one.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import importlib.util
import inspect
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, TypeVar

from .._common.checkpoint_files import Location, find_checkpoint
from .._common.files import file_digest, user_cache_folder
from .._common.seal import verify
from .._common.trust import distrust, trusted_cache
from .._common.version import __version__
from ..errors import CheckpointError, MissingDependencyError, ModelFileError
from .shared_model import MODEL_SUFFIXES, open_shared

_Predictor = TypeVar("_Predictor", bound="FromPretrained")

_NEEDED = ("torch", "sam2", "onnx")
_PACKAGE = Path(__file__).parents[1]
_ERROR = "qsam2-export: error: "
_PRIVATE = 0o755
_IGNORED = ("device", "mode", "vos_optimized")


class FromPretrained:
    """What both predictors have of upstream's ``from_pretrained``."""

    @classmethod
    def from_pretrained(
        cls: type[_Predictor], model_id: str | os.PathLike[str], **kwargs: Any
    ) -> _Predictor:
        """Open a model by its name on the Hugging Face Hub, as the official predictor does.

        The checkpoint is exported when it is used for the first time, in another process, which
        needs the extra ``export``; the ``model.onnx`` stays in ``~/.cache/qsam2-deploy/exported``.

        Args:
            model_id: such as ``facebook/sam2.1-hiera-tiny``; or the path of a checkpoint, of a
                folder that transformers saved, or of a ``model.onnx`` or ``model.engine``.
            **kwargs: further arguments of the class, and ``hydra_overrides_extra`` and
                ``apply_postprocessing`` as for :func:`.build_sam2_video_predictor`. Those of
                upstream that choose a device or mode are ignored.

        Raises:
            CheckpointError: there is no such checkpoint, or it cannot be used.
            MissingDependencyError: a package is missing that gets or exports it.
            ModelFileError: the model cannot be used.
            InputError: an override that an exported model cannot follow.
        """
        given = {name: value for name, value in kwargs.items() if name not in _IGNORED}
        model, options = open_shared(
            exported_model(model_id),
            given,
            given.pop("hydra_overrides_extra", ()),
            apply_postprocessing=given.pop("apply_postprocessing", True),
        )
        make: Any = cls
        known = inspect.signature(make).parameters
        taken = {name: value for name, value in options.items() if name in known}
        made: _Predictor = make(model, **{**taken, **given})
        return made


def exported_model(model_id: str | os.PathLike[str]) -> Path:
    """Return the ``model.onnx`` of a checkpoint, which is exported if the cache has none.

    Its name has the digest of the checkpoint and of the code that exports, so that it is never
    that of another one. A file that is damaged, or that others can write to, is made anew.

    Args:
        model_id: a name on the hub, or a path; an exported model is returned as it is.

    Raises:
        CheckpointError: there is no such checkpoint, or it cannot be exported.
        MissingDependencyError: a package is missing that gets or exports it.
    """
    if Path(model_id).suffix in MODEL_SUFFIXES:
        return Path(model_id)
    location = find_checkpoint(model_id)
    model = _cache_folder() / f"{location.weights.stem[:60]}-{_key(location)}.onnx"
    if not _is_whole(model):
        _export(model_id, location, model)
    return model


def _key(location: Location) -> str:
    digest = hashlib.sha256(f"{__version__} {_code()} {file_digest(location.weights)}".encode())
    if location.config is not None:
        digest.update(file_digest(location.config).encode())
    return digest.hexdigest()[:32]


@functools.cache
def _code() -> str:
    """Return a digest of the code that an exported model depends on."""
    digest = hashlib.sha256()
    for folder in ("export", "quant"):
        for path in sorted((_PACKAGE / folder).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _cache_folder() -> Path:
    """Return a folder for exported models; where the user's cannot be used, one of this process."""
    folder = user_cache_folder() / "exported"
    try:
        folder.mkdir(_PRIVATE, parents=True, exist_ok=True)
    except OSError:
        return _own_folder()
    usable = os.access(folder, os.W_OK) and trusted_cache(folder)
    return folder if usable else _own_folder()


@functools.cache
def _own_folder() -> Path:
    folder = tempfile.mkdtemp(prefix="qsam2-deploy-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def _is_whole(model: Path) -> bool:
    if not model.is_file() or distrust(model) is not None:
        return False
    try:
        verify(model.read_bytes(), str(model))
    except (OSError, ModelFileError):
        return False
    return True


def _export(model_id: str | os.PathLike[str], location: Location, model: Path) -> None:
    for package in _NEEDED:
        if importlib.util.find_spec(package) is None:
            raise MissingDependencyError(
                package,
                "export",
                f"exporting {model_id}, which is done once,",
                hint="run: pip install 'qsam2-deploy[export]', or export it on another machine "
                "(qsam2-export) and open its model.onnx here",
            )
    if sys.stderr.isatty():
        print(f"exporting {model_id} once, into {model.parent}", file=sys.stderr)
    path = os.pathsep.join([str(_PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "qsam2_deploy.cli.export", str(location.path), str(model)]
    result = subprocess.run(  # noqa: S603 - our own module, and no shell
        command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": path}
    )
    if result.returncode == 0 and model.is_file():
        return
    last = next((line for line in result.stderr.splitlines()[::-1] if _ERROR in line), "")
    raise CheckpointError(
        last.partition(_ERROR)[2]
        or f"exporting {model_id} failed with status {result.returncode}; run qsam2-export "
        f"{location.path} model.onnx, which says why"
    )
