"""Accuracy against size: results of evaluations with the files of their models."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .._common.checkpoint_files import is_checkpoint
from .._common.files import file_digest
from ..errors import InputError
from ..evaluation.score_file import ScoreFile, read_scores
from ..quant.checkpoints.checkpoint import load_checkpoint, read_tensors
from .sizes import model_sizes, tensor_sizes

_MEGABYTE = 1e6


@dataclass(frozen=True)
class ScorePoint:
    """One evaluated model.

    Attributes:
        name: of its file, without the suffix.
        benchmark: what it was scored on.
        j_and_f: mean of J and F, percent.
        megabytes: its size, 10^6 bytes: of the file of a ``model.onnx``, of the packed weights of
            a checkpoint.
    """

    name: str
    benchmark: str
    j_and_f: float
    megabytes: float


def score_points(scores: Sequence[Path], models: Iterable[Path]) -> list[ScorePoint]:
    """Return a point for each file of scores.

    Args:
        scores: written by ``qsam2-eval --json``.
        models: files among which the evaluated models are, found by their digest; those beside
            the scores need not be named.

    Raises:
        InputError: a file is damaged, or the model of some scores is not among ``models``.
    """
    named = list(models)
    for model in named:
        if not model.is_file():
            raise InputError(f"there is no model {model}; check the path")
    return [_point(read_scores(path), named) for path in scores]


def _point(scores: ScoreFile, models: Sequence[Path]) -> ScorePoint:
    if scores.model_sha256 is None:
        raise InputError(
            f"the scores {scores.path} are those of masks, not of a model, so there is no size to "
            "draw them at; leave them out"
        )
    for path in (scores.path.parent / scores.model, *models):
        if path.is_file() and file_digest(path) == scores.model_sha256:
            return ScorePoint(path.stem, scores.benchmark, scores.j_and_f, _megabytes(path))
    raise InputError(
        f"the scores {scores.path} are those of {scores.model} with the SHA-256 "
        f"{scores.model_sha256[:12]}..., which is not beside them; give it with --models"
    )


def _megabytes(path: Path) -> float:
    if not is_checkpoint(path):
        return path.stat().st_size / _MEGABYTE
    tensors, quantized = read_tensors(path)
    if quantized:
        return model_sizes(load_checkpoint(path).model).packed / _MEGABYTE
    return tensor_sizes(tensors).float32 / _MEGABYTE
