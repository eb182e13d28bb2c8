"""Each object alone, transparent around it: .webm, .mov, or a folder of PNG.

``cut.webm`` becomes ``cut_1.webm`` for object 1, and so on (VP9 with alpha, for browsers), and
``cut.mov`` becomes ``cut_1.mov`` (ProRes 4444, for video editors). Another name is a folder with
``1/00012.png`` for object 1 on frame 12. Pictures have the size of the frames, so that they lie
over each other. A video is transparent until its object appears, and as long as the run. Sound is
not copied.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ....errors import InputError
from ...protocols import RgbImage, Shown
from ..drawing import Mask, contour
from ..encodings import ALPHA_SUFFIXES, VIDEO_SUFFIXES
from ..image_writer import WRITABLE_SUFFIXES, write_image
from ..output_folder import OutputFolder
from ..overwriting import check_free
from ..pending_file import PendingFile
from ..result_format import About, FrameRecord, ResultWriter
from ..video_writer import VideoWriter

RgbaImage = npt.NDArray[np.uint8]
"""``[height, width, 4]``; the last channel is 255 inside the object and 0 outside."""

# Videos store colours for 2x2 pixels, and blur edges: what is just outside shines through there.
_MARGIN = 4


class Writer(ResultWriter):
    """Writes each object's picture at once."""

    def __init__(self, path: Path, about: About) -> None:
        """See the base."""
        moving = path.suffix.lower() in ALPHA_SUFFIXES
        if not moving and path.suffix.lower() in VIDEO_SUFFIXES | WRITABLE_SUFFIXES:
            raise InputError(
                f"cannot write cut-outs to {path}: such a file has no transparency, or holds one "
                "picture; give a name that ends in .webm or .mov, or a folder"
            )
        self._target = _Videos(path, about) if moving else _Images(path, about)
        if moving:
            self.written = path.with_stem(f"{path.stem}_*")

    def write(self, record: FrameRecord) -> None:
        """See the base."""
        self._target.write(record)

    def close(self, *, complete: bool) -> None:  # noqa: ARG002 - pictures cannot say it
        """See the base."""
        self._target.close()


def cut_out(image: RgbImage, mask: Mask, *, margin: int = 0) -> RgbaImage:
    """Return an image that is opaque inside the mask.

    Args:
        image: uint8 RGB ``[height, width, 3]``.
        mask: bool ``[height, width]``.
        margin: within so many pixels around the mask the colours stay, farther away they are black.
    """
    kept = mask | contour(~mask, margin) if margin else mask
    cut = np.zeros((*mask.shape, 4), np.uint8)
    cut[kept, :3] = image[kept]
    cut[mask, 3] = 255
    return cut


class _Images:
    """A folder for each object."""

    def __init__(self, path: Path, about: About) -> None:
        self._folder = OutputFolder(path, "cut-outs", about.taken)

    def write(self, record: FrameRecord) -> None:
        for item in record.result.objects:
            name = str(item.object_id)
            self._folder.inner(name)
            path = self._folder.file(f"{name}/{record.index:05d}.png")
            write_image(path, cut_out(record.image, item.mask))

    def close(self) -> None:
        self._folder.close()


class _Videos:
    """A video for each object."""

    def __init__(self, path: Path, about: About) -> None:
        PendingFile(path).discard()  # tells now whether the folder can be written to
        self._path, self._about = path, about
        self._open = ExitStack()
        self._videos: dict[int, VideoWriter] = {}
        self._before: list[Shown | None] = []

    def write(self, record: FrameRecord) -> None:
        for item in record.result.objects:
            video = self._videos.get(item.object_id) or self._begin(item.object_id)
            video.write(cut_out(record.image, item.mask, margin=_MARGIN), record.shown)
        self._before.append(record.shown)

    def close(self) -> None:
        self._open.close()

    def _begin(self, object_id: int) -> VideoWriter:
        path = self._path.with_stem(f"{self._path.stem}_{object_id}")
        check_free(path, self._about.taken)
        about = self._about
        video = VideoWriter(
            path,
            height=about.height,
            width=about.width,
            fps=about.fps,
            pixel_aspect=about.pixel_aspect,
            colours=about.colours,
            alpha=True,
        )
        self._videos[object_id] = self._open.enter_context(video)
        nothing = np.zeros((about.height, about.width, 4), np.uint8)
        for shown in self._before:
            video.write(nothing, shown)
        return video
