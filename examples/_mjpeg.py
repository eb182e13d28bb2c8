"""A web page that shows the newest picture, for devices without a display."""

from __future__ import annotations

import io
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

from PIL import Image

from qsam2_deploy.errors import InputError
from qsam2_deploy.runtime.media.protocols import RgbImage

_PAGE = b'<!doctype html><title>qsam2-deploy</title><img src="/stream" style="max-width:100%">'
_BOUNDARY = b"frame"
_QUALITY = 80


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
        try:
            self._server = ThreadingHTTPServer((host, port), self._handler())
        except (OSError, OverflowError) as error:
            raise InputError(
                f"cannot serve pictures on {host}:{port}: {error}; choose another port"
            ) from error
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """Where the page is."""
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}/"

    def show(self, picture: RgbImage) -> bool:
        """Give ``picture`` to everybody who watches; returns that the loop is to go on."""
        with self._changed:
            self._newest = picture
            self._count += 1
            self._changed.notify_all()
        return True

    def __enter__(self) -> MjpegServer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/":
                    self._start("text/html")
                    self.wfile.write(_PAGE)
                elif self.path == "/stream":
                    self._start(f"multipart/x-mixed-replace; boundary={_BOUNDARY.decode()}")
                    self._stream()
                else:
                    self.send_error(404)

            def _start(self, kind: str) -> None:
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Cache-Control", "no-store")
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


def _part(picture: RgbImage) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=_QUALITY)
    head = b"--%s\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"
    return head % (_BOUNDARY, stream.tell()) + stream.getvalue() + b"\r\n"
