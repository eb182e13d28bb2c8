"""An RTSP camera: it serves one MPEG transport stream over the connection that asks for it."""

from __future__ import annotations

import re
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# RFC 3551: 33 is an MPEG transport stream, in packets of 188 bytes; its clock has 90 kHz.
_MPEG_TS = 33
_SDP = f"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nt=0 0\r\nm=video 0 RTP/AVP {_MPEG_TS}\r\n"


@contextmanager
def serve_rtsp(data: bytes) -> Iterator[str]:
    """Serve ``data`` to one client, and keep its connection open; yields the URL."""
    server = socket.create_server(("127.0.0.1", 0))
    done = threading.Event()

    def run() -> None:
        client, _ = server.accept()
        with client:
            _answer(client, data)
            done.wait(20)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield f"rtsp://127.0.0.1:{server.getsockname()[1]}/live"
    finally:
        done.set()
        server.close()


def _answer(client: socket.socket, data: bytes) -> None:
    """Answer requests until the one to play (RFC 2326), then send everything."""
    with client.makefile("rb") as lines:
        while True:
            request = b"".join(iter(lines.readline, b"\r\n")).decode()
            if not request:
                return
            method = request.partition(" ")[0]
            sequence = re.search(r"CSeq: *(\d+)", request)
            assert sequence is not None
            head = f"RTSP/1.0 200 OK\r\nCSeq: {sequence[1]}\r\n"
            body = ""
            if method == "DESCRIBE":
                body = _SDP
                head += f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n"
            elif method == "SETUP":
                head += "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n"
            elif method == "OPTIONS":
                head += "Public: DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
            client.sendall(f"{head}\r\n{body}".encode())
            if method == "PLAY":
                client.sendall(b"".join(_packets(data)))
                return


def _packets(data: bytes) -> Iterator[bytes]:
    """Cut ``data`` into RTP packets (RFC 3550), each in the frame that RTSP gives it."""
    size = 7 * 188
    for number, begin in enumerate(range(0, len(data), size)):
        head = struct.pack(">BBHII", 0x80, _MPEG_TS, number, number * 900, 1)
        packet = head + data[begin : begin + size]
        yield struct.pack(">cBH", b"$", 0, len(packet)) + packet
