"""A planted key is in nothing that any function writes, returns or raises, whatever the API makes of it.

The API here is the worst that could stand behind an address: it answers with what it was sent, headers and all.
"""

from __future__ import annotations

import base64
import json
import traceback
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import boto3
import pytest

from tests.doubles.connections import HttpServer
from tests.doubles.ecs import EcsServer
from tests.integration.lambdas import Lambdas

KEY = "pnu_0PlantedKey0NobodyMaySee0This"
AUTH_STRING = "planted-user:planted-word-0NobodyMaySee0"
POOLS = "AGENT_WORK_POOLS"
SIGN_INS = {
    "Prefect 1, key": {"PREFECT__CLOUD__API_KEY": KEY},
    "Prefect 1, token": {"PREFECT__CLOUD__AGENT__AUTH_TOKEN": KEY},
    "Prefect 3, key": {POOLS: "pool", "PREFECT_API_KEY": KEY},
    "Prefect 3, auth string": {POOLS: "pool", "PREFECT_API_AUTH_STRING": AUTH_STRING},
}
FORMS = (KEY, AUTH_STRING, AUTH_STRING.partition(":")[2], base64.b64encode(AUTH_STRING.encode()).decode())
EVENT = {
    "source": "aws.ecs",
    "detail-type": "ECS Task State Change",
    "detail": {
        "taskArn": "arn:aws:ecs:us-east-1:123456789012:task/flows/0123456789abcdef",
        "clusterArn": "arn:aws:ecs:us-east-1:123456789012:cluster/flows",
        "lastStatus": "STOPPED",
        "startedBy": "prefect/00000000-0000-4000-8000-000000000000",
    },
}


class Echo(BaseHTTPRequestHandler):
    """Answers every request with its own headers, in the words of both generations' errors, or as a page."""

    protocol_version = "HTTP/1.1"
    status = 200
    is_page = False
    asked: list[str]

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        said = self.headers.get("authorization", "nothing")
        self.asked.append(said)
        text = f"<html>you said {said}</html>" if self.is_page else json.dumps(self.document(said))
        self.send_response(self.status)
        self.send_header("content-type", "text/html" if self.is_page else "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def document(self, said: str) -> dict[str, Any]:
        error = {"message": f"you said {said}", "path": [said], "extensions": {"code": said}}
        return {"errors": [error], "detail": f"you said {said}", "exception_message": said, "exception_detail": [said]}

    do_GET = do_POST = do_PATCH = do_DELETE = answer  # noqa: N815 (the names are http.server's)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is http.server's
        """Say nothing."""


Serve = Callable[[int, bool], type[Echo]]


@pytest.fixture
def serve(environment: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Lets an echo with this status, as a page or as JSON, stand where Prefect would."""
    servers: list[HttpServer] = []

    def begin(status: int, is_page: bool) -> type[Echo]:
        kind: type[Echo] = type("Echoed", (Echo,), {"status": status, "is_page": is_page, "asked": []})
        servers.append(HttpServer(kind))
        monkeypatch.setenv("PREFECT__CLOUD__API", servers[-1].url)
        monkeypatch.setenv("PREFECT_API_URL", f"{servers[-1].url}/api")
        return kind

    yield begin
    for server in servers:
        server.stop()


@pytest.fixture
def queue(environment: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    sqs = boto3.client("sqs")
    url = sqs.create_queue(QueueName="prefect-agent-secrets-wakeups")["QueueUrl"]
    monkeypatch.setenv("AGENT_WAKEUP_QUEUE_URL", url)
    yield
    sqs.delete_queue(QueueUrl=url)
    sqs.close()


def sign(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    """Put these into the functions' environment; labels and the API's other address are of Prefect 1 alone."""
    of_prefect1 = ("PREFECT__CLOUD__AGENT__LABELS", "PREFECT__CLOUD__API")
    for name in of_prefect1 if POOLS in variables else ("PREFECT_API_URL",):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def outputs(lambdas: Lambdas) -> dict[str, str]:
    """What each function of the app returns, or all that a crash report of it would show."""
    calls: dict[str, Callable[[], Any]] = {
        "tick": lambdas.tick,
        "wake": lambda: lambdas.wake("{}"),
        "task_stopped": lambda: lambdas.task_stopped(json.dumps(EVENT)),
        "health": lambda: lambdas.get("/api/health"),
        "details": lambda: lambdas.get("/api/health/details"),
        "poke": lambda: lambdas.post("/api/poke"),
    }
    return {name: told_by(call) for name, call in calls.items()}


def told_by(call: Callable[[], Any]) -> str:
    try:
        return json.dumps(call())
    except Exception as error:
        return "".join(traceback.format_exception(error)) + repr(error)


def shown(text: str) -> list[str]:
    return [form for form in FORMS if form in text]


@pytest.mark.parametrize("sign_in", SIGN_INS)
@pytest.mark.parametrize(("status", "is_page"), [(200, False), (200, True), (400, False), (401, False), (404, True)])
def test_an_api_that_echoes_the_key_makes_no_function_tell_it(
    serve: Serve,
    queue: None,
    lambdas: Lambdas,
    ecs: EcsServer,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    sign_in: str,
    status: int,
    is_page: bool,
) -> None:
    sign(monkeypatch, {**SIGN_INS[sign_in], "PREFECT__CLOUD__AGENT__LEVEL": "DEBUG"})
    echo = serve(status, is_page)
    told = outputs(lambdas)
    log = "".join(capfd.readouterr())
    assert any(shown(said) for said in echo.asked), "it was sent, so there was something to tell"
    assert {name: shown(text) for name, text in told.items() if shown(text)} == {}
    assert shown(log) == []
    assert "Traceback" in told["tick"], "the scheduled tick could do nothing, and says so"


@pytest.mark.parametrize("sign_in", SIGN_INS)
def test_an_api_that_cannot_be_reached_makes_no_function_tell_the_key(
    queue: None, lambdas: Lambdas, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], sign_in: str
) -> None:
    sign(monkeypatch, SIGN_INS[sign_in])
    monkeypatch.setenv("PREFECT__CLOUD__API", "http://127.0.0.1:9")
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    told = outputs(lambdas)
    assert shown("".join(capfd.readouterr()) + "".join(told.values())) == []
    assert "127.0.0.1:9" in told["tick"]


@pytest.mark.parametrize("sign_in", SIGN_INS)
def test_a_key_that_is_none_is_told_by_its_setting_and_not_by_its_value(
    queue: None, lambdas: Lambdas, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], sign_in: str
) -> None:
    given = SIGN_INS[sign_in]
    sign(monkeypatch, {name: value if name == POOLS else f"{value}\n{value}" for name, value in given.items()})
    told = outputs(lambdas)
    assert shown("".join(capfd.readouterr()) + "".join(told.values())) == []
    assert all(name in told["tick"] for name in given.keys() - {POOLS})
