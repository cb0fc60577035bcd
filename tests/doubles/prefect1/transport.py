"""HTTP as the gateway speaks it, on 127.0.0.1 with keep-alive."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

from tests.doubles.connections import HttpServer
from tests.doubles.prefect1.execution import Answer
from tests.doubles.prefect1.faults import Fault, api_error_body
from tests.doubles.prefect1.recording import Request

BODY_LIMIT_BYTES = 5 * 1024 * 1024
HEALTH_PATH = "/.well-known/apollo/server-health"
BODY_MISSING = "POST body missing. Did you forget use body-parser middleware?"
UNAUTHENTICATED = {"errors": [{"message": "Unauthenticated", "extensions": {"code": "UNAUTHENTICATED"}}]}


class Gateway(Protocol):
    """What the transport hands requests to."""

    round_trip_seconds: float
    sleep: Callable[[float], None]

    def authorized(self, headers: Any) -> bool:
        """Whether these headers may ask anything."""

    def record(self, method: str, path: str, headers: Any, payload: dict[str, Any]) -> Request:
        """Remember one operation."""

    def fault_for(self, request: Request) -> Fault | None:
        """The fault that this operation meets."""

    def answer(self, request: Request, payload: dict[str, Any]) -> Answer:
        """Execute one operation."""


class _Refusal(Exception):
    """The request is answered before any GraphQL is read."""

    def __init__(self, status: int, text: str, content_type: str = "text/html; charset=utf-8") -> None:
        super().__init__(text)
        self.status, self.text, self.content_type = status, text, content_type


class _Exchange(BaseHTTPRequestHandler):
    """The requests of one connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    gateway: Gateway

    def do_POST(self) -> None:
        self._exchange(self._posted)

    def do_GET(self) -> None:
        if urlsplit(self.path).path == HEALTH_PATH:
            self._send(200, json.dumps({"status": "pass"}), "application/health+json")
        else:
            self._exchange(self._got)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is http.server's
        """Say nothing; requests are recorded instead."""

    def _exchange(self, read: Any) -> None:
        self.gateway.sleep(self.gateway.round_trip_seconds)
        try:
            payload = read()
            if not self.gateway.authorized(self.headers):
                self._send_json(401, UNAUTHENTICATED)
                return
            self._answer(payload)
        except _Refusal as refusal:
            self._send(refusal.status, refusal.text, refusal.content_type)

    def _posted(self) -> Any:
        length = int(self.headers.get("content-length") or 0)
        if length > BODY_LIMIT_BYTES:
            self.close_connection = True
            raise _Refusal(413, _page("PayloadTooLargeError: request entity too large"))
        body = self.rfile.read(length)
        if self.headers.get_content_type() != "application/json" or "content-type" not in self.headers:
            raise _Refusal(500, BODY_MISSING)
        try:
            payload = json.loads(body)
        except ValueError as error:
            raise _Refusal(400, _page(f"SyntaxError: {error}")) from None
        if not payload:
            raise _Refusal(500, BODY_MISSING)
        return payload

    def _got(self) -> Any:
        parameters = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        if "query" not in parameters:
            raise _Refusal(400, "GET query missing.")
        return parameters

    def _answer(self, payload: Any) -> None:
        operations = [_decoded(each) for each in (payload if isinstance(payload, list) else [payload])]
        requests = [self.gateway.record(self.command, self.path, self.headers, each) for each in operations]
        if self.command == "GET" and any(request.is_mutation for request in requests):
            raise _Refusal(405, "GET supports only query operation")
        fault = next((fault for fault in map(self.gateway.fault_for, requests) if fault), None)
        if fault and self._fails_before(fault, requests[0]):
            return
        answers = [self.gateway.answer(*each) for each in zip(requests, operations, strict=True)]
        if fault and fault.then == "cut_after":
            self._cut()
        elif isinstance(payload, list):
            self._send_json(200, [each.body for each in answers])
        else:
            self._send_json(answers[0].status, answers[0].body)

    def _fails_before(self, fault: Fault, request: Request) -> bool:
        if fault.then == "delay":
            self.gateway.sleep(fault.seconds)
        elif fault.then == "status":
            self._send(fault.status, fault.body, headers=dict(fault.headers))
        elif fault.then == "html":
            self._send(200, _page("Welcome"))
        elif fault.then == "api_error":
            self._send_json(200, api_error_body(request))
        elif fault.then == "cut_before":
            self._cut()
        return fault.then not in ("delay", "cut_after")

    def _cut(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _send_json(self, status: int, body: Any) -> None:
        self._send(status, json.dumps(body), "application/json; charset=utf-8")

    def _send(
        self, status: int, text: str, content_type: str = "text/html; charset=utf-8", headers: Any = None
    ) -> None:
        body = text.encode()
        self.send_response(status)
        for name, value in {"content-type": content_type, "content-length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def _decoded(payload: Any) -> dict[str, Any]:
    """The operation with its variables as an object, which clients also send as JSON text."""
    if not isinstance(payload, dict) or not isinstance(payload.get("query"), str) or not payload["query"]:
        raise _Refusal(400, "Must provide query string.")
    variables = payload.get("variables")
    if isinstance(variables, str):
        try:
            variables = json.loads(variables)
        except ValueError:
            raise _Refusal(400, "Variables are invalid JSON.") from None
    return {**payload, "variables": variables or {}}


def _page(text: str) -> str:
    return f"<!DOCTYPE html>\n<html><body><pre>{text}</pre></body></html>\n"


def serve(gateway: Gateway) -> HttpServer:
    """A server that hands its requests to `gateway`, until it is stopped."""
    return HttpServer(type("Exchange", (_Exchange,), {"gateway": gateway}))
