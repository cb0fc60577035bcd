"""moto as a process of its own, with what it lacks for a whole deployment: `python -m tests.deploy.aws_server`.

It prints its address when it serves, and ends when its standard input does.
"""

from __future__ import annotations

import io
import json
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import parse_qs

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

from tests.deploy import stack_changes, stack_resources

Environ = dict[str, Any]
Start = Callable[..., Any]


class Extended:
    """moto's application, behind it what it lacks, before it refusals that a test has asked for."""

    def __init__(self) -> None:
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._refusals: list[dict[str, Any]] = []

    def __call__(self, environ: Environ, start: Start) -> Iterable[bytes]:
        body = _read(environ)
        path, call = environ["PATH_INFO"], _name_of(environ, body)
        if path == "/test-support/refusals":
            self._refusals = json.loads(body)
            return _answer(start, {})
        for refusal in self._refusals:
            if refusal["call"] == call and refusal["times"] > 0:
                refusal["times"] -= 1
                return _refuse(environ, start, refusal["code"], call)
        if call == "DescribeQueryDefinitions":
            return _answer(start, {"queryDefinitions": list(stack_resources.QUERIES.values())})
        if call == "ListAccessEntries":
            return _answer(start, {"accessEntries": list(stack_resources.ENTRIES)})
        if path.startswith("/restapis") and body:
            _replace(environ, _modern(body))
        if call == "DeleteStack":
            stack_changes.release(body, _region_of(environ))
        return self._execute(environ, start, body) if call == "ExecuteChangeSet" else self._moto(environ, start)

    def _execute(self, environ: Environ, start: Start, body: bytes) -> Iterable[bytes]:
        told: list[Any] = []
        answer = b"".join(self._moto(environ, lambda *arguments: told.extend(arguments)))
        if stack_changes.complete(body, _region_of(environ), told[0], answer):
            start("200 OK", [("Content-Type", "text/xml")])
            return [b"<ExecuteChangeSetResponse><ExecuteChangeSetResult/></ExecuteChangeSetResponse>"]
        start(*told)
        return [answer]


def serve() -> None:
    """Serve on a free port of this machine until standard input ends."""
    server = make_server("127.0.0.1", 0, Extended(), True, request_handler=MotoRequestHandler)
    stack_resources.URL.append(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    print(stack_resources.URL[0], flush=True)
    sys.stdin.read()
    server.shutdown()
    thread.join()
    server.server_close()


def _read(environ: Environ) -> bytes:
    body: bytes = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    environ["wsgi.input"] = io.BytesIO(body)
    return body


def _replace(environ: Environ, body: bytes) -> None:
    environ["wsgi.input"], environ["CONTENT_LENGTH"] = io.BytesIO(body), str(len(body))


def _name_of(environ: Environ, body: bytes) -> str:
    """The call as boto3 names it, where the request shows it; else method and path."""
    if target := environ.get("HTTP_X_AMZ_TARGET"):
        return str(target.rpartition(".")[2])
    if form := parse_qs(body.decode(errors="replace")).get("Action"):
        return form[0]
    path = environ["PATH_INFO"]
    if path.endswith("/access-entries") and environ["REQUEST_METHOD"] == "GET":
        return "ListAccessEntries"
    return f"{environ['REQUEST_METHOD']} {path.rstrip('/')}"


def _region_of(environ: Environ) -> str:
    """The region that the request is signed for."""
    return str(environ["HTTP_AUTHORIZATION"].split("/")[2])


def _modern(body: bytes) -> bytes:
    """A Swagger 2.0 document, which moto does not take, as OpenAPI 3.0.1; anything else as it is."""
    try:
        document = json.loads(body)
    except ValueError:
        return body
    if not isinstance(document, dict) or document.get("swagger") != "2.0":
        return body
    del document["swagger"]
    schemes = document.pop("securityDefinitions", {})
    document["components"] = {"schemas": document.pop("definitions", {}), "securitySchemes": schemes}
    document["openapi"] = "3.0.1"
    document["info"].setdefault("description", document["info"]["title"])
    for operations in document["paths"].values():
        for operation in operations.values():
            for word in ("consumes", "produces"):
                operation.pop(word, None)
            operation["responses"] = {
                code: {"description": code, **{key: value for key, value in told.items() if key != "schema"}}
                for code, told in operation.get("responses", {}).items()
            }
    return json.dumps(document).encode()


def _answer(start: Start, document: Mapping[str, Any]) -> list[bytes]:
    start("200 OK", [("Content-Type", "application/x-amz-json-1.1")])
    return [json.dumps(document).encode()]


def _refuse(environ: Environ, start: Start, code: str, call: str) -> list[bytes]:
    message = f"User: arn:aws:iam::123456789012:user/deployer is not authorized to perform: {call}"
    if "HTTP_X_AMZ_TARGET" in environ or environ["PATH_INFO"] != "/":
        start("400 Bad Request", [("Content-Type", "application/x-amz-json-1.1"), ("x-amzn-ErrorType", code)])
        return [json.dumps({"__type": code, "message": message}).encode()]
    start("403 Forbidden", [("Content-Type", "text/xml")])
    error = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>"
    return [f"<ErrorResponse>{error}<RequestId>1</RequestId></ErrorResponse>".encode()]


if __name__ == "__main__":
    serve()
