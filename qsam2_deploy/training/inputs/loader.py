"""The batches of a run: batch k depends on the seed and on k alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

from torch.utils.data import DataLoader, Dataset

from ...data.clips.mixture import Mixture
from ...data.sample import Clip, ClipSource
from ...errors import InputError, Qsam2Error
from ..config import Stage, TrainConfig
from .batch import ClipBatch, batch_from_clips


@runtime_checkable
class HasShares(Protocol):
    """A source of which a stage can ask for more clips of a kind."""

    def with_shares(self, *, easy: float, hidden: float | None) -> ClipSource:
        """Return the source with other shares of easy clips and of hidden objects; None: as is."""


class StageClips(Dataset[Clip]):
    """The clips that one process needs for one stage, from a step on."""

    def __init__(
        self,
        sources: Mapping[str, ClipSource],
        config: TrainConfig,
        stage_index: int,
        *,
        first_step: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """Prepare to make clips; none is made yet.

        Raises:
            InputError: the stage asks for a source that is not there, or a batch has fewer clips
                than there are processes.
        """
        self.stage = stage = config.stages[stage_index]
        _check_shares(stage, world_size)
        names = _source_names(stage, sources, skip_missing=config.skip_missing_data)
        self.names = tuple(names)
        self._mixture = Mixture([(sources[name], stage.data[name]) for name in names], config.seed)
        self._offset = sum(
            earlier.clips_before(earlier.steps) for earlier in config.stages[:stage_index]
        )
        self._places: list[tuple[int, int]] = []  # step and number of each clip of this process
        self.batches: list[list[int]] = []  # indices of the clips of each batch
        for step in range(first_step, stage.steps):
            count, before = stage.clips_of(step), stage.clips_before(step)
            # Shares may differ by one: losses are divided by the objects of all processes together.
            first, end = (count * r // world_size for r in (rank, rank + 1))
            self.batches.append([len(self._places) + item for item in range(end - first)])
            self._places += [(step, before + item) for item in range(first, end)]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Clip:
        step, number = self._places[index]
        clip = self._offset + number  # no stage repeats another's clips
        source = self._mixture.source(clip)
        if isinstance(source, HasShares):
            source = source.with_shares(easy=self._easy(step), hidden=self.stage.hidden)
        frames = 1 if self.stage.is_image_step(step) else self.stage.frames
        return source.clip(clip, frames=frames, size=self.stage.image_size)

    def first(self, count: int, *, images: bool = False) -> list[Clip]:
        """Return the first clips of the stage, or the first of its ``images``; not more."""
        found = [
            index
            for index, (step, _) in enumerate(self._places)
            if self.stage.is_image_step(step) == images
        ]
        return [self[index] for index in found[:count]]

    def most_objects(self, frames: int) -> int:
        """Return the largest number of objects in clips of so many frames."""
        if self.stage.images is not None and frames == 1:
            return self.stage.images.objects
        return self.stage.objects

    def _easy(self, step: int) -> float:
        first, last = self.stage.easy
        return first + (last - first) * step / max(1, self.stage.steps - 1)


def _check_shares(stage: Stage, world_size: int) -> None:
    batches_of = [(stage.clips, "clips")]
    if stage.images is not None:
        batches_of.append((stage.images.clips, "images"))
    for count, what in batches_of:
        if count < world_size:
            raise InputError(
                f"a batch of {count} {what} (stage {stage.name}) cannot be shared by "
                f"{world_size} processes; use at most {count}"
            )


def _source_names(
    stage: Stage, sources: Mapping[str, ClipSource], *, skip_missing: bool
) -> list[str]:
    names = [name for name, weight in stage.data.items() if weight > 0]
    found = [name for name in names if name in sources]
    if len(found) == len(names) or (skip_missing and found):
        return found
    missing = next(name for name in names if name not in sources)
    raise InputError(
        f"stage {stage.name} trains on {missing!r}, but no such data was given; give it, or name "
        f"only {', '.join(sorted(sources))} in the recipe"
    )


def batches(clips: StageClips, *, workers: int = 0) -> Iterator[ClipBatch]:
    """Yield the batches of one process; ``workers`` processes make the clips, or this one.

    Raises:
        VideoError: a source cannot make a clip.
    """

    def collate(items: list[Clip]) -> ClipBatch:
        return batch_from_clips(items, objects=clips.most_objects(len(items[0].frames)))

    loader: Any = DataLoader(
        clips,
        batch_sampler=clips.batches,
        num_workers=workers,
        collate_fn=collate,
        multiprocessing_context="fork" if workers else None,
        prefetch_factor=4 if workers else None,
    )
    try:
        yield from loader
    except Qsam2Error as error:
        raise _without_traceback(error) from error


def _without_traceback(error: Qsam2Error) -> Qsam2Error:
    """Return ``error`` with its own sentence: a worker's carries the text of its traceback."""
    *earlier, sentence = str(error).strip().splitlines()
    name = f"{type(error).__module__}.{type(error).__qualname__}: "
    return type(error)(sentence.removeprefix(name)) if earlier else error
