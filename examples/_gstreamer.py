"""Frames of a GStreamer pipeline through OpenCV: CSI cameras of Jetson modules, and others."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from qsam2_deploy.errors import VideoError
from qsam2_deploy.media.protocols import RgbImage

_HINT = (
    "on a Jetson run: sudo apt install nvidia-opencv, and use a virtual environment made with "
    "--system-site-packages"
)


def csi_pipeline(sensor: int, width: int, height: int, fps: int, flip: int = 0) -> str:
    """Return the pipeline of a CSI camera, from the image processor to BGR frames.

    Args:
        sensor: number of the camera, from 0.
        width: of the frames in pixels; the sensor must have such a mode.
        height: likewise.
        fps: frames per second.
        flip: ``flip-method`` of nvvidconv; 2 is a camera mounted upside down.
    """
    return (
        f"nvarguscamerasrc sensor-id={sensor} ! "
        f"video/x-raw(memory:NVMM), width={width}, height={height}, framerate={fps}/1, "
        f"format=NV12 ! nvvidconv flip-method={flip} ! video/x-raw, format=BGRx ! "
        # Only the newest frame waits: an older one would show where the object was.
        "videoconvert ! video/x-raw, format=BGR ! appsink drop=true max-buffers=1 sync=false"
    )


def load_opencv(purpose: str) -> Any:
    """Return the module ``cv2``.

    Raises:
        VideoError: it cannot be imported.
    """
    try:
        import cv2
    except (ImportError, AttributeError) as error:  # the latter of builds for another numpy
        reason = str(error).strip().splitlines()[-1] if str(error) else type(error).__name__
        numpy = "; one from apt also needs: pip install 'numpy<2'" if "numpy" in reason else ""
        raise VideoError(
            f"{purpose} needs OpenCV, but cv2 cannot be imported ({reason}); {_HINT}{numpy}"
        ) from error
    return cv2


class GStreamerFrames:
    """The frames of a pipeline that ends in an ``appsink`` of BGR; use it in a ``with`` block."""

    num_frames = None
    start = 0
    warning = None

    def __init__(self, name: str, pipeline: str, cv2: Any = None) -> None:
        """Start the pipeline.

        Args:
            name: what messages call it.
            pipeline: as ``gst-launch-1.0`` takes it.
            cv2: OpenCV; default: the installed one.

        Raises:
            VideoError: OpenCV is absent or without GStreamer, or the pipeline gives no frame.
        """
        self.name = name
        cv2 = load_opencv(name) if cv2 is None else cv2
        if not re.search(r"GStreamer:\s+YES", cv2.getBuildInformation()):
            raise VideoError(
                f"{name} needs OpenCV with GStreamer, but this one (version {cv2.__version__}) was "
                f"built without it, as those of pip are; uninstall it, and {_HINT}"
            )
        self._capture = cv2.VideoCapture(pipeline, cv2.CAP_GSTREAMER)
        self._first = self._read() if self._capture.isOpened() else None
        if self._first is None:
            self.close()
            raise VideoError(
                f"{name} gives no frame; is the camera connected, and not used by another program? "
                f"The pipeline is: {pipeline}"
            )
        self.height, self.width = self._first.shape[:2]
        self.fps = self._capture.get(cv2.CAP_PROP_FPS) or None

    def __iter__(self) -> Iterator[RgbImage]:
        """Yield uint8 RGB frames ``[height, width, 3]`` until the pipeline ends."""
        frame, self._first = self._first, None
        while True:
            frame = self._read() if frame is None else frame
            if frame is None:
                return
            yield frame
            frame = None

    def close(self) -> None:
        """Stop the pipeline and release the camera."""
        self._capture.release()

    def __enter__(self) -> GStreamerFrames:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _read(self) -> RgbImage | None:
        there, bgr = self._capture.read()
        return np.ascontiguousarray(bgr[..., ::-1]) if there else None
