"""The training videos of SA-V: an mp4, and a JSON file of run-length masks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..._common.json import read_json
from ..._common.rgb import RgbDecoder
from ...errors import MissingDependencyError, VideoError
from ..sample import Frames, Masks
from .image_files import chosen_names, list_folder, listed_names
from .rle import decode_rle

ANNOTATION_STEP = 4
"""Frames from one annotation to the next: 24 frames, 6 annotations per second."""

_MAX_BYTES = 1 << 28
_SUFFIX = "_manual.json"


class SavTrainSequence:
    """One video of SA-V training; a ``VideoSequence``.

    Frames are decoded one after another; going back starts again at the first one.
    """

    def __init__(self, name: str, video: Path, annotations: Path) -> None:
        """Read the annotations; the video is opened when a frame is asked for.

        Raises:
            VideoError: a file is missing or damaged.
        """
        if not video.is_file():
            raise VideoError(f"there is no video {video} beside {annotations.name}")
        self.name = name
        self._video, self._annotations = video, annotations
        with self._readable():
            data = read_json(annotations, _MAX_BYTES)
            self._annotated_frames = len(data["masklet"])
            self.frame_count = int(data["video_frame_count"])
            self.size = (int(data["video_height"]), int(data["video_width"]))
            self.object_ids: tuple[int, ...] = tuple(int(i) for i in data["masklet_id"])
        if not self.object_ids or not self._annotated_frames:
            raise VideoError(f"{annotations} holds no object, so there is nothing to track")
        self._masklets: list[list[Any]] | None = None  # megabytes; read when needed
        self._decoder: Iterator[Frames] | None = None
        self._next = 0
        self._last: Frames | None = None

    @property
    def annotated(self) -> tuple[int, ...]:
        """Indices of the annotated frames, ascending."""
        indices = range(0, self._annotated_frames * ANNOTATION_STEP, ANNOTATION_STEP)
        return tuple(i for i in indices if i < self.frame_count)

    def frame(self, index: int) -> Frames:
        """Return frame ``index``: [H, W, 3] uint8, RGB.

        Raises:
            IndexError: there is no such frame.
            VideoError: the video is damaged, too short, or of another size.
            MissingDependencyError: PyAV is not installed.
        """
        if not 0 <= index < self.frame_count:
            raise IndexError(f"there is no frame {index}; there are {self.frame_count} frames")
        if self._decoder is None or index < self._next - 1:
            self._decoder, self._next = _decode(self._video), 0
        while self._next <= index:
            self._last = next(self._decoder, None)
            self._next += 1
            if self._last is None:
                self._decoder = None
                raise VideoError(
                    f"the video {self._video} ends before frame {index}; its annotations "
                    f"expect {self.frame_count} frames"
                )
        assert self._last is not None
        if self._last.shape[:2] != self.size:
            raise VideoError(
                f"the frames of {self._video} are {self._last.shape[1]}x{self._last.shape[0]} "
                f"pixels, but its annotations say {self.size[1]}x{self.size[0]}"
            )
        return self._last

    def masks(self, index: int) -> dict[int, Masks]:
        """Return the mask [H, W] bool of every object in frame ``index``; none between two.

        Raises:
            VideoError: the masks are damaged, or of another size than the video.
        """
        if index % ANNOTATION_STEP or index not in self.annotated:
            return {}
        entries = self._read_masklets()[index // ANNOTATION_STEP]
        origin = f"frame {index} in {self._annotations}"
        found = {}
        # An object that is not in the frame may lack an entry at the end of the list.
        for object_id, entry in zip(self.object_ids, entries, strict=False):
            mask = decode_rle(entry, origin)
            if mask.shape != self.size:
                raise VideoError(
                    f"a mask of {origin} is {mask.shape[1]}x{mask.shape[0]} pixels, but the video "
                    f"is {self.size[1]}x{self.size[0]}"
                )
            found[object_id] = mask
        return found

    def release(self) -> None:
        """Close the video and forget the masks; both are opened again when they are needed."""
        self._masklets = self._decoder = self._last = None
        self._next = 0

    def _read_masklets(self) -> list[list[Any]]:
        if self._masklets is None:
            with self._readable():
                masklets: list[list[Any]] = read_json(self._annotations, _MAX_BYTES)["masklet"]
            self._masklets = masklets
        return self._masklets

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
            raise VideoError(
                f"cannot read {self._annotations} as SA-V annotations, it may be damaged: {error!r}"
            ) from error


def sav_train_sequences(
    root: Path, names: Iterable[str] | None = None
) -> Iterator[SavTrainSequence]:
    """Open videos of SA-V's training set, in the order of their names.

    Raises:
        VideoError: there is none, a name is unknown, or a file is missing or damaged.
    """
    for name, video in sav_train_videos(root, names).items():
        yield SavTrainSequence(name, video, root / f"{name}{_SUFFIX}")


def sav_train_videos(root: Path, names: Iterable[str] | None = None) -> dict[str, Path]:
    """Return the file of each video, in the order of their names; it need not be there.

    Raises:
        VideoError: there is none, or a name is unknown.
    """
    known = [p.name.removesuffix(_SUFFIX) for p in list_folder(root) if p.name.endswith(_SUFFIX)]
    if not known:
        raise VideoError(
            f"{root} is no SA-V folder; expected JPEGImages_24fps and Annotations_6fps, or "
            f"<video>.mp4 with <video>{_SUFFIX}"
        )
    return {n: root / f"{n}.mp4" for n in chosen_names(known, listed_names(names), root)}


def _decode(path: Path) -> Iterator[Frames]:
    try:
        import av
    except ImportError as error:
        raise MissingDependencyError("av", "video", "reading SA-V training videos") from error
    try:
        with av.open(str(path)) as container:
            to_rgb = RgbDecoder()
            for frame in container.decode(video=0):
                yield to_rgb(frame)
    except (OSError, ValueError, IndexError) as error:
        raise VideoError(f"cannot decode {path}, it may be damaged: {error}") from error
