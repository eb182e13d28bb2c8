"""Outputs that would replace what a run reads."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from ...errors import InputError
from ..reading.image_lists import IMAGE_SUFFIXES, is_pattern
from ..reading.urls import is_url


def input_paths(source: str | Path | int, model: str | Path) -> tuple[Path, ...]:
    """Return the files and folders that a run reads; a camera or a URL is none."""
    if isinstance(source, int) or is_url(str(source)):
        return (Path(model),)
    path = Path(source)
    return (Path(model), path, path.parent) if is_pattern(path) else (Path(model), path)


def check_free(path: Path, taken: Iterable[Path]) -> None:
    """Check that an output whose name the user has not given replaces none of the run's files.

    Args:
        path: a file, or a folder for files.
        taken: what the run reads or writes elsewhere.

    Raises:
        InputError: it does.
    """
    if any(_same_file(path, other) for other in taken):
        raise InputError(f"{path} would replace an input or another output; choose another name")


def check_against_inputs(
    path: Path, source: str | Path | int, model: str | Path, others: Iterable[Path] = ()
) -> None:
    """Check that an output of the user's name replaces no input.

    Args:
        path: a file, or a folder for files.
        source: the video.
        model: the model.
        others: further files that the run reads, such as prompts.

    Raises:
        InputError: it does.
    """
    if _same_file(path, Path(model)):
        raise InputError(f"the output {path} would overwrite the model; choose another")
    for other in others:
        if _same_file(path, other):
            raise InputError(
                f"the output {path} would overwrite {other}, which is an input; choose another name"
            )
    if not isinstance(source, int) and not is_url(str(source)):
        _check_against_source(path, Path(source))


def _check_against_source(path: Path, source: Path) -> None:
    if _same_file(path, source):
        raise InputError(f"the output {path} would overwrite the input; choose another name")
    if is_pattern(source):
        source = source.parent
        if _same_file(path, source):
            raise InputError(
                f"the output {path} is the folder of the input's frames; choose another"
            )
    inside = source.is_dir() and _same_file(path.parent, source)
    if inside and path.suffix.lower() in IMAGE_SUFFIXES:
        raise InputError(
            f"the output {path} would lie among the input's frames; choose another folder"
        )


def _same_file(first: Path, second: Path) -> bool:
    try:
        return first.samefile(second)
    except OSError:
        return os.path.realpath(first) == os.path.realpath(second)
