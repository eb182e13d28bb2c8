"""The newest frame of a camera, whatever time the frame before it took."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from qsam2_deploy.errors import VideoError
from qsam2_deploy.media.protocols import FrameSource, RgbImage
from qsam2_deploy.media.reading.handover import Handover

_PATIENCE = 10.0
"""Seconds after which a camera that gives nothing counts as gone."""


class NewestFrames:
    """Reads a camera in a thread of its own and keeps only its newest frame.

    Drivers queue some frames. A model that is slower than the camera would always see old ones.
    What ``open_frames`` gives of cameras and URLs does this already.
    """

    def __init__(self, frames: FrameSource, patience: float = _PATIENCE) -> None:
        """Start to read ``frames``; close them after this."""
        self._source = frames
        self._patience = patience
        self._handover: Handover[RgbImage] = Handover()
        self._handover.newest = True
        self._thread = threading.Thread(target=self._read, name="camera", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[RgbImage]:
        """Yield each time the newest frame, and none twice, until the source ends.

        Raises:
            VideoError: the camera gives no frame any more.
        """
        while self._handover.peek(self._patience) is not None:
            frame = self._handover.take()
            if frame is not None:
                yield frame
        if not self._handover.ended:
            raise VideoError(
                f"{self._source.name} gave no frame for {self._patience:g} seconds; "
                "is it still connected?"
            )

    def __enter__(self) -> NewestFrames:
        return self

    def __exit__(self, *error: object) -> None:
        self._handover.stop()
        # Whoever closes the camera next must not do so while it is being read.
        self._thread.join(self._patience)

    def _read(self) -> None:
        try:
            for frame in self._source:
                if not self._handover.put(frame):
                    return
        except Exception as error:  # raised again where the frames are used
            self._handover.end(error)
        else:
            self._handover.end()
