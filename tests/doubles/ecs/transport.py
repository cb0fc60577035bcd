"""HTTP on 127.0.0.1 with keep-alive, for AWS's JSON protocol."""

from __future__ import annotations

import json
import socket
import uuid
from http.server import BaseHTTPRequestHandler
from typing import Any, Protocol

from tests.doubles.connections import HttpServer
from tests.doubles.ecs.protocol import TARGET


class CutConnection(Exception):
    """The client gets no answer."""


class Service(Protocol):
    """What the transport hands requests to."""

    def answer(self, action: str, body: bytes) -> tuple[int, Any]:
        """Status and body (JSON, or text as it is) of one call. Raises CutConnection."""


class _Exchange(BaseHTTPRequestHandler):
    """The requests of one connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    service: Service

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        action = (self.headers.get("X-Amz-Target") or "").removeprefix(TARGET)
        try:
            status, answer = self.service.answer(action, body)
        except CutConnection:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self._send(status, answer if isinstance(answer, str) else json.dumps(answer))

    def _send(self, status: int, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("content-type", "application/x-amz-json-1.1")
        self.send_header("content-length", str(len(body)))
        self.send_header("x-amzn-requestid", str(uuid.uuid4()))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is http.server's
        """Say nothing; calls are recorded instead."""


def serve(service: Service) -> HttpServer:
    """A server that hands its requests to `service`, until it is stopped."""
    return HttpServer(type("Exchange", (_Exchange,), {"service": service}))
