"""HTTP on 127.0.0.1, as the Docker SDK speaks it to a daemon at a TCP address."""

from __future__ import annotations

import json
import socket
from http.server import BaseHTTPRequestHandler
from typing import Any, NamedTuple, Protocol
from urllib.parse import parse_qsl, urlsplit

from tests.doubles.connections import HttpServer


class CutConnection(Exception):
    """The client gets no answer."""


class Answer(NamedTuple):
    """Status and body: JSON, bytes as they are, or a list of JSON lines where `is_stream`."""

    status: int
    body: Any = b""
    is_stream: bool = False


class Service(Protocol):
    """What the transport hands requests to."""

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> Answer:
        """Answer one request. Raises CutConnection."""


class _Exchange(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    service: Service

    def do_GET(self) -> None:
        self._exchange()

    def do_POST(self) -> None:
        self._exchange()

    def do_DELETE(self) -> None:
        self._exchange()

    def _exchange(self) -> None:
        content = self.rfile.read(int(self.headers.get("content-length") or 0))
        parts = urlsplit(self.path)
        try:
            body = json.loads(content) if content else None
            answer = self.service.answer(self.command, parts.path, dict(parse_qsl(parts.query)), body)
        except CutConnection:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self._send(answer)

    def _send(self, answer: Answer) -> None:
        is_text = isinstance(answer.body, bytes)
        self.send_response(answer.status)
        self.send_header("Content-Type", "text/plain" if is_text else "application/json")
        if answer.is_stream:
            self.send_header("Transfer-Encoding", "chunked")
            lines = [json.dumps(line).encode() + b"\r\n" for line in answer.body]
            content = b"".join(b"%x\r\n%b\r\n" % (len(line), line) for line in [*lines, b""])
        else:
            content = answer.body if is_text else json.dumps(answer.body).encode()
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is http.server's
        """Say nothing; calls are recorded instead."""


def serve(service: Service) -> HttpServer:
    """A server that hands its requests to `service`, until it is stopped."""
    return HttpServer(type("Exchange", (_Exchange,), {"service": service}))
