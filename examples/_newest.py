"""The newest frame of a camera, whatever time the frame before it took."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from qsam2_deploy.errors import VideoError
from qsam2_deploy.media.protocols import FrameSource, RgbImage

_PATIENCE = 10.0
"""Seconds after which a camera that gives nothing counts as gone."""


class NewestFrames:
    """Reads a camera in a thread of its own and keeps only its newest frame.

    Drivers queue some frames. A model that is slower than the camera would always see old ones.
    """

    def __init__(self, frames: FrameSource, patience: float = _PATIENCE) -> None:
        """Start to read ``frames``; close them after this."""
        self._source = frames
        self._patience = patience
        self._changed = threading.Condition()
        self._newest: RgbImage | None = None
        self._error: Exception | None = None
        self._ended = False
        self._thread = threading.Thread(target=self._read, name="camera", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[RgbImage]:
        """Yield each time the newest frame, and none twice, until the source ends.

        Raises:
            VideoError: the camera gives no frame any more.
        """
        while (frame := self._take()) is not None:
            yield frame

    def __enter__(self) -> NewestFrames:
        return self

    def __exit__(self, *error: object) -> None:
        with self._changed:
            self._ended = True
        # Whoever closes the camera next must not do so while it is being read.
        self._thread.join(self._patience)

    def _take(self) -> RgbImage | None:
        with self._changed:
            came = self._changed.wait_for(
                lambda: self._newest is not None or self._ended, self._patience
            )
            if not came:
                raise VideoError(
                    f"{self._source.name} gave no frame for {self._patience:g} seconds; "
                    "is it still connected?"
                )
            frame, self._newest = self._newest, None
            if frame is None and self._error is not None:
                raise self._error
            return frame

    def _read(self) -> None:
        try:
            for frame in self._source:
                with self._changed:
                    if self._ended:
                        return
                    self._newest = frame
                    self._changed.notify_all()
        except Exception as error:  # raised again where the frames are used
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()
