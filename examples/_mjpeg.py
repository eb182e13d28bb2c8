"""A web page that shows the newest picture, for devices without a display.

Who knows its address sees the camera, so the address holds a random token. What it does not do is
encrypt: whoever can read the network's traffic can read the pictures, too.
"""

from __future__ import annotations

import contextlib
import hmac
import io
import ipaddress
import secrets
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from PIL import Image

from qsam2_deploy.errors import InputError
from qsam2_deploy.media.protocols import RgbImage

_PAGE = b'<!doctype html><title>qsam2-deploy</title><img src="stream" style="max-width:100%">'
_BOUNDARY = b"frame"
_QUALITY = 80
_TOKEN_BYTES = 16

CLIENTS_MAX = 8
"""Connections at a time; each takes a thread, and a picture is compressed for each."""

_PATIENCE_S = 10.0
"""A client that sends or takes nothing for so long is let go."""

_BUSY = b"HTTP/1.0 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"

# The address, and so the token, goes to no other site, and no other page may show the pictures.
_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class MjpegServer:
    """Serves pictures as motion JPEG, which every browser shows; use it in a ``with`` block."""

    def __init__(self, host: str, port: int) -> None:
        """Listen on ``host``, ``port``; port 0 takes a free one.

        Raises:
            InputError: the address cannot be used.
        """
        self._changed = threading.Condition()
        self._newest: RgbImage | None = None
        self._count = 0
        self._closed = False
        self._token = secrets.token_urlsafe(_TOKEN_BYTES)
        self._host = host
        try:
            self._server = _Server((host, port), self._handler())
        except (OSError, OverflowError) as error:
            raise InputError(
                f"cannot serve pictures on {host}:{port}: {error}; choose another port"
            ) from error
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """Where the page is, with the token; who has it sees the pictures."""
        host, port = self._server.server_address[:2]
        shown = socket.gethostname() if ipaddress.ip_address(str(host)).is_unspecified else host
        return f"http://{shown!s}:{port}/{self._token}/"

    @property
    def is_public(self) -> bool:
        """Whether other machines can reach it."""
        return not ipaddress.ip_address(str(self._server.server_address[0])).is_loopback

    def show(self, picture: RgbImage) -> bool:
        """Give ``picture`` to everybody who watches; returns that the loop is to go on."""
        with self._changed:
            self._newest = picture
            self._count += 1
            self._changed.notify_all()
        return True

    def __enter__(self) -> MjpegServer:
        return self

    def __exit__(self, *error: object) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._server.shutdown()
        self._server.server_close()

    def _next(self, seen: int) -> tuple[int, RgbImage] | None:
        """Wait for a picture after number ``seen``; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._count > seen)
            if self._closed or self._newest is None:
                return None
            return self._count, self._newest

    def _kind_of(self, path: str, host: str | None) -> str | int:
        """Return what is at a path, ``page`` or ``stream``, or the status of a refusal."""
        if not _is_address_of_ours(host, self._host):
            return 421  # misdirected: the name belongs to somebody else
        given, kind = path.encode(errors="replace"), ""
        for name, last in (("page", ""), ("stream", "stream")):
            if hmac.compare_digest(given, f"/{self._token}/{last}".encode()):
                kind = name
        return kind or 404

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            timeout = _PATIENCE_S

            def do_GET(self) -> None:
                kind = server._kind_of(self.path, self.headers.get("Host"))
                if kind == "page":
                    self._start("text/html")
                    self.wfile.write(_PAGE)
                elif kind == "stream":
                    self._start(f"multipart/x-mixed-replace; boundary={_BOUNDARY.decode()}")
                    self._stream()
                else:
                    self.send_error(int(kind))

            def _start(self, kind: str) -> None:
                self.send_response(200)
                self.send_header("Content-Type", kind)
                for name, value in _HEADERS.items():
                    self.send_header(name, value)
                self.end_headers()

            def _stream(self) -> None:
                seen = 0
                while (found := server._next(seen)) is not None:
                    seen, picture = found
                    try:
                        self.wfile.write(_part(picture))
                    except OSError:  # nobody watches any more
                        return

            def log_message(self, *_: object) -> None:
                """Keep the terminal free for the frame rate."""

        return Handler


class _Server(ThreadingHTTPServer):
    """A server of a few clients at a time."""

    daemon_threads = True

    def __init__(self, *arguments: Any) -> None:
        self._free = threading.BoundedSemaphore(CLIENTS_MAX)
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
            return
        request.setblocking(False)  # the others are not to wait for one that does not listen
        with contextlib.suppress(OSError):
            request.send(_BUSY)
        self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, *_: object) -> None:
        """Say nothing of clients that go in the middle of a request."""


def _is_address_of_ours(given: str | None, host: str) -> bool:
    """Return whether a ``Host`` header names this machine.

    A page of another site can give its own name our address, and its scripts may then read what we
    answer (DNS rebinding). They cannot do that with an address of numbers.
    """
    name = (given or "").partition(":")[0].lower()
    ours = socket.gethostname().lower()
    if name in {host.lower(), "localhost", ours, f"{ours}.local"}:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _part(picture: RgbImage) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=_QUALITY)
    head = b"--%s\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"
    return head % (_BOUNDARY, stream.tell()) + stream.getvalue() + b"\r\n"
