"""What results are of, in one number: results are made again when it changes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..media.prompting.prompts import FramePrompt
from ..media.reading.image_lists import is_pattern, match_frames
from ..media.reading.urls import is_url, public_url
from .jobs import Job
from .options import BatchOptions

RESULTS_VERSION = 1
"""To be raised when the same inputs give other results."""


def job_digest(
    job: Job, prompts: Sequence[FramePrompt], options: BatchOptions, model_sha256: str
) -> str | None:
    """Return the SHA-256 of all that the results of a video depend on, 64 hexadecimal digits.

    A video counts by its size and the time of its last change, as ``make`` and ``rsync`` have it:
    reading all videos to the end to find out that nothing is to be done would take hours. For a
    folder it is those of all files in it, and of a URL the URL alone. Number of threads, workers
    and machines do not count.

    Returns:
        None if the video is not there.
    """
    files = _files(job.video)
    if files is None:
        return None
    described = {
        "version": RESULTS_VERSION,
        "video": files,
        "start": job.start,
        "max_frames": job.max_frames,
        "prompts": [_prompt(item) for item in prompts],
        "model": model_sha256,
        **options.of_results(),
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def _files(video: str) -> list[Any] | None:
    """Return name, bytes and time of change of each file, without its folder."""
    if is_url(video):
        return [public_url(video)]
    path = Path(video)
    files = [path]
    try:
        if path.is_dir():
            files = sorted(p for p in path.iterdir() if p.is_file())
        elif is_pattern(path):
            files = match_frames(path).files
        stats = [(file.name, file.stat()) for file in files]
    except OSError:
        return None
    return [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]


def _prompt(item: FramePrompt) -> list[Any]:
    prompt = item.prompt
    return [
        item.frame,
        prompt.object_id,
        np.asarray(prompt.points, float).tolist(),
        np.asarray(prompt.labels, int).tolist(),
        None if prompt.box is None else [float(value) for value in prompt.box],
        None if prompt.mask is None else _mask(np.asarray(prompt.mask)),
        prompt.clear_old_points,
    ]


def _mask(mask: np.ndarray[Any, Any]) -> str:
    packed = np.packbits(mask > 0).tobytes()
    return f"{mask.shape}:{hashlib.sha256(packed).hexdigest()}"
