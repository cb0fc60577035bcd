"""HTTP on 127.0.0.1 with keep-alive, for AWS's JSON protocol."""

from __future__ import annotations

import json
import socket
import sys
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol

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


class HttpServer(ThreadingHTTPServer):
    """Serves a service until `stop`, which also ends the connections that clients keep open."""

    daemon_threads = False
    block_on_close = True

    def __init__(self, service: Service) -> None:
        super().__init__(("127.0.0.1", 0), type("Exchange", (_Exchange,), {"service": service}))
        self._connections: set[socket.socket] = set()
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Serve one connection, known while it lasts."""
        self._connections.add(request)
        try:
            super().finish_request(request, client_address)
        finally:
            self._connections.discard(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error; anything else is."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    def stop(self) -> None:
        """End all threads and connections."""
        self.shutdown()
        self._thread.join()
        for connection in list(self._connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
        self.server_close()
