"""The double, as the real ECSAgent of prefect 1.4.1 sees it, with moto for AWS."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from tests.contract.conftest import Prefect1
from tests.doubles.prefect1 import Prefect1Server

pytestmark = pytest.mark.oracle

KEY, REGION = "testing", "us-east-1"
AWS = boto3.Session(aws_access_key_id=KEY, aws_secret_access_key=KEY, region_name=REGION)
DOCKER_RUN = {"type": "DockerRun", "__version__": "1.4.1", "labels": ["lab"], "env": None, "image": None}
MODULE = {"type": "Module", "__version__": "1.4.1", "module": "flows", "secrets": []}


@pytest.fixture(scope="module")
def aws() -> Iterator[str]:
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        moto.stop()


@pytest.fixture(scope="module")
def ecs(aws: str) -> Any:
    client = AWS.client("ecs", endpoint_url=aws)
    client.create_cluster(clusterName="default")
    return client


@pytest.fixture(scope="module")
def run_config(aws: str, ecs: Any) -> dict[str, Any]:
    """An ECSRun with what moto asks for and AWS does not: memory for each container, security groups."""
    subnets = AWS.client("ec2", endpoint_url=aws).describe_subnets()["Subnets"]
    network = {"subnets": [subnets[0]["SubnetId"]], "securityGroups": [], "assignPublicIp": "ENABLED"}
    container = {"name": "flow", "memory": 512, "cpu": 256}
    definition = {
        "containerDefinitions": [container],
        "networkMode": "awsvpc",
        "cpu": "256",
        "memory": "512",
        "requiresCompatibilities": ["FARGATE"],
    }
    return {
        "type": "ECSRun",
        "__version__": "1.4.1",
        "labels": ["lab"],
        "task_definition": definition,
        "run_task_kwargs": {"networkConfiguration": {"awsvpcConfiguration": network}},
    }


def poll(prefect1: Prefect1, aws: str, *labels: str) -> None:
    prefect1.script(
        "poll_as_ecs_agent",
        json.dumps({"labels": labels, "name": "oracle", "max_polls": 1}),
        AWS_ENDPOINT_URL=aws,
        AWS_ACCESS_KEY_ID=KEY,
        AWS_SECRET_ACCESS_KEY=KEY,
        AWS_DEFAULT_REGION=REGION,
    )


def test_the_agent_launches_what_matches_its_labels_and_leaves_the_rest(
    prefect1: Prefect1, server: Prefect1Server, aws: str, ecs: Any, run_config: dict[str, Any]
) -> None:
    flow_id = server.add_flow("my flow", storage=MODULE, run_config=run_config)
    matching = server.add_flow_run(flow_id)
    others = [server.add_flow_run(flow_id, labels=labels) for labels in ([], ["lab", "more"])]
    later = server.add_flow_run(flow_id, start_time=datetime.now(UTC) + timedelta(minutes=5))

    poll(prefect1, aws, "lab")

    tasks = ecs.list_tasks(cluster="default")["taskArns"]
    run = server.flow_run(matching)
    assert (run["state"], run["state_message"], len(tasks)) == ("Submitted", "Submitted for execution", 1)
    assert run["serialized_state"]["state"]["type"] == "Scheduled"
    assert [entry["message"] for entry in server.logs(matching)] == [f"Submitted for execution: Task {tasks[0]}"]
    assert {server.flow_run(each)["state"] for each in (*others, later)} == {"Scheduled"}
    (agent,) = server.agents()
    assert (agent["id"], agent["type"], agent["name"]) == (run["agent_id"], "ECSAgent", "oracle")
    assert agent["last_queried"] is not None


def test_the_agent_fails_a_run_that_is_not_for_ecs(prefect1: Prefect1, server: Prefect1Server, aws: str) -> None:
    run_id = server.add_flow_run(server.add_flow(storage=MODULE, run_config=DOCKER_RUN))

    poll(prefect1, aws, "lab")

    reason = f"Flow run {run_id} has a `run_config` of type `DockerRun`, only `ECSRun` is supported"
    assert [state["state"] for state in server.states(run_id)] == ["Scheduled", "Submitted", "Failed"]
    assert server.flow_run(run_id)["state_message"] == reason
    assert [(entry["level"], entry["message"]) for entry in server.logs(run_id)] == [("ERROR", reason)]


def test_the_agent_submits_only_the_task_runs_of_a_retry(
    prefect1: Prefect1, server: Prefect1Server, aws: str, ecs: Any, run_config: dict[str, Any]
) -> None:
    run_id = server.add_flow_run(server.add_flow(storage=MODULE, run_config=run_config), state={"type": "Running"})
    due = (datetime.now(UTC) - timedelta(seconds=10)).isoformat()
    task_run = server.add_task_run(run_id, {"type": "Retrying", "start_time": due, "run_count": 2})

    poll(prefect1, aws, "lab")

    assert (server.flow_run(run_id)["state"], server.flow_run(run_id)["agent_id"]) == ("Running", None)
    assert (server.task_run(task_run)["state"], server.task_run(task_run)["state_message"]) == (
        "Submitted",
        "Submitted for execution.",
    )
    assert len(server.logs(run_id)) == 1


def test_an_agent_that_is_locked_out_drops_the_run_silently(
    prefect1: Prefect1, server: Prefect1Server, aws: str, run_config: dict[str, Any]
) -> None:
    run_id = server.add_flow_run(server.add_flow(storage=MODULE, run_config=run_config))
    submitted = ("set_flow_run_state", {"flow_run_id": run_id, "state": {"state": {"type": "Submitted"}}})
    prefect1.client(submitted)
    server.set_state(run_id, {"type": "Scheduled"})

    poll(prefect1, aws, "lab")

    assert [state["state"] for state in server.states(run_id)] == ["Scheduled", "Submitted", "Scheduled"]
    assert server.logs(run_id) == []
