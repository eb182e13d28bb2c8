"""SA-V annotations in JSON, for every fourth frame.

The form of SA-V's training set: beside ``cat.mp4`` the file is ``cat_manual.json``, or
``cat_auto.json``. ``masklet`` has a list for each annotated frame from the video's first, with a
run-length encoded mask for each object of ``masklet_id``, empty where there is none. What SA-V says
of a place or a split is left empty. One entry is ours: ``complete``, false if the run ended early.
"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ....data.datasets.rle import encode_rle
from ....data.datasets.sav_train import ANNOTATION_STEP
from ..pending_file import PendingFile
from ..result_format import About, FrameRecord, ResultWriter

_SMALL, _MEDIUM = 32**2, 96**2
_RATE = 24.0


class Writer(ResultWriter):
    """Collects masks; the file appears in :meth:`close`."""

    def __init__(self, path: Path, about: About) -> None:
        """See the base."""
        self._about = about
        self._kind = "auto" if path.stem.endswith("_auto") else "manual"
        self._video = path.stem.removesuffix("_auto").removesuffix("_manual")
        self._masks: dict[int, list[dict[str, Any]]] = {}
        self._areas: dict[int, list[int]] = {}
        self._annotated: list[int] = []
        self._frames = 0
        self._seconds = 0.0
        self._file = PendingFile(path)

    def write(self, record: FrameRecord) -> None:
        """See the base."""
        self._frames = record.index + 1
        begin = None if record.shown is None else record.shown.time
        rate = self._about.fps or _RATE
        self._seconds = self._frames / rate if begin is None else begin + 1 / rate
        if record.index % ANNOTATION_STEP == 0:
            self._annotate(record)

    def close(self, *, complete: bool) -> None:
        """See the base."""
        if self._frames:
            self._file.write_text(json.dumps(self._described(complete=complete), allow_nan=False))
        else:
            self._file.discard()

    def _annotate(self, record: FrameRecord) -> None:
        place = record.index // ANNOTATION_STEP
        for item in record.result.objects:
            masks = self._masks.setdefault(item.object_id, [])
            areas = self._areas.setdefault(item.object_id, [])
            before = place - len(masks)
            masks += [self._empty] * before
            areas += [0] * before
            masks.append(encode_rle(item.mask))
            areas.append(int(item.mask.sum()))

    @property
    def _empty(self) -> dict[str, Any]:
        return encode_rle(np.zeros((self._about.height, self._about.width), np.bool_))

    def _described(self, *, complete: bool) -> dict[str, Any]:
        height, width = self._about.height, self._about.width
        ids = list(self._masks)
        count = -(-self._frames // ANNOTATION_STEP)
        tracks = [masks + [self._empty] * (count - len(masks)) for masks in self._masks.values()]
        sizes = [_mean_of_visible(self._areas[i]) for i in ids]
        return {
            "video_id": self._video,
            "video_duration": round(self._seconds, 6),
            "video_frame_count": self._frames,
            "video_height": height,
            "video_width": width,
            "video_resolution": height * width,
            "video_environment": [],
            "video_split": "",
            "masklet": [list(masks) for masks in zip(*tracks, strict=True)],
            "masklet_id": ids,
            "masklet_size_rel": [size / (height * width) for size in sizes],
            "masklet_size_abs": sizes,
            "masklet_size_bucket": [_bucket(size) for size in sizes],
            "masklet_visibility_changes": [_changes(self._areas[i]) for i in ids],
            "masklet_first_appeared_frame": [_first_visible(self._areas[i]) for i in ids],
            "masklet_frame_count": [count] * len(ids),
            "masklet_edited_frame_count": [0] * len(ids),
            "masklet_type": [self._kind] * len(ids),
            "masklet_stability_score": None,
            "masklet_num": len(ids),
            "complete": complete,
        }


def _mean_of_visible(areas: list[int]) -> float:
    visible = [area for area in areas if area]
    return sum(visible) / len(visible) if visible else 0.0


def _bucket(size: float) -> str:
    return "small" if size < _SMALL else "medium" if size < _MEDIUM else "large"


def _first_visible(areas: list[int]) -> int:
    """Return the place of the first visible mask in the list of annotated frames."""
    return next((place for place, area in enumerate(areas) if area), 0)


def _changes(areas: list[int]) -> int:
    """Return how often an object goes or comes back after it was first there."""
    seen = [area > 0 for area in areas[_first_visible(areas) :]]
    return sum(now != before for before, now in pairwise(seen))
