"""Servers of videos on this machine: files over HTTP, and bytes over TCP that stop and go on."""

from __future__ import annotations

import http.server
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

Answer = Callable[["Request"], None]


@dataclass
class WebServer:
    """Serves the files of a folder, also in parts, and other answers by their path.

    Attributes:
        url: without a slash at its end.
        answers: functions by path, such as ``/camera``.
        ranges: what parts were asked for.
    """

    url: str
    answers: dict[str, Answer] = field(default_factory=dict)
    ranges: list[str] = field(default_factory=list)


class Request(http.server.BaseHTTPRequestHandler):
    """One request of a :class:`WebServer`."""

    folder: Path
    web: WebServer

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        answer = self.web.answers.get(path)
        if answer is not None:
            answer(self)
            return
        file = self.folder / path[1:]
        if not file.is_file():
            self.send_error(404)
            return
        self.send_file(file.read_bytes())

    def send_file(self, data: bytes) -> None:
        """Send the part of ``data`` that is asked for."""
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        begin = int(wanted[1]) if wanted else 0
        end = int(wanted[2]) + 1 if wanted and wanted[2] else len(data)
        self.send_response(206 if wanted else 200)
        if wanted:
            self.web.ranges.append(wanted[0])
            self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{len(data)}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(end - begin))
        self.end_headers()
        self.wfile.write(data[begin:end])

    def send(self, data: bytes, *, status: int = 200, length: int | None = None, **headers: str):
        """Send ``data``; with a ``length`` that may be another one, or with none."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if length is None:
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None: ...


@contextmanager
def serve_web(folder: Path, certificate: Path | None = None) -> Iterator[WebServer]:
    """Serve ``folder`` while the block runs, over TLS if there is a file of certificate and key."""
    handler = type("Handler", (Request,), {"folder": folder})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        scheme = "http"
        if certificate is not None:
            scheme, context = "https", ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        handler.web = web = WebServer(f"{scheme}://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield web
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def serve_bytes(connections: Sequence[Sequence[bytes | threading.Event]]) -> Iterator[str]:
    """Serve bytes over TCP; yields the URL.

    Args:
        connections: for each connection what is sent until it is closed; an event is waited for.
            After the last one, nobody listens any more.
    """
    server = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        with server:
            for number, parts in enumerate(connections, start=1):
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                if number == len(connections):
                    server.close()
                with client:
                    for part in parts:
                        if isinstance(part, threading.Event):
                            part.wait(20)
                        else:
                            client.sendall(part)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield f"tcp://127.0.0.1:{server.getsockname()[1]}"
    finally:
        server.close()


@contextmanager
def silent_port() -> Iterator[int]:
    """Yield a port that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def closed_port() -> int:
    """Return a port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
