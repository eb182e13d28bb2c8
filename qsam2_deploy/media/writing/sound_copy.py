"""The sound of the input in the overlay, as it is: copied, not encoded again."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any, cast

from .._optional import load_av
from ..protocols import Sound

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet

_Packets = Generator["Packet[AudioStream]", None, None]


class SoundCopy:
    """Copies the packets of all sound tracks that the overlay's file format can hold."""

    def __init__(self, sound: Sound, target: OutputContainer, *, begin: float) -> None:
        """Add the tracks to ``target``, whose header is not written yet.

        Args:
            sound: where the tracks are.
            target: the overlay.
            begin: time of the overlay's first frame, in seconds from the source's first one.
        """
        self._from_the_start = begin == 0
        self._begin = sound.origin + begin
        self._target = target
        self._source: InputContainer = load_av().open(f"file:{sound.path}")
        audio = list(self._source.streams.audio)
        able = [s for s in audio if _fits(s.codec_context.name, target)]
        self.refused = sorted({s.codec_context.name for s in audio if s not in able})
        self._tracks: dict[int, AudioStream] = {
            s.index: target.add_stream_from_template(s) for s in able
        }
        self._packets = self._read(able)
        self._next = next(self._packets, None)

    def advance(self, until: float | None) -> None:
        """Copy what begins before ``until``, in seconds of the overlay; None: all there is."""
        while self._next is not None:
            packet = self._next
            if until is not None and self._time(packet) >= until:
                return
            self._copy(packet)
            self._next = next(self._packets, None)

    def close(self) -> None:
        """Close the source."""
        self._packets.close()
        self._source.close()

    def _read(self, streams: list[AudioStream]) -> _Packets:
        av = load_av()
        packets: Iterator[Any] = self._source.demux(*streams) if streams else iter(())
        while True:
            try:
                packet = next(packets, None)
            except (av.FFmpegError, OSError):
                return  # The file breaks off; the pictures' reader says so.
            if packet is None:
                return
            if packet.size and packet.pts is not None and packet.dts is not None:
                yield packet

    def _time(self, packet: Packet[AudioStream]) -> float:
        return float(cast("int", packet.pts) * packet.time_base) - self._begin

    def _copy(self, packet: Packet[AudioStream]) -> None:
        length = float((packet.duration or 0) * packet.time_base)
        # What comes before the first frame of all may be needed to start the decoder.
        if not self._from_the_start and self._time(packet) + length <= 0:
            return
        shift = round(self._begin / packet.time_base)
        packet.pts = cast("int", packet.pts) - shift
        packet.dts = cast("int", packet.dts) - shift
        packet.stream = self._tracks[packet.stream.index]
        # Packets out of order, as where streams were joined, are refused; the rest goes on.
        with contextlib.suppress(ValueError):
            self._target.mux(packet)


def _fits(codec: str, target: OutputContainer) -> bool:
    return codec in target.supported_codecs
