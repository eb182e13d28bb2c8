"""Which encoder writes which kind of video file, and with what options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from ...errors import VideoError
from .._optional import load_av

Encoders = tuple[tuple[str, Mapping[str, str]], ...]


@dataclass(frozen=True)
class Encoding:
    """How frames are stored in a kind of file.

    Attributes:
        codec: what it is called.
        container: FFmpeg's name of the kind of file, which it would take for a list of pictures
            where the name has ``%d`` in it.
        encoders: FFmpeg's names and their options, the best first; a build may lack some.
        pixel_format: what the encoders take, by FFmpeg's name.
        container_options: options of the file.
        sound: whether such a file can hold sound.
        closest: least distance of frames that players show in time, in seconds.
    """

    codec: str
    container: str
    encoders: Encoders
    pixel_format: str = "yuv420p"
    container_options: Mapping[str, str] = field(default_factory=dict)
    sound: bool = True
    closest: Fraction = Fraction(0)

    @property
    def is_yuv(self) -> bool:
        """Whether pixels are stored as brightness and colour, and the file says by which matrix."""
        return self.pixel_format.startswith("yuv")

    def choose(self, *, timed: bool) -> tuple[str, dict[str, str]]:
        """Return the encoder and its options; ``timed`` frames may have any distances.

        Raises:
            VideoError: this build of PyAV has none.
        """
        available = load_av().codecs_available
        for name, options in self.encoders:
            if name in available:
                # Between frames of any distances, an .mp4 file with reordered ones gets a wrong
                # duration: it adds up the times of decoding.
                in_order = {"bf": "0"} if timed and name == "libx264" else {}
                return name, {**options, **in_order}
        raise VideoError(
            f"this build of PyAV has no {self.codec} encoder; install the one from PyPI"
        )


_H264: Encoders = (
    ("libx264", {"crf": "20", "preset": "veryfast"}),
    ("libopenh264", {}),
    ("mpeg4", {}),
)
# The index at the front lets players and browsers begin before they have the whole file.
_INDEX_FIRST = {"movflags": "+faststart"}
_VP9 = {"crf": "28", "b": "0", "deadline": "realtime", "cpu-used": "6", "row-mt": "1"}

_OPAQUE = {
    ".mp4": Encoding("H.264", "mp4", _H264, container_options=_INDEX_FIRST),
    ".mov": Encoding("H.264", "mov", _H264, container_options=_INDEX_FIRST),
    ".mkv": Encoding("H.264", "matroska", _H264),
    ".webm": Encoding("VP9", "webm", (("libvpx-vp9", _VP9), ("libvpx", {"crf": "10", "b": "4M"}))),
    # Browsers show for a tenth of a second what a GIF shows for less than two hundredths.
    ".gif": Encoding("GIF", "gif", (("gif", {}),), "pal8", sound=False, closest=Fraction(2, 100)),
    ".webp": Encoding(
        "WebP", "webp", (("libwebp_anim", {"quality": "80"}),), "bgra", {"loop": "0"}, sound=False
    ),
}

_ALPHA = {
    ".webm": Encoding("VP9", "webm", (("libvpx-vp9", {**_VP9, "auto-alt-ref": "0"}),), "yuva420p"),
    ".mov": Encoding(
        "ProRes",
        "mov",
        (("prores_ks", {"profile": "4444", "alpha_bits": "16"}),),
        "yuva444p10le",
        _INDEX_FIRST,
    ),
}

VIDEO_SUFFIXES = frozenset(_OPAQUE)
ALPHA_SUFFIXES = frozenset(_ALPHA)


def encoding_of(path: Path, *, alpha: bool = False) -> Encoding:
    """Return how a video of this name is stored, with or without transparency.

    Raises:
        VideoError: its suffix is none of ``VIDEO_SUFFIXES``, or ``ALPHA_SUFFIXES``.
    """
    known = _ALPHA if alpha else _OPAQUE
    found = known.get(path.suffix.lower())
    if found is None:
        *most, last = known
        raise VideoError(
            f"cannot write the video {path}: its name must end in {', '.join(most)} or {last}"
        )
    return found
