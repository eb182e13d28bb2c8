"""Segmenting a video from its file to files: the library call behind ``qsam2-segment``."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from .._common.progress import progress
from ..errors import InputError, PromptError
from ..media.prompting.prompts import FramePrompt, check_frames, validate_prompt
from ..media.protocols import RgbImage, Shown, TimedSource
from ..media.reading.interrupt import StopFlag, stop_on_interrupt
from ..media.reading.sources import name_of, open_frames
from ..media.reading.streamed_video import StreamedVideo
from ..media.writing.mask_writer import check_object_ids
from ..media.writing.outputs import OutputPaths, Outputs
from ..media.writing.overwriting import input_paths
from ..media.writing.result_format import format_helps
from ..tracking.results import FrameResult, Prompt
from .object_files import ObjectFiles

if TYPE_CHECKING:
    from .everything import Everything


class Segmenter(Protocol):
    """The one method of ``VideoSegmenter`` that this needs."""

    def stream(
        self, frames: Iterable[RgbImage], prompts: Mapping[int, Sequence[Prompt]]
    ) -> Generator[FrameResult, None, None]:
        """Segment all frames; prompts are by the number of the frame, from 0."""


class SegmenterFactory(Protocol):
    """Makes the segmenter; ``VideoSegmenter`` itself is one."""

    def __call__(
        self,
        model: str | Path,
        *,
        backend: str,
        threads: int | None,
        memory_frames: int | None,
        cache: str | Path | None,
        precision: str,
    ) -> AbstractContextManager[Segmenter]:
        """Load ``model``."""


@dataclass(frozen=True)
class ObjectSummary:
    """How often one object was seen.

    Attributes:
        object_id: the user's number.
        frames: frames since its first prompt.
        visible_frames: those on which the model believes that it is visible.
    """

    object_id: int
    frames: int
    visible_frames: int

    @property
    def visible_share(self) -> float:
        """``visible_frames / frames``, from 0 to 1."""
        return self.visible_frames / self.frames if self.frames else 0.0


@dataclass(frozen=True)
class SegmentSummary:
    """What a run did.

    Attributes:
        frames: frames processed.
        width: of the frames, in pixels.
        height: of the frames, in pixels.
        segment_seconds: time in which nothing was done but to wait for the segmenter; reading a
            frame is part of it where it takes longer than to track the one before.
        total_seconds: time with decoding, drawing and writing.
        objects: in the order of their first frame.
        outputs: the files and folders that were written, by the names of ``OutputPaths``; a
            pattern where one name stands for several files.
        warnings: sentences about what was not as it should be.
        interrupted: Ctrl-C ended the run early; the outputs hold what was done until then.
        engine: what the model ran on, such as ``openvino, exact``.
        note: what was found on the first frame, where everything was looked for.
    """

    frames: int
    width: int
    height: int
    segment_seconds: float
    total_seconds: float
    objects: tuple[ObjectSummary, ...] = ()
    outputs: dict[str, Path] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    interrupted: bool = False
    engine: str = ""
    note: str = ""

    @property
    def fps(self) -> float:
        """Frames per second of the whole run."""
        return self.frames / self.total_seconds if self.total_seconds > 0 else 0.0


def segment_video(
    source: str | Path | int,
    model: str | Path,
    prompts: Sequence[FramePrompt | Prompt],
    *,
    everything: Everything | None = None,
    objects: str | Path | None = None,
    save_objects: str | Path | None = None,
    overlay: str | Path | None = None,
    masks_dir: str | Path | None = None,
    json_path: str | Path | None = None,
    contact_sheet: str | Path | None = None,
    formats: Mapping[str, str | Path] | None = None,
    start: int = 0,
    max_frames: int | None = None,
    ignore_orientation: bool = False,
    audio: bool = True,
    backend: str = "auto",
    threads: int | None = None,
    memory_frames: int | None = None,
    cache: str | Path | None = None,
    precision: str = "exact",
    show_progress: bool | None = None,
    segmenter: SegmenterFactory | None = None,
) -> SegmentSummary:
    """Segment and track the prompted objects through a video, and write the results.

    Frames are decoded, segmented and written one at a time, so memory does not grow with length;
    the next frame is decoded and encoded while one is tracked and written.
    Everything that can be checked is checked before the first frame. Ctrl-C ends the run after
    the current frame; the files then hold what was done.

    Args:
        source: a video file, a folder of frames, a pattern such as ``frames/*.png`` or
            ``frames/%05d.png``, an image, a URL, ``"-"`` for standard input, or a camera's number
            or device.
        model: a ``model.onnx`` made by ``qsam2-export``.
        prompts: what to segment; a bare ``Prompt`` is for the first processed frame. Frame
            numbers are those of the source, also when ``start`` is not 0.
        everything: instead of prompts: all that is found on the first processed frame becomes an
            object, numbered from the largest to the smallest.
        objects: file of objects that an earlier run saved, to be looked for from the first
            processed frame on; then ``prompts`` may be empty.
        save_objects: file to keep the objects in when the video ends, for ``objects``.
        overlay: video to write with the masks drawn on it (an image if there is one frame).
        masks_dir: folder to write one DAVIS-style PNG per frame to.
        json_path: file to write scores, areas, boxes and times to.
        contact_sheet: picture of evenly spaced overlay frames to write.
        formats: files for other tools, by the names of their forms, such as ``coco``.
        start: number of the first frame to process.
        max_frames: process at most so many frames.
        ignore_orientation: leave images as they are stored, as the official predictor does,
            instead of turning them as their EXIF orientation says.
        audio: copy the sound of a video into the overlay.
        backend: inference engine, ``auto`` chooses.
        threads: threads of the engine, None is one for each core that may be used.
        memory_frames: how many memories are attended to, as ``VideoSegmenter`` has it.
        cache: folder for the lowered graphs, so that the model opens faster the next time.
        precision: ``exact`` or ``fast``, as ``open_backend`` has it.
        show_progress: show a progress bar; by default if standard error is a terminal.
        segmenter: makes the segmenter, by default ``VideoSegmenter``, or with ``everything``
            ``EverythingSegmenter``.

    Raises:
        VideoError: the source cannot be used.
        PromptError: a prompt does not fit its frame, or comes with ``everything``, which has
            found nothing.
        InputError: an output cannot be written, or would overwrite an input.
        Qsam2Error: the model cannot be loaded or run.
    """
    others = {name: Path(path) for name, path in (formats or {}).items()}
    known = format_helps()
    for name in others.keys() - known.keys():
        raise InputError(
            f"there is no form of results {name!r}; expected one of {', '.join(known)}"
        )
    paths = OutputPaths(
        _path(overlay), _path(masks_dir), _path(json_path), _path(contact_sheet), others
    )
    files = ObjectFiles(_path(objects), _path(save_objects))
    wanted = [p if isinstance(p, FramePrompt) else FramePrompt(None, p) for p in prompts]
    read = [path for item in wanted for path in item.files]
    files.check(everything=everything is not None)
    paths.check(source, model, read, load=files.load, save=files.save)
    if max_frames is not None and max_frames < 1:
        raise InputError(f"the number of frames must be at least 1, but is {max_frames}")
    if everything is not None and prompts:
        raise PromptError("everything is looked for without prompts; leave one of them out")
    began = time.perf_counter()
    with open_frames(source, start=start, ignore_orientation=ignore_orientation) as frames:
        total = _frames_to_process(frames, max_frames)
        schedule: dict[int, list[Prompt]] = {}
        if everything is None and (wanted or files.load is None):
            schedule = _schedule(wanted, frames, total, masks=masks_dir is not None)
        with (
            _open_outputs(
                paths, source, model, frames, total, audio=audio, taken=(*read, *files.given)
            ) as outputs,
            (segmenter or _default_segmenter(everything))(
                model,
                backend=backend,
                threads=threads,
                memory_frames=memory_frames,
                cache=cache,
                precision=precision,
            ) as tracker,
            stop_on_interrupt(_end_of_waiting(frames)) as stop,
        ):
            files.begin(tracker, masks=masks_dir is not None)
            run = _Run(frames, schedule, tracker, outputs, stop)
            run.process(total if max_frames is None else max_frames, total, show_progress)
            warnings = run.finish()
            saved = files.finish(tracker) if run.count else {}
            written = {**outputs.written, **saved}
            engine, note = (getattr(tracker, name, "") for name in ("engine", "note"))
    return SegmentSummary(
        frames=run.count,
        width=frames.width,
        height=frames.height,
        segment_seconds=run.seconds,
        total_seconds=time.perf_counter() - began,
        objects=run.objects(),
        outputs=written if run.count else {},
        warnings=warnings,
        interrupted=run.interrupted,
        engine=engine,
        note=note,
    )


class _Run:
    """The loop over the frames and what it counts."""

    def __init__(
        self,
        frames: TimedSource,
        schedule: dict[int, list[Prompt]],
        tracker: Segmenter,
        outputs: Outputs,
        stop: StopFlag,
    ) -> None:
        self.count = 0
        self.seconds = 0.0
        self.interrupted = False
        self._frames, self._schedule = frames, schedule
        self._tracker, self._outputs, self._stop = tracker, outputs, stop
        self._seen: dict[int, int] = defaultdict(int)
        self._visible: dict[int, int] = defaultdict(int)

    def process(self, limit: int | None, total: int | None, show: bool | None) -> None:
        """Process frames until the end, ``limit``, or Ctrl-C."""
        taken: deque[tuple[RgbImage, Shown | None]] = deque()
        frames = _noted(self._frames, limit, taken)
        start = self._frames.start
        prompts = {number - start: given for number, given in self._schedule.items()}
        try:
            with closing(self._tracker.stream(frames, prompts)) as results:
                bar = progress(
                    _timed(results), "segmenting", total=total, unit="frame", enabled=show
                )
                for index, (result, seconds) in enumerate(bar, start=start):
                    self._write(index, *taken.popleft(), result, seconds)
                    if self._stop.stopped:
                        self.interrupted = True
                        break
        except KeyboardInterrupt:
            self.interrupted = True
        # A stream that was waited for has ended then, without another frame.
        self.interrupted = self.interrupted or self._stop.stopped

    def finish(self) -> tuple[str, ...]:
        """Return the warnings; tell the outputs if they are complete.

        Raises:
            PromptError: the source broke off before the first prompt.
        """
        if not self.interrupted:
            self._outputs.finish()
        warnings = [self._frames.warning] if self._frames.warning else []
        warnings += self._outputs.warnings
        end = self._frames.start + self.count
        late = sorted(frame for frame in self._schedule if frame >= end)
        if late and not self.interrupted:
            text = f"frame {late[0]}, which has a prompt, was never reached: {end} frames were read"
            if not self._seen:
                raise PromptError(f"{text}, so nothing was segmented")
            warnings.append(text)
        return tuple(warnings)

    def objects(self) -> tuple[ObjectSummary, ...]:
        """Return how often each object was seen."""
        return tuple(ObjectSummary(i, n, self._visible[i]) for i, n in self._seen.items())

    def _write(
        self,
        index: int,
        frame: RgbImage,
        shown: Shown | None,
        result: FrameResult,
        seconds: float,
    ) -> None:
        self._outputs.write(index, frame, result, seconds, shown)
        self.count += 1
        self.seconds += seconds
        for item in result.objects:
            self._seen[item.object_id] += 1
            self._visible[item.object_id] += int(item.visible)


def _end_of_waiting(frames: TimedSource) -> Callable[[], None] | None:
    """Return what ends the wait for a frame that may never come, None for files."""
    return frames.stop if isinstance(frames, StreamedVideo) else None


def _noted(
    frames: TimedSource, limit: int | None, taken: deque[tuple[RgbImage, Shown | None]]
) -> Iterator[RgbImage]:
    """Iterate over ``frames``, which the segmenter takes ahead, and keep those that it took."""
    for frame in islice(frames, limit):
        taken.append((frame, frames.shown))
        yield frame


def _timed(results: Iterator[FrameResult]) -> Iterator[tuple[FrameResult, float]]:
    """Return each result with the seconds that it took to come."""
    while True:
        began = time.perf_counter()
        result = next(results, None)
        if result is None:
            return
        yield result, time.perf_counter() - began


def _schedule(
    prompts: Sequence[FramePrompt], frames: TimedSource, total: int | None, *, masks: bool
) -> dict[int, list[Prompt]]:
    """Return the prompts by frame number, all of them checked."""
    end = None if total is None else frames.start + total
    check_frames(prompts, first=frames.start, end=end, num_frames=frames.num_frames)
    if masks:
        check_object_ids(item.prompt.object_id for item in prompts)
    schedule: dict[int, list[Prompt]] = {}
    for item in prompts:
        validate_prompt(item.prompt, frames.height, frames.width)
        frame = frames.start if item.frame is None else item.frame
        schedule.setdefault(frame, []).append(item.prompt)
    return schedule


def _frames_to_process(frames: TimedSource, max_frames: int | None) -> int | None:
    if frames.num_frames is None:
        return max_frames
    left = frames.num_frames - frames.start
    return left if max_frames is None else min(left, max_frames)


def _open_outputs(
    paths: OutputPaths,
    source: str | Path | int,
    model: str | Path,
    frames: TimedSource,
    total: int | None,
    *,
    audio: bool,
    taken: tuple[Path, ...],
) -> Outputs:
    header = {
        "source": name_of(source),
        "model": str(model),
        "width": frames.width,
        "height": frames.height,
        "fps": frames.fps,
    }
    return Outputs(
        paths,
        height=frames.height,
        width=frames.width,
        fps=frames.fps,
        frames=total,
        header=header,
        pixel_aspect=frames.pixel_aspect,
        colours=frames.colours,
        sound=frames.sound if audio else None,
        to_the_end=total is None or frames.start + total == frames.num_frames,
        taken=(*input_paths(source, model), *taken),
    )


def _path(path: str | Path | None) -> Path | None:
    return None if path is None else Path(path)


def _default_segmenter(everything: Everything | None) -> SegmenterFactory:
    if everything is None:
        return _video_segmenter
    from .everything import EverythingSegmenter

    return partial(EverythingSegmenter, everything=everything)


def _video_segmenter(model: str | Path, **options: Any) -> AbstractContextManager[Segmenter]:
    from .segmenter import VideoSegmenter

    return VideoSegmenter(model, **options)
