"""Results as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...tracking.results import FrameResult, ObjectResult
from .drawing import mask_box
from .pending_file import PendingFile

SCHEMA_VERSION = 1


class JsonWriter:
    """Collects what was found on each frame; the file appears in :meth:`close`.

    The file is an object: ``schema_version``, the entries of ``header``, ``complete`` (false if
    the run ended early), and ``frames``, a list of ``{"frame", "time", "seconds", "objects"}``:
    its number, when the source shows it (in seconds from the source's first frame; left out where
    it does not tell), and how long it took. Each object is ``{"object", "score", "visible",
    "area", "box"}``: the object score logit, the mask's pixels, and ``[x1, y1, x2, y2]`` around
    them (``x2``, ``y2`` are one past the last pixel) or null.
    """

    def __init__(self, path: Path, header: Mapping[str, Any]) -> None:
        """Open ``path``; ``header`` holds JSON values.

        Raises:
            InputError: the folder is absent or cannot be written to.
        """
        self.path = path
        self._header = dict(header)
        self._frames: list[dict[str, Any]] = []
        self._file: PendingFile | None = PendingFile(path)

    def write(
        self, frame_index: int, result: FrameResult, seconds: float, time: float | None = None
    ) -> None:
        """Add one frame, shown at ``time``, which took ``seconds``."""
        entry: dict[str, Any] = {"frame": frame_index}
        if time is not None:
            entry["time"] = round(time, 6)
        objects = [_describe(item) for item in result.objects]
        self._frames.append({**entry, "seconds": round(seconds, 6), "objects": objects})

    def close(self, *, complete: bool) -> None:
        """Write the file; without frames, leave none.

        Raises:
            InputError: the disk is full.
        """
        pending, self._file = self._file, None
        if pending is None:
            return
        if not self._frames:
            pending.discard()
            return
        data = {"schema_version": SCHEMA_VERSION, **self._header, "complete": complete}
        pending.write_text(_one_frame_per_line(data, self._frames))


def _describe(item: ObjectResult) -> dict[str, Any]:
    score = float(item.score)
    return {
        "object": item.object_id,
        "score": round(score, 6) if math.isfinite(score) else None,
        "visible": bool(item.visible),
        "area": int(item.mask.sum()),
        "box": mask_box(item.mask),
    }


def _one_frame_per_line(data: Mapping[str, Any], frames: list[dict[str, Any]]) -> str:
    head = json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False).rstrip("}\n")
    lines = ",\n  ".join(json.dumps(frame, allow_nan=False) for frame in frames)
    return f'{head},\n "frames": [\n  {lines}\n ]\n}}\n'
