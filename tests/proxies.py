"""Proxies between a client and a server: they write down what is asked, and break requests as networks do.

What is behind them is real; nothing is answered in its place but what servers answer when they are busy.
"""

from __future__ import annotations

import http.client
import http.server
import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

Break = Literal["refused", "cut", "lost answer", "429", "503", ""]
BREAKS: tuple[Break, ...] = ("refused", "503", "lost answer", "cut", "429")


@dataclass(frozen=True)
class Asked:
    """A request as it came, and how it was broken, if it was."""

    method: str
    path: str
    headers: dict[str, str]
    bytes: int
    broken: Break


class Proxy(http.server.ThreadingHTTPServer):
    """Forwards to `target`; `breaks` says of each request how to break it."""

    daemon_threads = True

    def __init__(self, target: str, breaks: Callable[[Asked], Break] = lambda asked: "") -> None:
        super().__init__(("127.0.0.1", 0), _Forward)
        self.target, self.breaks = target, breaks
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.asked: list[Asked] = []
        self.bodies: list[bytes] = []
        self.lock = threading.Lock()

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a client that hangs up is what these tests are about."""


@contextmanager
def proxied(target: str, breaks: Callable[[Asked], Break] = lambda asked: "") -> Iterator[Proxy]:
    proxy = Proxy(target, breaks)
    threading.Thread(target=proxy.serve_forever, args=(0.05,), daemon=True).start()
    yield proxy
    proxy.shutdown()
    proxy.server_close()


@dataclass
class EveryThird:
    """Breaks every third request, in all ways by turns; several proxies may share one."""

    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    ways: Iterator[Break] = field(default_factory=lambda: itertools.cycle(BREAKS))
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, asked: Asked) -> Break:
        with self.lock:
            return next(self.ways) if next(self.numbers) % 3 == 0 else ""


class _Forward(http.server.BaseHTTPRequestHandler):
    server: Proxy
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def forward(self) -> None:
        body = self._body()
        asked = Asked(self.command, self.path, dict(self.headers.items()), len(body), "")
        with self.server.lock:
            how = self.server.breaks(asked)
            self.server.bodies.append(body)
            self.server.asked.append(Asked(asked.method, asked.path, asked.headers, asked.bytes, how))
        if how == "refused":
            self.close_connection = True
            return
        if how in ("429", "503"):
            self._answer(int(how), [], b'{"error": {"code": %s, "message": "busy"}}' % how.encode())
            return
        sent = body[: len(body) // 2] if how == "cut" else body
        target = urlsplit(self.server.target)
        connection = http.client.HTTPConnection(target.hostname or "", target.port, timeout=60)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            connection.putheader("Host", target.netloc)
            for name, value in self.headers.items():
                if name.lower() not in ("host", "transfer-encoding", "connection", "content-length"):
                    connection.putheader(name, value)
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(sent)
            if how == "cut":
                self.close_connection = True
                return
            answer = connection.getresponse()
            data = answer.read()
        finally:
            connection.close()
        if how == "lost answer":
            self.close_connection = True
            return
        self._answer(answer.status, answer.getheaders(), data)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = forward  # noqa: N815

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _answer(self, status: int, headers: list[tuple[str, str]], data: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                # The address of a resumable upload: it must come this way too.
                self.send_header(name, value.replace(self.server.target, self.server.url))
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        pass
