"""The videos of a batch: of a manifest, a folder, or a dataset."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..data.datasets.davis import davis_folders
from ..data.datasets.image_files import list_folder
from ..data.datasets.manifest import ManifestEntry, check_name, read_manifest
from ..data.datasets.sav import sav_videos
from ..errors import InputError
from ..media.prompting.prompts import FramePrompt
from ..media.reading.image_lists import IMAGE_SUFFIXES
from ..media.reading.sources import name_of
from .options import FINISHED
from .prompts import (
    AnnotationPrompts,
    DavisPrompts,
    GivenPrompts,
    ListedPrompts,
    NoPrompts,
    PromptsFile,
    PromptSource,
    SavPrompts,
)

VIDEO_SUFFIXES = frozenset(
    {".3gp", ".asf", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg",
     ".mpg", ".mts", ".mxf", ".ogv", ".ts", ".webm", ".wmv"}
)  # fmt: skip
"""What files of a folder are taken for videos; a manifest can name any other."""


@dataclass(frozen=True)
class Job:
    """A video to segment.

    Attributes:
        name: of its results.
        video: a path where the workers are, or a URL.
        prompts: gives its prompts.
        start: number of the first frame.
        max_frames: so many frames at most; None for all.
    """

    name: str
    video: str
    prompts: PromptSource
    start: int = 0
    max_frames: int | None = None

    @property
    def shown(self) -> str:
        """The video as it is called for people, without passwords."""
        return name_of(self.video)


def jobs_from_manifest(path: str | os.PathLike[str]) -> list[Job]:
    """Return the videos of a manifest; see :mod:`~qsam2_deploy.data.datasets.manifest`.

    Raises:
        InputError: the manifest cannot be used.
    """
    return [
        Job(entry.name, str(entry.video), _prompts_of(entry), entry.start, entry.max_frames)
        for entry in read_manifest(path)
    ]


def jobs_from_folder(
    folder: str | os.PathLike[str], prompts: Sequence[FramePrompt] = ()
) -> list[Job]:
    """Return the videos and the folders of images in a folder, but for results of a batch.

    Args:
        folder: where they lie.
        prompts: for those that have no file of their own beside them, ``a.json`` for ``a.mp4``.

    Raises:
        InputError: there is no video, one has no prompts, or two differ by their suffix alone.
    """
    root = Path(folder)
    jobs: dict[str, Job] = {}
    for video in list_folder(root):
        if not _is_video(video):
            continue
        name = video.name if video.is_dir() else video.stem
        check_name(name, str(video))
        if name in jobs:
            raise InputError(
                f"{jobs[name].video} and {video.name} would have the same results {name!r}; "
                'list them in a manifest, and give one a "name"'
            )
        jobs[name] = Job(name, str(video), _prompts_beside(root / f"{name}.json", video, prompts))
    if not jobs:
        raise InputError(
            f"{root} holds no video; expected files such as cat.mp4, or folders of images"
        )
    return list(jobs.values())


def jobs_from_davis(
    root: Path, names: Iterable[str] | None = None, *, resolution: str = "480p"
) -> list[Job]:
    """Return the sequences of a dataset in the layout of DAVIS; the arguments are its reader's.

    Raises:
        VideoError: it is no such dataset, or a name is unknown.
    """
    return [
        Job(name, str(folder), DavisPrompts(root, name, resolution))
        for name, folder in davis_folders(root, names, resolution=resolution).items()
    ]


def jobs_from_sav(root: Path, names: Iterable[str] | None = None) -> list[Job]:
    """Return the videos of SA-V; the arguments are its reader's.

    Raises:
        VideoError: it is no such dataset, or a name is unknown.
    """
    videos = sav_videos(root, names)
    return [Job(name, str(video), SavPrompts(root, name)) for name, video in videos.items()]


def _prompts_of(entry: ManifestEntry) -> PromptSource:
    if isinstance(entry.prompts, Path):
        return PromptsFile(entry.prompts)
    if entry.prompts is not None:
        return ListedPrompts(entry.prompts, entry.origin, entry.folder)
    if entry.annotations is not None:
        return AnnotationPrompts(entry.name, entry.video, entry.annotations)
    return NoPrompts(entry.origin)


def _prompts_beside(path: Path, video: Path, prompts: Sequence[FramePrompt]) -> PromptSource:
    if path.is_file():
        return PromptsFile(path)
    if not prompts:
        raise InputError(
            f"there are no prompts for {video}; write {path.name} beside it, or give all videos "
            "the same with --click, --box, --mask or --prompts"
        )
    return GivenPrompts(tuple(prompts))


def _is_video(path: Path) -> bool:
    if path.is_dir():
        if (path / FINISHED).exists():
            return False
        return any(p.suffix.lower() in IMAGE_SUFFIXES for p in list_folder(path))
    return path.suffix.lower() in VIDEO_SUFFIXES
