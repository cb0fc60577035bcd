"""HTTPS on 127.0.0.1 with keep-alive."""

from __future__ import annotations

import json
import socket
import ssl
import sys
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler
from typing import Any, NamedTuple, Protocol

from tests.doubles.connections import HttpServer


class CutConnection(Exception):
    """The client gets no answer."""


class Answer(NamedTuple):
    """Status, body (JSON, or text as it is) and further headers."""

    status: int
    body: Any
    headers: Mapping[str, str]


class Service(Protocol):
    """What the transport hands requests to."""

    def answer(self, method: str, target: str, headers: Mapping[str, str], content: bytes) -> Answer:
        """Answer one request; headers are by their names in lower case. Raises CutConnection."""


class HttpsServer(HttpServer):
    """An HttpServer that speaks TLS."""

    def __init__(self, exchange: type[BaseHTTPRequestHandler], context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__(exchange)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"https://127.0.0.1:{self.server_address[1]}"

    def get_request(self) -> tuple[Any, Any]:
        """Accept a connection; its own thread shakes hands, so that a client that does not holds up nobody."""
        connection, address = super().get_request()
        return self._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), address

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that does not trust the server, or left before the handshake, is no error either."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Exchange(BaseHTTPRequestHandler):
    """The requests of one connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    service: Service

    def setup(self) -> None:
        self.request.do_handshake()
        super().setup()

    def do_GET(self) -> None:
        self._exchange()

    def do_POST(self) -> None:
        self._exchange()

    def do_PUT(self) -> None:
        self._exchange()

    def do_PATCH(self) -> None:
        self._exchange()

    def do_DELETE(self) -> None:
        self._exchange()

    def _exchange(self) -> None:
        content = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            answer = self.service.answer(self.command, self.path, headers, content)
        except CutConnection:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self._send(answer)

    def _send(self, answer: Answer) -> None:
        is_text = isinstance(answer.body, str)
        content = (answer.body if is_text else json.dumps(answer.body)).encode()
        self.send_response(answer.status)
        self.send_header("content-type", "text/plain; charset=utf-8" if is_text else "application/json")
        self.send_header("content-length", str(len(content)))
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is http.server's
        """Say nothing; calls are recorded instead."""


def serve(service: Service, context: ssl.SSLContext) -> HttpsServer:
    """A server that hands its requests to `service`, until it is stopped."""
    return HttpsServer(type("Exchange", (_Exchange,), {"service": service}), context)
