"""A look at what a recipe trains on, before it does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..._common.files import atomic_path, check_output
from ...data.clips.preview import contact_sheet
from ...data.sample import Clip, Frames, VideoSequence
from ..config import Stage
from ..inputs.loader import StageClips
from ..inputs.sources import clip_sources, recipe_settings
from ..recipe import Recipe

_CLIPS = 3
_SPACE = 8  # pixels between two stages


def draw_preview(
    recipe: Recipe,
    sequences: Sequence[VideoSequence],
    path: Path,
    unlabelled: Sequence[VideoSequence] = (),
) -> Path:
    """Write a picture of the first clips of each stage, plain and with outlined masks, to ``path``.

    The clips are those that the training would begin each stage with.

    Raises:
        InputError: a stage lacks its data, or ``path`` cannot be written.
    """
    from PIL import Image

    check_output(path)
    config = recipe.train
    sources = clip_sources(recipe_settings(recipe), sequences, unlabelled)
    # All stages are checked before the first clip is made.
    shown = [
        (stage, StageClips(sources, config, index)) for index, stage in enumerate(config.stages)
    ]
    sheets = [sheet for stage, clips in shown for sheet in _sheets(stage, clips)]
    with atomic_path(path) as temporary:
        Image.fromarray(_stacked(sheets)).save(temporary, format="PNG")
    return path


def _sheets(stage: Stage, clips: StageClips) -> list[Frames]:
    """One picture of the stage's clips, and one of the images between them if it has any."""
    images = clips.first(_CLIPS, images=True)
    if stage.frames == 1:
        return [_side_by_side(clips.first(_CLIPS))]
    sheet = contact_sheet(clips.first(_CLIPS))
    return [sheet, _side_by_side(images)] if images else [sheet]


def _side_by_side(images: Sequence[Clip]) -> Frames:
    return np.concatenate([contact_sheet([clip]) for clip in images], 1)


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
