"""The zip of a deployed stage, run as Lambda runs it, with Prefect 1 and ECS behind it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.account import AwsAccount, Clone
from tests.deploy.conftest import MakeClone
from tests.deploy.lambda_runtime import Container, runtime_directory, unpack
from tests.doubles.ecs import EcsServer
from tests.doubles.prefect1 import Prefect1Server
from tests.doubles.prefect1.server import CLOUD_KEY

ECS_RUN = {"type": "ECSRun", "image": "flows:1", "cpu": "512", "memory": "1024"}
ROUTES = {"health": ("GET", "/api/health"), "details": ("GET", "/api/health/details"), "poke": ("POST", "/api/poke")}
SCHEDULED = {
    "version": "0", "account": "123456789012", "region": "us-east-1", "detail": {}, "detail-type": "Scheduled Event",
    "source": "aws.events", "time": "2026-01-01T00:00:00Z", "id": "1", "resources": ["arn:aws:events:rule/tick"],
}  # fmt: skip


class Zipped:
    """A deployed stage whose functions run here, one container each, that a test may replace by a new one."""

    def __init__(
        self, account: AwsAccount, clone: Clone, prefect: Prefect1Server, ecs: EcsServer, directory: Path
    ) -> None:
        self.account, self.prefect, self.ecs, self.directory = account, prefect, ecs, directory
        outcome = clone.run(
            "up", "--stage", "zip", "--architecture", "x86_64", "--set", f"PREFECT__CLOUD__API={prefect.url}",
            "--set", "AGENT_STRAYS=ignore", "--parameter", "CreateApiKeySecret=yes",
        )  # fmt: skip
        assert outcome.code == 0, outcome.err
        self.deployed = outcome.out
        self.task = unpack(clone.package("zip"), directory / "task")
        (directory / "runtime").mkdir()
        self.runtime = runtime_directory(directory / "runtime")

    def container(self, function: str, **changes: str) -> Container:
        """A new container of a function, with the environment that it was deployed with."""
        name = "prefect-agent-zip" + ("" if function == "app" else f"-{function}")
        found = self.account.client("lambda").get_function_configuration(FunctionName=name)
        own = {"AWS_REGION": "us-east-1", **self.account.environment, "AWS_ENDPOINT_URL_ECS": self.ecs.url}
        environment = {**found["Environment"]["Variables"], **own, **changes}
        return Container(self.task, self.runtime, found["Handler"], environment, self.directory / f"{function}.log")

    def store_key(self) -> None:
        """Put the API key into the secret that was made empty."""
        (secret,) = self.account.list("secretsmanager", "list_secrets", "SecretList")
        self.account.client("secretsmanager").put_secret_value(SecretId=secret["ARN"], SecretString=CLOUD_KEY)

    def state(self, run_id: str) -> str:
        return str(self.prefect.flow_run(run_id)["state"])


@pytest.fixture(scope="module")
def prefect() -> Iterator[Prefect1Server]:
    with Prefect1Server(cloud=True) as server:
        yield server


@pytest.fixture(scope="module")
def ecs() -> Iterator[EcsServer]:
    with EcsServer(clusters=("prefect-agent-zip",)) as server:
        yield server


@pytest.fixture(scope="module")
def zipped(
    account: AwsAccount,
    make_clone: MakeClone,
    prefect: Prefect1Server,
    ecs: EcsServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Zipped]:
    clone = make_clone()
    yield Zipped(account, clone, prefect, ecs, tmp_path_factory.mktemp("lambda"))
    clone.run("down", "--stage", "zip", "--yes")


@pytest.fixture
def ready(zipped: Zipped) -> Zipped:
    """The stage with its API key stored; tests of the empty secret come before."""
    zipped.store_key()
    return zipped


def messages(*bodies: str) -> dict[str, Any]:
    source = {"eventSource": "aws:sqs", "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:queue"}
    rows = enumerate(bodies)
    return {"Records": [{**source, "messageId": str(i), "receiptHandle": str(i), "body": body} for i, body in rows]}


def request(route: str) -> dict[str, Any]:
    """What the API Gateway sends to the function."""
    method, path = ROUTES[route]
    return {
        "resource": path, "path": path, "httpMethod": method, "headers": {}, "multiValueHeaders": {},
        "queryStringParameters": None, "multiValueQueryStringParameters": None, "pathParameters": None,
        "stageVariables": None, "body": None, "isBase64Encoded": False,
        "requestContext": {"resourcePath": path, "httpMethod": method, "path": path, "identity": {}, "stage": "zip"},
    }  # fmt: skip


def test_an_empty_secret_stops_the_tick_before_any_claim(zipped: Zipped) -> None:
    run_id = zipped.prefect.add_flow_run(run_config=ECS_RUN)
    with zipped.container("tick") as tick:
        ended = tick.invoke(SCHEDULED)
    assert ended.kind == "error"
    assert "API key is named as arn:aws:secretsmanager" in ended.payload["errorMessage"]
    assert zipped.state(run_id) == "Scheduled"


def test_the_scheduled_tick_submits_a_due_flow_run(ready: Zipped) -> None:
    run_id = ready.prefect.add_flow_run(run_config=ECS_RUN)
    with ready.container("tick") as tick:
        ended = tick.invoke(SCHEDULED)
    assert ended.kind == "response", ended.payload
    assert ended.payload["errors"] == []
    assert ready.state(run_id) == "Submitted"
    assert f"prefect/{run_id}" in [task["startedBy"] for task in ready.ecs.tasks()]


def test_it_has_planned_the_wake_ups_and_each_of_them_is_a_tick(ready: Zipped) -> None:
    sqs = ready.account.client("sqs")
    url = sqs.get_queue_url(QueueName="prefect-agent-zip-wakeups")["QueueUrl"]
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert int(attributes["ApproximateNumberOfMessagesDelayed"]) >= 5
    run_id = ready.prefect.add_flow_run(run_config=ECS_RUN)
    with ready.container("wake") as wake:
        ended = wake.invoke(messages("{}", "{}"))
        assert ended.kind == "response", ended.payload
        again = wake.invoke(messages("{}"))
    assert (ended.kind, ended.payload["launched"]) == ("response", 1)
    assert (again.kind, again.payload["launched"]) == ("response", 0)
    assert ready.state(run_id) == "Submitted"


def test_what_ecs_says_of_a_stopped_task_fails_its_flow_run(ready: Zipped) -> None:
    run_id = ready.prefect.add_flow_run(run_config=ECS_RUN)
    with ready.container("wake") as wake:
        wake.invoke(messages("{}"))
    (arn,) = [task["taskArn"] for task in ready.ecs.tasks() if task["startedBy"] == f"prefect/{run_id}"]
    ready.ecs.advance(arn, "RUNNING")
    ready.prefect.set_state(run_id, {"type": "Running"})
    ready.ecs.stop(arn, exit_code=1)
    events = [json.dumps(event) for event in ready.ecs.events if event["detail"]["lastStatus"] == "STOPPED"]
    with ready.container("task_stopped") as stopped:
        ended = stopped.invoke(messages(*events))
    assert ended.payload["stopped"] == {"failed": 1}
    assert ready.state(run_id) == "Failed"


def test_health_tells_strangers_one_word_and_the_signed_in_the_reason(ready: Zipped) -> None:
    with ready.container("app") as api:
        health = api.invoke(request("health")).payload
        details = api.invoke(request("details")).payload
    assert (health["statusCode"], json.loads(health["body"])) == (200, {"status": "ok"})
    assert json.loads(details["body"]).keys() == {"status", "reason"}


def test_poke_asks_for_a_tick_through_the_queue(ready: Zipped) -> None:
    with ready.container("app") as api:
        poked = api.invoke(request("poke")).payload
    assert (poked["statusCode"], json.loads(poked["body"])) == (202, {"status": "poked"})
    sqs = ready.account.client("sqs")
    url = sqs.get_queue_url(QueueName="prefect-agent-zip-wakeups")["QueueUrl"]
    bodies = [each["Body"] for each in sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]]
    with ready.container("wake") as wake:
        assert wake.invoke(messages(*bodies)).payload["errors"] == []


def test_a_function_that_times_out_after_the_claim_loses_nothing(ready: Zipped) -> None:
    """Killed while ECS does not answer: the run stays claimed, for the recovery of a later tick."""
    run_id = ready.prefect.add_flow_run(run_config=ECS_RUN)
    ready.ecs.faults.add(when="RunTask", then="delay", seconds=2.0)
    ready.ecs.forget_calls()
    with ready.container("wake") as wake:
        ended = wake.invoke(messages("{}"), times_out_when=lambda: ready.ecs.count("RunTask") > 0)
    assert ended.kind == "timed out"
    assert ready.state(run_id) == "Submitted"
    tasks = [task for task in ready.ecs.tasks() if task["startedBy"] == f"prefect/{run_id}"]
    assert len(tasks) <= 1
    with ready.container("wake") as wake:
        assert wake.invoke(messages("{}")).payload["claimed"] == 0


def test_wrong_settings_raise_in_the_tick_with_their_names(ready: Zipped) -> None:
    with ready.container("tick", AGENT_CADENCE_SECONDS="often") as tick:
        ended = tick.invoke(SCHEDULED)
    assert (ended.kind, ended.payload["errorType"]) == ("error", "SettingsError")
    assert "AGENT_CADENCE_SECONDS" in ended.payload["errorMessage"]


def test_a_zip_without_the_chalice_runtime_is_an_error_of_the_beginning(ready: Zipped, tmp_path: Path) -> None:
    (ready.task / "chalice").rename(tmp_path / "chalice")
    try:
        with ready.container("tick") as broken:
            ended = broken.invoke(SCHEDULED)
    finally:
        (tmp_path / "chalice").rename(ready.task / "chalice")
    assert ended.kind == "init error"
    assert "chalice" in ended.payload["errorMessage"]


def test_no_output_of_any_function_shows_the_key(ready: Zipped) -> None:
    logs = [path.read_text() for path in ready.directory.glob("*.log")]
    assert any('"message":"Tick"' in log for log in logs), "there is something to search"
    shown = json.dumps([logs, ready.deployed, ready.ecs.tasks(), ready.ecs.definitions()], default=str)
    assert CLOUD_KEY not in shown
    with ready.container("tick") as tick:
        assert CLOUD_KEY not in json.dumps(tick.invoke(SCHEDULED).payload)
