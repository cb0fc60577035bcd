"""A proxy before a real server, which counts what is asked and spoils answers."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler

import requests

from tests.doubles.connections import HttpServer
from tests.doubles.fault_queue import FaultQueue

MEETING_PATIENCE_SECONDS = 5.0


@dataclass
class Fault:
    """What happens to the next `times` requests whose method and path contain `mark`.

    With a `status` this is answered and nothing is forwarded; without one the request is forwarded, and the connection
    cut before the reply.
    """

    mark: str
    status: int | None = None
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b'{"exception_message": "Service Unavailable"}'
    times: int | None = 1


class Meeting:
    """Requests of which each waits until all are there: one for each of `marks`, in its method and path."""

    def __init__(self, *marks: str) -> None:
        self.marks = marks
        self._barrier = threading.Barrier(len(marks))

    def attend(self, asked: str) -> None:
        """Wait for the others, if this is one of them."""
        if any(mark in asked for mark in self.marks):
            with suppress(threading.BrokenBarrierError):
                self._barrier.wait(MEETING_PATIENCE_SECONDS)

    @property
    def has_failed(self) -> bool:
        """Whether somebody has waited for the others in vain."""
        return self._barrier.broken


class Proxy(HttpServer):
    """Forwards to `upstream`, the address of a server's API; `url` ends in `/api` too."""

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream.removesuffix("/api")
        self.faults: FaultQueue[Fault] = FaultQueue()
        self.requests: list[str] = []
        self.meeting: Meeting | None = None
        self.lock = threading.Lock()
        super().__init__(_Exchange)

    @property
    def url(self) -> str:
        return f"{super().url}/api"

    def asked(self, mark: str) -> int:
        """How many requests had this in their method and path."""
        return sum(mark in each for each in self.requests)


class _Exchange(BaseHTTPRequestHandler):
    server: Proxy
    protocol_version = "HTTP/1.1"

    def _forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        asked = f"{self.command} {self.path}"
        with self.server.lock:
            self.server.requests.append(asked)
        if self.server.meeting:
            self.server.meeting.attend(asked)
        fault = self.server.faults.first(lambda each: each.mark in asked)
        if fault and fault.status:
            self._answer(fault.status, fault.body, dict(fault.headers))
            return
        passed = {name: value for name, value in self.headers.items() if name.lower() not in ("host", "connection")}
        answer = requests.request(self.command, self.server.upstream + self.path, data=body, headers=passed, timeout=30)
        if fault:
            self.close_connection = True
            self.connection.close()
            return
        self._answer(answer.status_code, answer.content, {"Content-Type": answer.headers.get("Content-Type", "")})

    do_GET = do_POST = do_PATCH = _forward  # noqa: N815

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if status != 204:
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""
