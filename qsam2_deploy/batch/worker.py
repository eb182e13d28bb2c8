"""One process that segments one video after the other, with one model."""

from __future__ import annotations

import errno
import os
import time
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from pathlib import Path
from typing import Any

from .._common.contradictions import one_line, reason_of
from .._common.files import file_digest, write_json
from ..errors import Qsam2Error
from ..media.prompting.prompts import FramePrompt
from ..media.writing.overwriting import input_paths
from ..predictors.segment_video import SegmenterFactory, SegmentSummary, segment_video
from ..predictors.segmenter import VideoSegmenter
from .digest import job_digest
from .jobs import Job
from .options import FINISHED, OWN_OUTPUTS, BatchOptions
from .outcome import Outcome, failed, skipped
from .places import store_at

_SCHEMA_VERSION = 1
_ARGUMENTS = {"masks": "masks_dir", "json": "json_path"}
"""Arguments of ``segment_video`` whose names are others than those of the outputs."""


class Worker:
    """Segments videos; the model is opened for the first one that is not finished yet."""

    def __init__(
        self, options: BatchOptions, backend: str | None = None, folder: str | None = None
    ) -> None:
        """Open nothing yet.

        Args:
            options: what is the same for all videos.
            backend: the engine that ``options.backend`` stands for; default: itself.
            folder: what paths are relative to; default: where this process runs.

        Raises:
            Qsam2Error: the place of the results cannot be used.
        """
        if folder is not None:
            # Where it is not there, paths that are not relative can be used all the same.
            with suppress(OSError):
                os.chdir(folder)
        self._options, self._backend = options, backend or options.backend
        self._store = store_at(options.out)
        self._stack = ExitStack()
        self._model_sha256 = ""
        self._segmenter: VideoSegmenter | None = None

    def ready(self) -> None:
        """Do nothing; it returns once the process runs."""

    def run(self, job: Job) -> Outcome:
        """Segment a video and write its results, if they are not there already.

        Whatever goes wrong with the video is in what is returned.
        """
        try:
            return self._run(job)
        except Qsam2Error as error:
            return failed(job, str(error), hopeless=_is_full(error))
        except MemoryError:
            return failed(job, "it takes more memory than there is; run fewer workers")
        # One video must not end the batch, whatever is in its file.
        except Exception as error:
            return failed(job, f"{job.shown} cannot be segmented ({reason_of(error)})")

    def close(self) -> None:
        """Release the model."""
        self._segmenter = None
        self._stack.close()

    def _run(self, job: Job) -> Outcome:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            try:
                model_sha256 = self._digest_of_model()
            except Exception as error:
                return _without_model(job, error)
            prompts = job.prompts.read()
            digest = job_digest(job, prompts, self._options, model_sha256)
            finished = self._store.finished(job.name)
            if finished is not None and digest is not None and finished.get("digest") == digest:
                return skipped(job, finished)
            try:
                segmenter = self._opened()
            except Exception as error:
                return _without_model(job, error)
            read = [path for prompt in prompts for path in prompt.files]
            read += input_paths(job.video, self._options.model)
            with self._store.writing(job.name, read) as folder:
                began = time.perf_counter()
                summary = self._segmented(job, prompts, segmenter, folder)
                if summary.interrupted:  # by a signal to this process alone
                    raise Qsam2Error(f"{job.shown} was interrupted; run again")
                seconds = time.perf_counter() - began
                notes = (*summary.warnings, *(one_line(item.message) for item in told))
                # Nobody knows the temporary folder.
                notes = tuple(note.replace(f"{folder}/", "") for note in notes)
                outcome = _done(job, summary, seconds, notes)
                record = {
                    "schema_version": _SCHEMA_VERSION,
                    "digest": digest,
                    "model_sha256": model_sha256,
                    "engine": summary.engine,
                    "outputs": dict(self._options.outputs),
                    **outcome.record(),
                }
                write_json(folder / FINISHED, record)
            return outcome

    def _digest_of_model(self) -> str:
        if not self._model_sha256:
            self._model_sha256 = file_digest(self._options.model)
        return self._model_sha256

    def _opened(self) -> VideoSegmenter:
        if self._segmenter is None:
            options = self._options
            segmenter = VideoSegmenter(
                options.model,
                self._backend,
                threads=options.threads,
                memory_frames=options.memory_frames,
                cache=options.cache,
                precision=options.precision,
            )
            self._segmenter = self._stack.enter_context(segmenter)
        self._segmenter.reset()
        return self._segmenter

    def _segmented(
        self, job: Job, prompts: Sequence[FramePrompt], segmenter: VideoSegmenter, folder: Path
    ) -> SegmentSummary:
        paths = {output: folder / name for output, name in self._options.outputs.items()}
        own: dict[str, Any] = {
            _ARGUMENTS.get(output, output): paths.pop(output)
            for output in OWN_OUTPUTS
            if output in paths
        }
        return segment_video(
            job.video,
            self._options.model,
            prompts,
            **own,
            formats=paths,
            start=job.start,
            max_frames=job.max_frames,
            ignore_orientation=self._options.ignore_orientation,
            audio=self._options.audio,
            show_progress=False,
            segmenter=_open_already(segmenter),
        )


def _open_already(segmenter: VideoSegmenter) -> SegmenterFactory:
    """Return what makes ``segmenter``, which stays open."""

    def make(*_args: Any, **_options: Any) -> AbstractContextManager[VideoSegmenter]:
        return nullcontext(segmenter)

    return make


def _done(job: Job, summary: SegmentSummary, seconds: float, notes: tuple[str, ...]) -> Outcome:
    return Outcome(
        job.name,
        job.shown,
        "done",
        frames=summary.frames,
        width=summary.width,
        height=summary.height,
        objects=len(summary.objects),
        seconds=round(seconds, 3),
        warnings=notes,
    )


def _without_model(job: Job, error: Exception) -> Outcome:
    """Return that no video can be segmented."""
    own = isinstance(error, Qsam2Error)
    reason = str(error) if own else f"the model cannot be opened ({reason_of(error)})"
    return failed(job, reason, hopeless=True)


def _is_full(error: BaseException | None) -> bool:
    """Return whether a full disk is behind an error."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__ or error.__context__
    return False
