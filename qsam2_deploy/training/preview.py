"""A look at what a recipe trains on, before it does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .._files import atomic_path, check_output
from ..data.preview import contact_sheet
from ..data.sample import Frames, VideoSequence
from .config import Stage
from .loader import StageClips
from .recipe import Recipe
from .sources import clip_sources, recipe_settings

_CLIPS = 3
_SPACE = 8  # pixels between two stages


def draw_preview(recipe: Recipe, sequences: Sequence[VideoSequence], path: Path) -> Path:
    """Write a picture of the first clips of each stage, plain and with outlined masks, to ``path``.

    The clips are those that the training would begin each stage with.

    Raises:
        InputError: a stage lacks its data, or ``path`` cannot be written.
    """
    from PIL import Image

    check_output(path)
    config = recipe.train
    sources = clip_sources(recipe_settings(recipe), sequences)
    # All stages are checked before the first clip is made.
    shown = [
        (stage, StageClips(sources, config, index)) for index, stage in enumerate(config.stages)
    ]
    sheets = [_sheet(stage, clips) for stage, clips in shown]
    with atomic_path(path) as temporary:
        Image.fromarray(_stacked(sheets)).save(temporary, format="PNG")
    return path


def _sheet(stage: Stage, clips: StageClips) -> Frames:
    found = [clips[index] for index in range(min(_CLIPS, len(clips)))]
    if stage.frames == 1:  # images side by side
        return np.concatenate([contact_sheet([clip]) for clip in found], 1)
    return contact_sheet(found)


def _stacked(sheets: list[Frames]) -> Frames:
    """Pictures below each other, on white."""
    width = max(sheet.shape[1] for sheet in sheets)
    height = sum(sheet.shape[0] + _SPACE for sheet in sheets) - _SPACE
    page = np.full((height, width, 3), 255, np.uint8)
    top = 0
    for sheet in sheets:
        page[top : top + sheet.shape[0], : sheet.shape[1]] = sheet
        top += sheet.shape[0] + _SPACE
    return page
