"""A server in a thread that breaks connections, changes files, lies and dawdles, as it is told."""

from __future__ import annotations

import hashlib
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Answer:
    """How one request is answered.

    ``cut``: bytes after which the connection ends. ``stall``: after these, or ``cut``, nothing
    comes. ``drip``: bytes per piece, with a pause after each. ``shift``: added to the start that
    Content-Range names. ``longer``: added to Content-Length. ``chunked``: pieces in place of a
    length. ``marked``: send an ETag.
    """

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    cut: int | None = None
    stall: bool = False
    drip: int | None = None
    ranges: bool = True
    shift: int = 0
    longer: int | None = 0
    chunked: bool = False
    marked: bool = True


class Server(ThreadingHTTPServer):
    """Answers from ``plan`` first, one per request, then with ``usual``."""

    daemon_threads = True

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_side=True)
        self.scheme = "https" if tls else "http"
        self.files: dict[str, bytes] = {}
        self.plan: list[Answer] = []
        self.usual = Answer()
        self.asked: list[tuple[str, str | None, str | None]] = []
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # clients of these tests go away


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        answer = self.server.plan.pop(0) if self.server.plan else self.server.usual
        asked = self.headers.get("Range")
        condition = self.headers.get("If-Range")
        self.server.asked.append((self.path, asked, condition))
        body = self.server.files.get(self.path) if answer.body is None else answer.body
        if answer.status is not None or body is None:
            self.send_response(answer.status or 404)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()
            return
        tag = f'"{hashlib.md5(body).hexdigest()}"'
        start = 0
        if asked and answer.ranges and condition in (None, tag):
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(body):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(body)}")
                self.end_headers()
                return
            self.send_response(206)
            said = f"bytes {start + answer.shift}-{len(body) - 1}/{len(body)}"
            self.send_header("Content-Range", said)
        else:
            self.send_response(200)
        if answer.marked:
            self.send_header("ETag", tag)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        elif answer.longer is not None:
            self.send_header("Content-Length", str(len(body) - start + answer.longer))
        self.end_headers()
        self._send(body[start:], answer)

    def _send(self, body: bytes, answer: Answer) -> None:
        if answer.chunked:
            self.wfile.write(b"%x\r\n" % len(body))
        piece = answer.drip or len(body) or 1
        end = len(body) if answer.cut is None else answer.cut
        for start in range(0, end, piece):
            self.wfile.write(body[start : min(start + piece, end)])
            self.wfile.flush()
            if answer.drip:
                self.server.closing.wait(0.02)
        if answer.stall:
            self.server.closing.wait(60)
        elif answer.chunked and answer.cut is None:
            self.wfile.write(b"\r\n0\r\n\r\n")

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def serving(tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    """A server of this machine that runs inside the block; a chunked body needs HTTP/1.1."""
    with Server(tls) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()
            thread.join()
