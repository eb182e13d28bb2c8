"""A window that shows pictures and takes clicks and boxes with the mouse."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from _gstreamer import load_opencv

from qsam2_deploy.errors import PromptError, VideoError
from qsam2_deploy.media.protocols import RgbImage
from qsam2_deploy.runtime import Prompt

_TITLE = "qsam2-deploy"
_HELP = "left click: object; right click: not the object; drag: box; Enter: track; Esc: quit"
_INSTEAD = "leave out --show, and watch with --mjpeg PORT or --out FILE.mp4"
_ENTER, _QUIT = (10, 13, 32), (27, ord("q"))
_DRAG = 5
"""Pixels from which on a click is a box."""


@dataclass
class _Marks:
    """What the mouse did so far."""

    points: list[tuple[float, float]] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    box: tuple[float, float, float, float] | None = None
    pressed: tuple[int, int] | None = None


class Window:
    """A window of OpenCV; use it in a ``with`` block."""

    def __init__(self, cv2: Any = None) -> None:
        """Open the window.

        Args:
            cv2: OpenCV; default: the installed one.

        Raises:
            VideoError: OpenCV is absent, or cannot open a window here.
        """
        # Some builds of OpenCV end the process where there is no display.
        if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise VideoError(f"no window can be opened, because there is no display; {_INSTEAD}")
        self._cv2 = load_opencv("a window") if cv2 is None else cv2
        try:
            self._cv2.namedWindow(_TITLE, self._cv2.WINDOW_NORMAL)
        except self._cv2.error as error:
            raise VideoError(
                "no window can be opened, because this OpenCV was built without windows, as "
                f"opencv-python-headless is, or cannot reach the display; {_INSTEAD}"
            ) from error

    def show(self, picture: RgbImage) -> bool:
        """Show a picture; returns whether the loop is to go on, False after Esc or q."""
        self._cv2.imshow(_TITLE, np.ascontiguousarray(picture[..., ::-1]))
        return self._cv2.waitKey(1) & 0xFF not in _QUIT

    def ask(self, frame: RgbImage) -> Prompt:
        """Let the user mark the object on ``frame``.

        Raises:
            PromptError: the user marked nothing.
        """
        print(_HELP)
        marks = _Marks()
        self._cv2.setMouseCallback(_TITLE, lambda *event: self._on_mouse(marks, *event))
        key = -1
        while key not in _ENTER:
            self._cv2.imshow(_TITLE, self._drawn(frame, marks))
            key = self._cv2.waitKey(30) & 0xFF
            if key in _QUIT:
                break
        self._cv2.setMouseCallback(_TITLE, lambda *_: None)
        if key in _QUIT or not (marks.points or marks.box):
            raise PromptError("nothing was marked; click on an object and press Enter")
        return Prompt(1, points=marks.points, labels=marks.labels, box=marks.box)

    def __enter__(self) -> Window:
        return self

    def __exit__(self, *error: object) -> None:
        self._cv2.destroyAllWindows()

    def _on_mouse(self, marks: _Marks, event: int, x: int, y: int, *_: object) -> None:
        if event == self._cv2.EVENT_LBUTTONDOWN:
            marks.pressed = (x, y)
        elif event == self._cv2.EVENT_RBUTTONDOWN:
            marks.points.append((x, y))
            marks.labels.append(0)
        elif event == self._cv2.EVENT_LBUTTONUP and marks.pressed is not None:
            (x1, x2), (y1, y2) = sorted((marks.pressed[0], x)), sorted((marks.pressed[1], y))
            marks.pressed = None
            if min(x2 - x1, y2 - y1) >= _DRAG:
                marks.box = (x1, y1, x2, y2)
            else:
                marks.points.append((x, y))
                marks.labels.append(1)

    def _drawn(self, frame: RgbImage, marks: _Marks) -> RgbImage:
        picture: RgbImage = np.ascontiguousarray(frame[..., ::-1])
        for (x, y), label in zip(marks.points, marks.labels, strict=True):
            colour = (0, 220, 0) if label else (0, 0, 230)
            self._cv2.circle(picture, (int(x), int(y)), 6, colour, -1)
        if marks.box is not None:
            x1, y1, x2, y2 = map(int, marks.box)
            self._cv2.rectangle(picture, (x1, y1), (x2, y2), (0, 220, 0), 2)
        return picture
