"""All files that a run can write, opened and closed together."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from ...errors import InputError, VideoError
from ...tracking.results import FrameResult
from ..protocols import Colours, RgbImage, Shown, Sound
from .contact_sheet import ContactSheet
from .drawing import draw_overlay
from .image_writer import WRITABLE_SUFFIXES, write_image
from .json_writer import JsonWriter
from .mask_writer import MaskWriter
from .overwriting import check_against_inputs
from .result_format import About, FrameRecord, ResultWriter, open_format
from .video_writer import VideoWriter

# Of ITU-T H.273.
_HDR = {16: "PQ", 18: "HLG"}


@dataclass(frozen=True)
class OutputPaths:
    """Where to write what; None is not written.

    Attributes:
        overlay: the video with the masks drawn on it; an image for a single frame.
        masks: folder of one indexed PNG per frame.
        json: the results in numbers.
        contact_sheet: a picture of evenly spaced frames.
        formats: forms that other tools read, by their names in :mod:`.result_format`.
    """

    overlay: Path | None = None
    masks: Path | None = None
    json: Path | None = None
    contact_sheet: Path | None = None
    formats: Mapping[str, Path] = field(default_factory=dict)

    def given(self) -> dict[str, Path]:
        """Return those that are to be written, by name."""
        own = {"overlay": self.overlay, "masks": self.masks, "json": self.json}
        own |= {"contact_sheet": self.contact_sheet, **self.formats}
        return {name: path for name, path in own.items() if path is not None}

    def check(
        self,
        source: str | Path | int,
        model: str | Path,
        prompts: Sequence[Path] = (),
        *,
        load: Path | None = None,
        save: Path | None = None,
    ) -> None:
        """Check that no output replaces an input or another output.

        Args:
            source: the video.
            model: the model.
            prompts: the files that prompts were read from.
            load: a file of objects that the run reads.
            save: one that it writes, which may be the same.

        Raises:
            InputError: one does.
        """
        paths = self.given() | ({} if save is None else {"objects": save})
        names: dict[str, str] = {}
        for name, path in paths.items():
            other = names.setdefault(os.path.realpath(path), name)
            if other != name:
                raise InputError(f"{path} is given for two outputs; give each its own name")
            loaded = () if load is None or name == "objects" else (load,)
            check_against_inputs(path, source, model, (*prompts, *loaded))


class Outputs:
    """Writes every frame to all wanted files; use it in a ``with`` block.

    Leaving the block finishes all files with what was written, also after an error. Call
    :meth:`finish` first if the run is complete: the JSON file says so.

    Attributes:
        written: the files and folders by name; where a form has several, a pattern for them.
    """

    def __init__(
        self,
        paths: OutputPaths,
        *,
        height: int,
        width: int,
        fps: float | None,
        frames: int | None,
        header: Mapping[str, Any],
        pixel_aspect: Fraction | None = None,
        colours: Colours | None = None,
        sound: Sound | None = None,
        to_the_end: bool = True,
        taken: tuple[Path, ...] = (),
    ) -> None:
        """Open all files.

        Args:
            paths: what to write.
            height: of the frames, in pixels.
            width: of the frames, in pixels.
            fps: frames per second of the overlay, for frames without a time.
            frames: how many frames will come, None if unknown.
            header: entries for the JSON file.
            pixel_aspect: width of a pixel by its height, None for squares.
            colours: how the overlay stores them; None for BT.709.
            sound: tracks to copy into the overlay.
            to_the_end: the last frame will be that of the source, so all its sound is copied.
            taken: the inputs, which no output may replace.

        Raises:
            InputError: a folder is absent or cannot be written to.
            VideoError: a name has an unknown suffix.
        """
        self._size = (height, width)
        self._hdr_warning = _hdr_warning(colours)
        self._complete = False
        self._to_the_end = to_the_end
        self._video: VideoWriter | None = None
        self._image: Path | None = None
        self._masks: MaskWriter | None = None
        self._json: JsonWriter | None = None
        self._sheet: ContactSheet | None = None
        self._formats: list[ResultWriter] = []
        self.written = paths.given()
        taken = (*taken, *self.written.values())
        with ExitStack() as stack:
            if paths.overlay is not None:
                self._check_overlay(paths.overlay, frames)
                if self._image is None:
                    self._video = VideoWriter(
                        paths.overlay,
                        height=height,
                        width=width,
                        fps=fps,
                        pixel_aspect=pixel_aspect,
                        colours=colours,
                        sound=sound,
                    )
                    stack.callback(self._close_video)
            if paths.contact_sheet is not None:
                self._sheet = ContactSheet(paths.contact_sheet)
                stack.callback(self._sheet.close)
            if paths.json is not None:
                self._json = JsonWriter(paths.json, header)
                stack.callback(self._close_json)
            if paths.masks is not None:
                self._masks = MaskWriter(paths.masks, taken)
                stack.callback(self._masks.close)
            about = About(
                height,
                width,
                header,
                fps,
                pixel_aspect,
                colours,
                taken=taken,
            )
            for name, path in paths.formats.items():
                writer = open_format(name, path, about)
                self._formats.append(writer)
                self.written[name] = writer.written or path
                stack.callback(self._close_format, writer)
            self._stack = stack.pop_all()

    @property
    def warnings(self) -> list[str]:
        """Sentences about what could not be written."""
        if self._video is None:
            return []
        return [text for text in (self._hdr_warning, self._video.warning) if text is not None]

    def write(
        self,
        index: int,
        frame: RgbImage,
        result: FrameResult,
        seconds: float,
        shown: Shown | None = None,
    ) -> None:
        """Write a frame, uint8 RGB ``[height, width, 3]``, and what was found in how many seconds.

        ``shown`` is when the source shows it.

        Raises:
            InputError: the disk is full, or the like.
        """
        if self._masks is not None:
            self._masks.write(index, *self._size, result)
        if self._json is not None:
            self._json.write(index, result, seconds, None if shown is None else shown.time)
        for writer in self._formats:
            writer.write(FrameRecord(index, frame, result, shown))
        if self._video is None and self._image is None and self._sheet is None:
            return
        drawn = draw_overlay(frame, result)
        if self._video is not None:
            self._video.write(drawn, shown)
        if self._image is not None:
            write_image(self._image, drawn)
        if self._sheet is not None:
            self._sheet.add(index, drawn)

    def finish(self) -> None:
        """Say that all frames have been written."""
        self._complete = True

    def __enter__(self) -> Outputs:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def _check_overlay(self, path: Path, frames: int | None) -> None:
        if path.suffix.lower() not in WRITABLE_SUFFIXES:
            return
        if frames is None:
            raise VideoError(
                f"the overlay {path} is an image, but there may be more than one frame; process "
                "one alone (--max-frames 1), or give the name of a video, such as one that ends in "
                ".mp4"
            )
        if frames != 1:
            raise VideoError(
                f"the overlay {path} is an image, but there is more than one frame; "
                "give the name of a video, such as one that ends in .mp4"
            )
        self._image = path

    def _close_video(self) -> None:
        if self._video is not None:
            self._video.close(all_sound=self._complete and self._to_the_end)

    def _close_format(self, writer: ResultWriter) -> None:
        writer.close(complete=self._complete)

    def _close_json(self) -> None:
        if self._json is not None:
            self._json.close(complete=self._complete)


def _hdr_warning(colours: Colours | None) -> str | None:
    curve = None if colours is None else _HDR.get(colours.transfer)
    if curve is None:
        return None
    return (
        f"the input is HDR ({curve}) and is not converted: its frames look pale to the model, and "
        "the overlay has its colours in 8 bits; convert the input to BT.709 first where masks or "
        "bands disturb"
    )
