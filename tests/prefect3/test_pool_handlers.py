"""The handlers of `app.py` for work pools, end to end: a due flow run in, a task out, and what follows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime

import boto3
import pytest
from moto.server import ThreadedMotoServer

from tests.doubles.ecs import EcsServer
from tests.integration.lambdas import Lambdas
from tests.prefect3.pool_world import AWS, CLUSTER, ecs_template, pid_of, tags_of
from tests.prefect3.proxy import Fault, Proxy
from tests.prefect3.server import Prefect3Server

pytestmark = pytest.mark.server

KEY = "pnu_very-secret-key"
ROLE = "arn:aws:iam::123456789012:role/execution"


@pytest.fixture(scope="module")
def moto_url() -> Iterator[str]:
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    yield f"http://{host}:{port}"
    moto.stop()


@pytest.fixture
def ecs() -> Iterator[EcsServer]:
    with EcsServer(clusters=(CLUSTER,)) as double:
        yield double


@pytest.fixture
def pool(server: Prefect3Server) -> str:
    return server.create_pool("ecs", ecs_template())


@pytest.fixture
def deployment(server: Prefect3Server, pool: str) -> str:
    return server.create_deployment(pool)


@pytest.fixture
def lambdas(
    proxy: Proxy, ecs: EcsServer, moto_url: str, pool: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Lambdas]:
    """The app as a fresh Lambda container would have it, with the key in Secrets Manager and a queue of wake-ups."""
    variables = {**AWS, "AWS_ENDPOINT_URL": moto_url, "AWS_ENDPOINT_URL_ECS": ecs.url}
    variables |= {"AGENT_WORK_POOLS": pool, "PREFECT_API_URL": proxy.url, "PREFECT__CLOUD__AGENT__NAME": "lambda"}
    variables |= {"AGENT_CLUSTER": CLUSTER, "AGENT_EXECUTION_ROLE_ARN": ROLE, "AGENT_STRAYS": "ignore"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    secrets, sqs = boto3.client("secretsmanager"), boto3.client("sqs")
    secret = secrets.create_secret(Name=f"key-of-{pool}", SecretString=KEY)["ARN"]
    queue = sqs.create_queue(QueueName=f"wakeups-of-{pool}")["QueueUrl"]
    monkeypatch.setenv("PREFECT_API_KEY", secret)
    monkeypatch.setenv("AGENT_WAKEUP_QUEUE_URL", queue)
    with Lambdas() as functions:
        yield functions
    for client in (secrets, sqs):
        client.close()


def launch(lambdas: Lambdas, server: Prefect3Server, ecs: EcsServer, deployment: str) -> tuple[str, str]:
    """A flow run that the scheduled tick launched, and its task."""
    run_id = server.create_run(deployment)
    assert lambdas.tick()["errors"] == []
    (task,) = [task for task in ecs.tasks() if task["startedBy"] == f"prefect/{run_id}"]
    return run_id, str(task["taskArn"])


def stop_events(ecs: EcsServer) -> list[str]:
    return [json.dumps(event) for event in ecs.events if event["detail"]["lastStatus"] == "STOPPED"]


def planned_now() -> str:
    return json.dumps({"planned_for": datetime.now(UTC).isoformat()})


def test_a_due_flow_run_becomes_a_task_by_the_scheduled_tick(
    lambdas: Lambdas, server: Prefect3Server, ecs: EcsServer, deployment: str
) -> None:
    run_id, arn = launch(lambdas, server, ecs, deployment)
    run = server.run(run_id)
    assert (run["state_type"], run["infrastructure_pid"]) == ("PENDING", pid_of(arn))
    assert tags_of(ecs.task(arn))["prefect-agent:launch-key"] == run["state_id"]
    assert server.logs(run_id) == [f"Submitted for execution: Task {pid_of(arn)}"]


def test_a_due_flow_run_becomes_a_task_by_a_wake_up_too(
    lambdas: Lambdas, server: Prefect3Server, ecs: EcsServer, deployment: str
) -> None:
    run_id = server.create_run(deployment)
    assert lambdas.wake(planned_now())["launched"] == 1
    assert server.run(run_id)["infrastructure_pid"] == pid_of(ecs.tasks()[0]["taskArn"])
    assert lambdas.wake(planned_now(), planned_now())["found"] == 0


def test_a_woken_tick_with_nothing_due_is_one_request_and_a_scheduled_one_five(lambdas: Lambdas, proxy: Proxy) -> None:
    lambdas.tick()
    lambdas.wake(planned_now())
    before = proxy.asked("")
    lambdas.wake(planned_now())
    assert proxy.asked("") - before == 1
    lambdas.tick()
    assert proxy.asked("") - before <= 1 + 5


def test_the_end_of_a_task_reaches_its_run_in_a_container_that_has_just_started(
    lambdas: Lambdas, server: Prefect3Server, ecs: EcsServer, deployment: str
) -> None:
    run_id, arn = launch(lambdas, server, ecs, deployment)
    ecs.stop(arn, exit_code=1)
    lambdas.freeze()
    assert lambdas.task_stopped(*stop_events(ecs)) == {"events": 1, "stopped": {"failed": 1}}
    assert "exit code 1" in server.state(run_id)["message"]
    assert server.state(run_id)["type"] == "CRASHED"


def test_what_is_no_event_does_not_spoil_the_others(
    lambdas: Lambdas, server: Prefect3Server, ecs: EcsServer, deployment: str
) -> None:
    run_id, arn = launch(lambdas, server, ecs, deployment)
    ecs.stop(arn, exit_code=1)
    answer = lambdas.task_stopped("no json", "[]", '{"detail": {}}', *stop_events(ecs))
    assert answer["stopped"] == {"failed": 1}
    assert server.state(run_id)["type"] == "CRASHED"


def test_an_agent_that_ticks_is_healthy_and_one_that_never_did_is_not(lambdas: Lambdas) -> None:
    assert lambdas.get("/api/health") == (503, {"status": "unhealthy"})
    lambdas.tick()
    lambdas.freeze()
    assert lambdas.get("/api/health") == (200, {"status": "ok"})
    status, details = lambdas.get("/api/health/details")
    assert (status, details["reason"][:6]) == (200, "Polled")


def test_an_agent_whose_own_settings_spoil_a_run_is_unhealthy_and_claims_no_more(
    lambdas: Lambdas, server: Prefect3Server, ecs: EcsServer, deployment: str
) -> None:
    lambdas.tick()
    ecs.forbidden.add("RegisterTaskDefinition")
    run_ids = [server.create_run(deployment) for _ in range(3)]
    report = lambdas.tick()
    states = [server.state(run_id) for run_id in run_ids]
    assert [state["name"] for state in states].count("AgentMisconfigured") == 1
    assert sum(state["type"] == "SCHEDULED" for state in states) == 2
    assert "RegisterTaskDefinition" in str(report["errors"])
    lambdas.freeze()
    status, details = lambdas.get("/api/health/details")
    assert (status, "RegisterTaskDefinition" in details["reason"]) == (503, True)


def test_prefect_that_is_away_fails_the_scheduled_tick_and_not_the_woken_one(lambdas: Lambdas, proxy: Proxy) -> None:
    lambdas.tick()
    proxy.faults.order(Fault("/api/", 503, headers=(("Retry-After", "0"),), times=None))
    with pytest.raises(Exception, match="503"):
        lambdas.tick()
    assert "503" in str(lambdas.wake(planned_now())["errors"])
    lambdas.freeze()
    assert lambdas.get("/api/health")[0] == 503
    proxy.faults.clear()
    assert lambdas.tick()["errors"] == []


def test_a_poke_asks_for_a_tick(lambdas: Lambdas) -> None:
    assert lambdas.post("/api/poke") == (202, {"status": "poked"})


def everything_said(ecs: EcsServer, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> str:
    printed = capfd.readouterr()
    calls = [(call.action, call.parameters) for call in ecs.calls]
    return f"{calls} {ecs.tasks()} {ecs.definitions()} {printed.out} {printed.err} {caplog.text}"


def test_a_key_in_secrets_manager_is_in_no_log_and_no_task_and_the_task_reads_it_itself(
    lambdas: Lambdas,
    server: Prefect3Server,
    ecs: EcsServer,
    deployment: str,
    proxy: Proxy,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    run_id, arn = launch(lambdas, server, ecs, deployment)
    proxy.faults.order(Fault("/api/", 401, body=b"{}", times=None))
    with pytest.raises(Exception, match="PREFECT_API_KEY") as raised:
        lambdas.tick()
    lambdas.freeze()
    _, details = lambdas.get("/api/health/details")
    said = everything_said(ecs, capfd, caplog) + f"{raised.value} {details} {server.logs(run_id)} {server.run(run_id)}"
    assert KEY not in said
    (container,) = ecs.definition(ecs.task(arn)["taskDefinitionArn"])["containerDefinitions"]
    assert [secret["name"] for secret in container["secrets"]] == ["PREFECT_API_KEY"]
    assert container["secrets"][0]["valueFrom"].startswith("arn:aws:secretsmanager:")


def test_an_auth_string_is_in_no_log_and_its_task_alone_is_told_it(
    lambdas: Lambdas,
    server: Prefect3Server,
    ecs: EcsServer,
    deployment: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.delenv("PREFECT_API_KEY")
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "admin:very-secret-word")
    run_id, arn = launch(lambdas, server, ecs, deployment)
    printed = capfd.readouterr()
    said = f"{printed.out} {printed.err} {caplog.text} {ecs.definitions()} {server.logs(run_id)} {server.run(run_id)}"
    assert "very-secret-word" not in said
    (overrides,) = ecs.task(arn)["overrides"]["containerOverrides"]
    told = {each["name"]: each["value"] for each in overrides["environment"]}
    assert told["PREFECT_API_AUTH_STRING"] == "admin:very-secret-word"
