"""The batches of a run: batch k depends on the seed and on k alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

from torch.utils.data import DataLoader, Dataset

from ..data.mixture import Mixture
from ..data.sample import Clip, ClipSource
from ..errors import InputError, Qsam2Error
from .batch import ClipBatch, batch_from_clips
from .config import TrainConfig


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
            InputError: the stage asks for a source that is not there, or its batch has fewer clips
                than there are processes.
        """
        self.stage = stage = config.stages[stage_index]
        if stage.clips < world_size:
            raise InputError(
                f"a batch of {stage.clips} clips (stage {stage.name}) cannot be shared by "
                f"{world_size} processes; use at most {stage.clips}"
            )
        # Shares may differ by one: losses are divided by the objects of all processes together.
        first, end = (stage.clips * r // world_size for r in (rank, rank + 1))
        self.share = end - first
        names = [name for name, weight in stage.data.items() if weight > 0]
        missing = [name for name in names if name not in sources]
        if missing:
            raise InputError(
                f"stage {stage.name} trains on {missing[0]!r}, but no such data was given; give "
                f"it, or name only {', '.join(sorted(sources))} in the recipe"
            )
        self._mixture = Mixture([(sources[name], stage.data[name]) for name in names], config.seed)
        self._offset = sum(earlier.steps * earlier.clips for earlier in config.stages[:stage_index])
        self._numbers = [
            step * stage.clips + item
            for step in range(first_step, stage.steps)
            for item in range(first, end)
        ]

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int) -> Clip:
        number = self._numbers[index]
        clip = self._offset + number  # no stage repeats another's clips
        source = self._mixture.source(clip)
        if isinstance(source, HasShares):
            easy = self._easy(number // self.stage.clips)
            source = source.with_shares(easy=easy, hidden=self.stage.hidden)
        return source.clip(clip, frames=self.stage.frames, size=self.stage.image_size)

    def _easy(self, step: int) -> float:
        first, last = self.stage.easy
        return first + (last - first) * step / max(1, self.stage.steps - 1)


def batches(clips: StageClips, *, workers: int = 0) -> Iterator[ClipBatch]:
    """Yield the batches of one process; ``workers`` processes make the clips, or this one.

    Raises:
        VideoError: a source cannot make a clip.
    """
    objects = clips.stage.objects

    def collate(items: list[Clip]) -> ClipBatch:
        return batch_from_clips(items, objects=objects)

    loader: Any = DataLoader(
        clips,
        batch_size=clips.share,
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
