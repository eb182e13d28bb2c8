"""Lists of videos with their prompts or annotations: one JSON object per line.

::

    {"video": "cat.mp4", "prompts": [{"points": [[320, 240]]}]}
    {"video": "dog.mp4", "prompts": "dog.json", "name": "dog-1", "start": 50, "max_frames": 100}
    {"video": "frames/car", "annotations": "masks/car"}
    {"video": "https://example.com/bird.mp4", "prompts": "bird.json"}
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from ..._common.contradictions import shown
from ..._common.files import read_bounded
from ..._common.json import loads_bounded
from ...errors import InputError

_KEYS = ("video", "prompts", "annotations", "name", "start", "max_frames")
_MAX_BYTES = 1 << 28
_MAX_NAME = 200
_MAX_INTEGER = 1 << 31


@dataclass(frozen=True)
class ManifestEntry:
    """A video of a manifest.

    Attributes:
        name: what its results are called; no two entries have the same.
        video: a video, a folder of frames, or a pattern; a text if it is a URL.
        prompts: as in a file of prompts, or such a file; None if there are none.
        annotations: a folder of masks in the layout of DAVIS; None if there is none.
        start: number of the first frame.
        max_frames: so many frames at most; None for all.
        folder: of the manifest, which paths in its prompts are relative to.
        origin: line and file, for messages.
    """

    name: str
    video: Path | str
    prompts: tuple[Any, ...] | Path | None
    annotations: Path | None
    start: int
    max_frames: int | None
    folder: Path
    origin: str


def read_manifest(path: str | os.PathLike[str]) -> list[ManifestEntry]:
    """Read a manifest; empty lines are none, and paths are relative to its folder.

    Raises:
        InputError: it cannot be read, an entry is malformed, or two have the same name. Whether
            the files are there is not looked at.
    """
    path = Path(path)
    try:
        text = read_bounded(path, _MAX_BYTES).decode("utf-8-sig")
    except FileNotFoundError as error:
        raise InputError(f"there is no manifest {path}; check the path") from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise InputError(f"the manifest {path} cannot be read as text: {error}") from error
    entries = [
        _entry(line, f"line {number} of {path}", path.parent)
        for number, line in enumerate(text.split("\n"), start=1)
        if line.strip()
    ]
    if not entries:
        raise InputError(
            f"the manifest {path} is empty; expected a line such as "
            '{"video": "cat.mp4", "prompts": [{"points": [[320, 240]]}]} for each video'
        )
    _check_names(entries)
    return entries


def check_name(name: str, origin: str) -> None:
    """Check that ``name`` can be that of a folder.

    Raises:
        InputError: it cannot.
    """
    letters = name.isprintable() and not set(name) & set("/\\")
    if not letters or not 0 < len(name) <= _MAX_NAME or name.startswith("."):
        raise InputError(
            f"{origin} has the name {shown(name)}, which cannot be that of a folder; give it "
            'a "name" of other letters'
        )


def _check_names(entries: list[ManifestEntry]) -> None:
    first: dict[str, ManifestEntry] = {}
    for entry in entries:
        other = first.setdefault(entry.name, entry)
        if other is not entry:
            raise InputError(
                f"{other.origin} and line {entry.origin.split()[1]} have the same name "
                f'{entry.name!r}, so their results would overwrite each other; give one a "name"'
            )


def _entry(line: str, origin: str, folder: Path) -> ManifestEntry:
    try:
        data = loads_bounded(line)
    except ValueError as error:
        raise InputError(f"{origin} is not valid JSON: {error}") from error
    text = data.get("video") if isinstance(data, dict) else None
    if not isinstance(text, str) or text in ("", "-"):  # standard input has one reader only
        raise InputError(
            f'{origin} must be an object with the path of a "video", such as '
            '{"video": "cat.mp4", "prompts": [{"points": [[320, 240]]}]}'
        )
    unknown = sorted(set(data) - set(_KEYS))
    if unknown:
        raise InputError(
            f"{origin} has the unknown entry {shown(unknown[0])}; expected some of: "
            + ", ".join(_KEYS)
        )
    url = "://" in text
    video = text if url else folder / text
    path = re.split("[?#]", text)[0] if url else text
    name = _text(data, "name", origin) or PurePath(path).stem
    check_name(name, origin)
    annotations = _text(data, "annotations", origin)
    return ManifestEntry(
        name,
        video,
        _prompts(data.get("prompts"), origin, folder),
        None if annotations is None else folder / annotations,
        _number(data, "start", 0, origin) or 0,
        _number(data, "max_frames", 1, origin),
        folder,
        origin,
    )


def _prompts(value: Any, origin: str, folder: Path) -> tuple[Any, ...] | Path | None:
    if value is None or (isinstance(value, list) and value):
        return None if value is None else tuple(value)
    if isinstance(value, str) and value:
        return folder / value
    raise InputError(
        f"'prompts' of {origin} must be a list such as [{{\"points\": [[320, 240]]}}], or the "
        f"path of a file with one, but is {shown(value)}"
    )


def _text(data: Mapping[str, Any], key: str, origin: str) -> str | None:
    value = data.get(key)
    if value is None or (isinstance(value, str) and value):
        return value
    raise InputError(f"{key!r} of {origin} must be a text, but is {shown(value)}")


def _number(data: Mapping[str, Any], key: str, least: int, origin: str) -> int | None:
    value = data.get(key)
    if value is None or (type(value) is int and least <= value < _MAX_INTEGER):
        return value
    raise InputError(
        f"{key!r} of {origin} must be a whole number from {least}, but is {shown(value)}"
    )
