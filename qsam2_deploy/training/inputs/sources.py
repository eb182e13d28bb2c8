"""The clip sources that a recipe can name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...data.cache import as_cache
from ...data.changes.regions import Regions, RegionsConfig
from ...data.clips.mixture import Mixture
from ...data.clips.pasted import PastedClips, PastedClipsConfig
from ...data.clips.unlabelled import UnlabelledClips, UnlabelledConfig
from ...data.clips.windows import SequenceWindows, SequenceWindowsConfig
from ...data.datasets.photos import Photos
from ...data.generated.clips import GeneratedClips
from ...data.generated.config import GeneratedClipsConfig
from ...data.sample import ClipSource, VideoSequence
from ...errors import InputError
from ..recipe import Recipe, from_mapping

GENERATED, VIDEOS, PASTED, REGIONS = "generated", "videos", "pasted", "regions"
UNLABELLED = "unlabelled"
_KINDS = {
    GENERATED: GeneratedClipsConfig,
    VIDEOS: SequenceWindowsConfig,
    PASTED: PastedClipsConfig,
    REGIONS: RegionsConfig,
    UNLABELLED: UnlabelledConfig,
}


@dataclass(frozen=True)
class SourceSettings:
    """Settings of the sources; each has the run's seed."""

    generated: GeneratedClipsConfig
    videos: SequenceWindowsConfig
    pasted: PastedClipsConfig
    regions: RegionsConfig
    unlabelled: UnlabelledConfig


def settings_from_mapping(
    data: Mapping[str, Mapping[str, Any]], *, seed: int, where: str
) -> SourceSettings:
    """Read the ``data`` of a recipe: settings by source, all optional.

    Raises:
        InputError: a source or a setting is unknown, or a value is not usable.
    """
    unknown = [name for name in data if name not in _KINDS]
    if unknown:
        raise InputError(
            f"{where}: there is no data source {unknown[0]!r}; expected some of {', '.join(_KINDS)}"
        )
    made = {
        name: from_mapping(kind, {"seed": seed, **data.get(name, {})}, f"{where}: data: {name}")
        for name, kind in _KINDS.items()
    }
    return SourceSettings(**made)


def recipe_settings(recipe: Recipe) -> SourceSettings:
    """Return the settings of the sources of ``recipe``.

    Raises:
        InputError: a source or a setting is unknown, or a value is not usable.
    """
    where = f"the recipe {recipe.path}"
    return settings_from_mapping(recipe.data, seed=recipe.train.seed, where=where)


def clip_sources(
    settings: SourceSettings,
    sequences: Sequence[VideoSequence],
    unlabelled: Sequence[VideoSequence] = (),
) -> dict[str, ClipSource]:
    """Return the sources by name.

    Without ``sequences`` there are generated clips only, with procedural textures; with some,
    their frames also serve as textures and backgrounds, and their objects are pasted. Regions are
    those of images of all other sources but the ``unlabelled`` videos.
    """
    photos = Photos(sequences)
    sources: dict[str, ClipSource] = {GENERATED: GeneratedClips(settings.generated, photos)}
    if sequences:
        cache = as_cache(sequences, settings.videos.short_side, settings.videos.memory_mb << 20)
        sources[VIDEOS] = SequenceWindows(cache, settings.videos)
        sources[PASTED] = PastedClips(cache, settings.pasted)
    images = Mixture([(source, 1.0) for source in sources.values()], settings.regions.seed)
    sources[REGIONS] = Regions(images, settings.regions)
    if unlabelled:
        sources[UNLABELLED] = UnlabelledClips(unlabelled, settings.unlabelled)
    return sources
