"""What is the same for all videos of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from ..errors import InputError
from ..media.writing.outputs import OutputPaths
from ..media.writing.result_format import format_helps

FINISHED = "finished.json"
"""The file of a video's results that is written last, and says what they are of."""


@dataclass(frozen=True)
class BatchOptions:
    """How every video is segmented, and what is written of it.

    Attributes:
        model: a ``model.onnx`` or ``model.engine``, where the workers are.
        out: a folder, or the URL of one that fsspec knows.
        outputs: a name in the video's folder for each of ``overlay``, ``masks``, ``json``,
            ``contact_sheet`` and the forms of :func:`.result_format.format_helps`.
        backend: inference engine, ``auto`` chooses.
        threads: of the engine of each worker.
        precision: ``exact`` or ``fast``.
        memory_frames: how many memories are attended to; None for the model's own number.
        cache: folder for the lowered graphs.
        ignore_orientation: leave images as they are stored.
        audio: copy the sound of a video into the overlay.

    Raises:
        InputError: there is no output, or one is unknown or not the name of a file in a folder.
    """

    model: str
    out: str
    outputs: Mapping[str, str] = field(default_factory=dict)
    backend: str = "auto"
    threads: int | None = 1
    precision: str = "exact"
    memory_frames: int | None = None
    cache: str | None = None
    ignore_orientation: bool = False
    audio: bool = True

    def __post_init__(self) -> None:
        known = [*OWN_OUTPUTS, *format_helps()]
        if not self.outputs:
            raise InputError(f"nothing would be written; choose some of: {', '.join(known)}")
        for output, name in self.outputs.items():
            if output not in known:
                raise InputError(f"there is no output {output!r}; expected {', '.join(known)}")
            whole = name and PurePath(name).name == name
            if not whole or name.startswith(".") or name == FINISHED:
                raise InputError(
                    f"the {output} {name!r} must be the name of a file or folder that is made in "
                    f"the folder of each video, and not {FINISHED}"
                )
        if len(set(self.outputs.values())) < len(self.outputs):
            raise InputError("two outputs have the same name; give each its own")

    def of_results(self) -> dict[str, Any]:
        """Return those that results depend on, as JSON values."""
        return {
            "outputs": dict(sorted(self.outputs.items())),
            "backend": self.backend,
            "precision": self.precision,
            "memory_frames": self.memory_frames,
            "ignore_orientation": self.ignore_orientation,
            "audio": self.audio,
        }


OWN_OUTPUTS = tuple(f for f in OutputPaths.__dataclass_fields__ if f != "formats")
"""The outputs that are no forms for other tools."""
