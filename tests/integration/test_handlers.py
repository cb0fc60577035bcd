"""The handlers of `app.py` end to end: a due flow run in, an ECS task and a Submitted state out."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import boto3
import pytest

from chalicelib.errors import PrefectUnreachable
from tests.doubles.ecs import EcsServer
from tests.doubles.prefect1 import Prefect1Server
from tests.integration.lambdas import Lambdas

ECS_RUN = {"type": "ECSRun", "image": "prefecthq/prefect:1.4.1", "cpu": "512", "memory": "1024"}


@pytest.fixture
def queue_url(environment: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    sqs = boto3.client("sqs")
    url = sqs.create_queue(QueueName="prefect-agent-test-wakeups")["QueueUrl"]
    monkeypatch.setenv("AGENT_WAKEUP_QUEUE_URL", url)
    yield url
    sqs.delete_queue(QueueUrl=url)
    sqs.close()


def planned_now() -> str:
    return json.dumps({"planned_for": datetime.now(UTC).isoformat()})


def requests_to(prefect: Prefect1Server) -> list[str]:
    return [request.field_names[-1] for request in prefect.requests]


def test_a_due_flow_run_becomes_a_task_and_submitted(lambdas: Lambdas, prefect: Prefect1Server, ecs: EcsServer) -> None:
    run_id = prefect.add_flow_run(labels=["dev"], run_config=ECS_RUN)
    report = lambdas.tick()
    (task,) = ecs.tasks()
    row = prefect.flow_run(run_id)
    assert (report["launched"], report["errors"]) == (1, [])
    assert row["state"] == "Submitted"
    assert [line["message"] for line in prefect.logs(run_id)] == [f"Submitted for execution: Task {task['taskArn']}"]


def test_the_submitted_state_leads_to_the_task_and_the_task_to_the_flow_run(
    lambdas: Lambdas, prefect: Prefect1Server, ecs: EcsServer
) -> None:
    run_id = prefect.add_flow_run(labels=["dev"], run_config=ECS_RUN)
    lambdas.tick()
    context = prefect.flow_run(run_id)["serialized_state"]["context"]
    (task,) = ecs.tasks()
    tags = {tag["key"]: tag["value"] for tag in task["tags"]}
    assert (context["platform"], context["place"]) == ("ecs", "flows")
    assert tags["prefect-agent:launch-key"] == context["key"]
    assert tags["prefect.io/flow_run_id"] == run_id
    assert task["startedBy"] == f"prefect/{run_id}"
    assert task["clusterArn"].endswith("/flows")


def test_the_container_knows_which_flow_run_it_is(lambdas: Lambdas, prefect: Prefect1Server, ecs: EcsServer) -> None:
    run_id = prefect.add_flow_run(labels=["dev"], run_config={**ECS_RUN, "env": {"COLOUR": "blue"}})
    lambdas.tick()
    (task,) = ecs.tasks()
    (flow,) = task["overrides"]["containerOverrides"]
    env = {entry["name"]: entry["value"] for entry in flow["environment"]}
    assert env["PREFECT__CONTEXT__FLOW_RUN_ID"] == run_id
    assert env["PREFECT__CLOUD__API"] == prefect.url
    assert env["COLOUR"] == "blue"
    assert flow["command"] == ["/bin/sh", "-c", "prefect execute flow-run"]


def test_a_run_with_other_labels_is_left_to_others(lambdas: Lambdas, prefect: Prefect1Server, ecs: EcsServer) -> None:
    other, none = prefect.add_flow_run(labels=["prod"]), prefect.add_flow_run()
    assert lambdas.tick()["found"] == 0
    assert {prefect.flow_run(other)["state"], prefect.flow_run(none)["state"]} == {"Scheduled"}
    assert ecs.tasks() == []


def test_one_bad_run_fails_with_the_reason_and_the_others_go_on(
    lambdas: Lambdas, prefect: Prefect1Server, ecs: EcsServer
) -> None:
    bad = prefect.add_flow_run(labels=["dev"], run_config={"type": "DockerRun"})
    good = prefect.add_flow_run(labels=["dev"], run_config=ECS_RUN)
    lambdas.tick()
    assert (prefect.flow_run(bad)["state"], prefect.flow_run(good)["state"]) == ("Failed", "Submitted")
    assert "DockerRun" in prefect.flow_run(bad)["state_message"]
    assert [line["level"] for line in prefect.logs(bad)] == ["ERROR"]
    assert len(ecs.tasks()) == 1


def test_a_woken_tick_with_nothing_due_is_one_request_and_builds_no_aws_client(
    lambdas: Lambdas, prefect: Prefect1Server
) -> None:
    lambdas.wake(planned_now())
    prefect.forget_requests()
    report = lambdas.wake(planned_now())
    assert requests_to(prefect) == ["get_runs_in_queue"]
    assert report["found"] == 0


def test_a_scheduled_tick_with_nothing_due_is_two_requests(lambdas: Lambdas, prefect: Prefect1Server) -> None:
    lambdas.tick()
    assert requests_to(prefect) == ["tenant", "register_agent", "get_runs_in_queue", "flow_run"]
    prefect.forget_requests()
    lambdas.tick()
    assert requests_to(prefect) == ["get_runs_in_queue", "flow_run"]


def test_25_due_runs_cost_four_requests_and_one_registration_for_each_distinct_definition(
    lambdas: Lambdas, prefect: Prefect1Server, ecs: EcsServer
) -> None:
    lambdas.wake(planned_now())
    for number in range(25):
        image = {**ECS_RUN, "image": f"flows:{number % 2}"}
        prefect.add_flow_run(labels=["dev"], run_config=image)
    prefect.forget_requests()
    report = lambdas.wake(planned_now())
    assert report["launched"] == 25
    assert requests_to(prefect) == ["get_runs_in_queue", "flow_run", "set_flow_run_states", "get_runs_in_queue"]
    assert (ecs.count("RunTask"), ecs.count("RegisterTaskDefinition")) == (25, 2)


def test_a_new_container_registers_no_definition_again(
    lambdas: Lambdas, prefect: Prefect1Server, ecs: EcsServer
) -> None:
    for _ in range(3):
        prefect.add_flow_run(labels=["dev"], run_config=ECS_RUN)
        lambdas.tick()
        lambdas.freeze()
    assert (ecs.count("RunTask"), ecs.count("RegisterTaskDefinition")) == (3, 1)


def test_the_scheduled_tick_wakes_the_agent_every_ten_seconds(queue_url: str, lambdas: Lambdas) -> None:
    assert lambdas.tick()["wakeups_lost"] == 0
    sqs = boto3.client("sqs")
    attributes = sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["All"])["Attributes"]
    sqs.close()
    assert attributes["ApproximateNumberOfMessagesDelayed"] == "5"


def test_a_missing_queue_is_counted_and_does_not_stop_the_tick(
    lambdas: Lambdas, prefect: Prefect1Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENT_WAKEUP_QUEUE_URL", "http://127.0.0.1:9/123456789012/gone")
    run_id = prefect.add_flow_run(labels=["dev"], run_config=ECS_RUN)
    assert lambdas.tick()["wakeups_lost"] == 5
    assert prefect.flow_run(run_id)["state"] == "Submitted"


def test_a_late_wake_up_is_dropped(lambdas: Lambdas, prefect: Prefect1Server, queue_url: str) -> None:
    late = datetime.now(UTC) - timedelta(seconds=30)
    assert lambdas.wake(json.dumps({"planned_for": late.isoformat()})) == {"dropped": 1}
    assert prefect.requests == []


def test_a_scheduled_tick_raises_when_prefect_is_away_and_a_woken_one_reports_it(
    lambdas: Lambdas, prefect: Prefect1Server
) -> None:
    lambdas.tick()
    prefect.faults.add(then="html", times=None)
    with pytest.raises(PrefectUnreachable):
        lambdas.tick()
    assert "PREFECT__CLOUD__API" in lambdas.wake(planned_now())["errors"][0]


def test_health_is_bad_before_the_first_poll_and_good_after_it(lambdas: Lambdas) -> None:
    assert lambdas.get("/api/health") == (503, {"status": "unhealthy"})
    lambdas.tick()
    lambdas.freeze()
    assert lambdas.get("/api/health") == (200, {"status": "ok"})


def test_wrong_settings_are_bad_health_and_named_to_the_signed_in(
    lambdas: Lambdas, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENT_CADENCE_SECONDS", "often")
    assert lambdas.get("/api/health") == (503, {"status": "unhealthy"})
    assert "AGENT_CADENCE_SECONDS" in lambdas.get("/api/health/details")[1]["reason"]


def test_the_reason_is_for_the_signed_in(lambdas: Lambdas) -> None:
    status, body = lambdas.get("/api/health/details")
    assert status == 503
    assert "never polled" in body["reason"]


def test_asking_often_for_health_asks_prefect_once(lambdas: Lambdas, prefect: Prefect1Server) -> None:
    for _ in range(5):
        lambdas.get("/api/health")
    assert requests_to(prefect) == ["tenant", "flow_run"]


def test_poke_asks_for_a_tick(lambdas: Lambdas, queue_url: str) -> None:
    assert lambdas.post("/api/poke")[0] == 202
    sqs = boto3.client("sqs")
    (message,) = sqs.receive_message(QueueUrl=queue_url)["Messages"]
    sqs.close()
    assert lambdas.wake(message["Body"])["found"] == 0


def test_poke_without_a_queue_says_so(lambdas: Lambdas) -> None:
    status, body = lambdas.post("/api/poke")
    assert status == 409
    assert "AGENT_WAKEUP_QUEUE_URL" in body["reason"]


def test_a_stage_without_an_api_has_no_route() -> None:
    code = "import app; print(sorted(app.app.routes))"
    shown = {}
    for serves in ("false", "true"):
        environment = {"PATH": "", "AGENT_SERVES_API": serves, "AWS_DEFAULT_REGION": "us-east-1"}
        command = [sys.executable, "-c", code]
        done = subprocess.run(
            command, cwd=Path(__file__).parents[2], env=environment, capture_output=True, text=True, check=True
        )
        shown[serves] = done.stdout.strip()
    assert shown == {"false": "[]", "true": "['/api/health', '/api/health/details', '/api/poke']"}
