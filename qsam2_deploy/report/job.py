"""What a report is to be of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError

DEFAULT_IMAGES = 16


@dataclass(frozen=True)
class ReportJob:
    """What to report on, and where to.

    Attributes:
        checkpoint: a quantized checkpoint.
        output: ``FILE.html``, or a folder, which is made if its parent is there.
        float_checkpoint: the float checkpoint that it was made from, or None.
        data: an image, a folder of images or a video, or None.
        images: most images of ``data`` to use.
        layers: patterns of the layers that are drawn one by one; by default the worst six.
        log: of the training; None for ``<checkpoint>.log.jsonl`` if it is there.
        scores: results of ``qsam2-eval --json``.
        models: files of the models that ``scores`` are of, where they are not beside them.

    Raises:
        InputError: a number is not positive, or models are given without scores.
    """

    checkpoint: Path
    output: Path
    float_checkpoint: Path | None = None
    data: Path | None = None
    images: int = DEFAULT_IMAGES
    layers: tuple[str, ...] = ()
    log: Path | None = None
    scores: tuple[Path, ...] = ()
    models: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        if self.images < 1:
            raise InputError(f"the number of images must be at least 1, but got {self.images}")
        if self.models and not self.scores:
            raise InputError("models are given without scores; give those with --scores")
