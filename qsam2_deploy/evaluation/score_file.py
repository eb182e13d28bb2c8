"""Reading back the results that ``qsam2-eval --json`` wrote."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .._common.contradictions import reason_of
from .._common.json import read_json
from ..errors import InputError
from .results import SCHEMA_VERSION


@dataclass(frozen=True)
class ScoreFile:
    """The means of an evaluation, in percent, and what was evaluated.

    Attributes:
        path: the file.
        j: mean region similarity.
        f: mean boundary accuracy.
        j_and_f: their mean.
        objects: number of objects behind them.
        benchmark: dataset and prompt; results of different ones cannot be compared.
        model: name of the model's file.
        model_sha256: its digest, or None for masks of another program.
    """

    path: Path
    j: float
    f: float
    j_and_f: float
    objects: int
    benchmark: str
    model: str
    model_sha256: str | None


def read_scores(path: str | os.PathLike[str]) -> ScoreFile:
    """Read the results of an evaluation.

    Raises:
        InputError: the file cannot be read, is damaged, or is of a newer version.
    """
    source = Path(path)
    try:
        data = read_json(source)
    except OSError as error:
        raise InputError(
            f"cannot read the scores {source}: {error.strerror or error}; check the path"
        ) from error
    except ValueError as error:
        raise _damaged(source, f"it is not valid JSON: {reason_of(error)}") from error
    version = data.get("schema_version") if isinstance(data, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise InputError(
            f"the scores {source} have format version {version}, but this version of qsam2-deploy "
            f"reads up to {SCHEMA_VERSION}; run: pip install -U qsam2-deploy"
        )
    try:
        return _score_file(source, data)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise _damaged(source, reason_of(error)) from error


def _score_file(path: Path, data: Any) -> ScoreFile:
    settings = data["settings"]
    digest = settings.get("model_sha256")
    j, f, j_and_f = _means(data)
    return ScoreFile(
        path=path,
        j=j,
        f=f,
        j_and_f=j_and_f,
        objects=int(data["objects"]),
        benchmark=f"{settings.get('dataset', data['rule'])}, {settings['prompt']}, "
        f"{data['objects']} objects",
        model=str(settings.get("model", path.stem)),
        model_sha256=None if digest is None else str(digest),
    )


def _means(data: Any) -> tuple[float, float, float]:
    j, f, j_and_f = (float(data[key]) for key in ("J", "F", "J&F"))
    if not all(math.isfinite(mean) for mean in (j, f, j_and_f)):
        raise ValueError("a mean is not finite")
    return j, f, j_and_f


def _damaged(path: Path, reason: str) -> InputError:
    return InputError(
        f"the scores {path} are damaged or no results of qsam2-eval ({reason}); expected a file "
        "written with --json"
    )
