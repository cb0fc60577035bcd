"""The ECS double, asked by the real boto3: what it must get right for the launcher's tests to mean anything."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.request import Request, urlopen

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError

from tests.doubles.clock import TurnedClock
from tests.doubles.ecs import EcsServer

BASE: dict[str, Any] = {
    "family": "flows",
    "networkMode": "awsvpc",
    "requiresCompatibilities": ["FARGATE"],
    "cpu": "256",
    "memory": "512",
    "containerDefinitions": [{"name": "flow", "image": "flows:1"}],
}
NETWORK = {"awsvpcConfiguration": {"subnets": ["subnet-1"], "assignPublicIp": "ENABLED"}}
LAUNCH: dict[str, Any] = {"taskDefinition": "flows", "launchType": "FARGATE", "networkConfiguration": NETWORK}


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


@pytest.fixture
def server(clock: TurnedClock) -> Iterator[EcsServer]:
    with EcsServer(clock=clock) as server:
        yield server


def client_of(server: EcsServer, **config: Any) -> Any:
    return boto3.client(
        "ecs",
        endpoint_url=server.url,
        region_name=server.region,
        aws_access_key_id="key",
        aws_secret_access_key="secret",
        config=Config(retries={"total_max_attempts": 1}, **config),
    )


@pytest.fixture
def ecs(server: EcsServer) -> Iterator[Any]:
    client = client_of(server)
    yield client
    client.close()


def refused(call: Any, **parameters: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def start(ecs: Any, **more: Any) -> str:
    if not ecs.list_task_definitions()["taskDefinitionArns"]:
        ecs.register_task_definition(**BASE)
    arn: str = ecs.run_task(**{**LAUNCH, **more})["tasks"][0]["taskArn"]
    return arn


def test_each_registration_is_a_new_revision_and_the_family_means_the_newest_active_one(ecs: Any) -> None:
    arns = [
        ecs.register_task_definition(**BASE, tags=[{"key": "a", "value": "1"}])["taskDefinition"]["taskDefinitionArn"]
        for _ in range(2)
    ]
    assert [arn.rpartition("/")[2] for arn in arns] == ["flows:1", "flows:2"]
    ecs.deregister_task_definition(taskDefinition="flows:2")
    answer = ecs.describe_task_definition(taskDefinition="flows", include=["TAGS"])
    assert (answer["taskDefinition"]["taskDefinitionArn"], answer["tags"]) == (arns[0], [{"key": "a", "value": "1"}])
    assert ecs.describe_task_definition(taskDefinition=arns[1])["taskDefinition"]["status"] == "INACTIVE"
    assert ecs.list_task_definitions(familyPrefix="flows", status="INACTIVE")["taskDefinitionArns"] == [arns[1]]
    assert ecs.delete_task_definitions(taskDefinitions=["flows:1", "flows:2"])["failures"][0]["arn"] == "flows:1"
    assert refused(ecs.describe_task_definition, taskDefinition="none")[0] == "ClientException"
    assert refused(ecs.run_task, **{**LAUNCH, "taskDefinition": "flows:2"})[1] == "TaskDefinition not found."


def test_a_request_with_a_parameter_that_ecs_does_not_know_is_refused(server: EcsServer) -> None:
    headers = {"X-Amz-Target": "AmazonEC2ContainerServiceV20141113.ListTasks"}
    with pytest.raises(OSError, match="400"):
        urlopen(Request(server.url, b'{"startedby": "x"}', headers))
    assert server.calls == []


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ({"containerDefinitions": [{"name": "flow"}]}, "ClientException", "Container.image"),
        ({"memory": "4096"}, "ClientException", "No Fargate configuration exists"),
        ({"networkMode": "bridge"}, "ClientException", "only supports network mode"),
        ({"family": "a.b"}, "ClientException", "Family"),
        ({"tags": [{"key": "aws:x", "value": ""}]}, "InvalidParameterException", "tag key"),
        (
            {"containerDefinitions": [{"name": "f", "image": "i", "secrets": [{"name": "KEY", "valueFrom": "arn"}]}]},
            "ClientException",
            "executionRoleArn",
        ),
    ],
)
def test_a_task_definition_that_cannot_be_is_refused(ecs: Any, change: Any, code: str, message: str) -> None:
    answer = refused(ecs.register_task_definition, **{**BASE, **change})
    assert answer[0] == code
    assert message in answer[1]


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ({"startedBy": "x" * 129}, "InvalidParameterException", "startedBy"),
        ({"startedBy": "a b"}, "InvalidParameterException", "startedBy"),
        ({"clientToken": "x" * 65}, "InvalidParameterException", "clientToken"),
        ({"count": 11}, "InvalidParameterException", "count"),
        ({"networkConfiguration": {}}, "InvalidParameterException", "Network Configuration must be provided"),
        ({"taskDefinition": "other"}, "ClientException", "TaskDefinition not found."),
        ({"cluster": "other"}, "ClusterNotFoundException", "Cluster not found."),
        ({"tags": [{"key": f"k{n}", "value": ""} for n in range(51)]}, "InvalidParameterException", "Too many tags"),
        ({"tags": [{"key": "k", "value": "v" * 257}]}, "InvalidParameterException", "tag value"),
        ({"overrides": {"containerOverrides": [{"name": "x"}]}}, "InvalidParameterException", "not a container"),
        (
            {"overrides": {"containerOverrides": [{"name": "flow", "command": ["x" * 8192]}]}},
            "InvalidParameterException",
            "8192",
        ),
        ({"capacityProviderStrategy": [{"capacityProvider": "FARGATE"}]}, "InvalidParameterException", "launch type"),
    ],
)
def test_a_launch_that_cannot_be_is_refused(ecs: Any, change: Any, code: str, message: str) -> None:
    ecs.register_task_definition(**BASE)
    answer = refused(ecs.run_task, **{**LAUNCH, **change})
    assert answer[0] == code
    assert message in answer[1]


def test_iam_bounds_actions_and_roles(server: EcsServer, ecs: Any) -> None:
    ecs.register_task_definition(**BASE)
    server.passable_roles = {"arn:aws:iam::123456789012:role/known"}
    overrides = {"taskRoleArn": "arn:aws:iam::123456789012:role/other"}
    code, message = refused(ecs.run_task, **LAUNCH, overrides=overrides)
    assert (code, "iam:PassRole on resource: arn:aws:iam::123456789012:role/other" in message) == (
        "AccessDeniedException",
        True,
    )
    server.forbidden.add("RunTask")
    assert "perform: ecs:RunTask on" in refused(ecs.run_task, **LAUNCH)[1]
    assert server.tasks() == []


def test_a_client_token_starts_its_task_once(server: EcsServer, ecs: Any, clock: TurnedClock) -> None:
    arn = start(ecs, clientToken="key", startedBy="prefect/1")
    again = ecs.run_task(**LAUNCH, clientToken="key", startedBy="prefect/1")["tasks"][0]
    assert (again["taskArn"], again["lastStatus"], len(server.tasks())) == (arn, "PROVISIONING", 1)
    with pytest.raises(ClientError) as caught:
        ecs.run_task(**LAUNCH, clientToken="key", startedBy="prefect/2")
    response: Any = caught.value.response
    assert (response["Error"]["Code"], response["resourceIds"]) == ("ConflictException", [arn])
    server.stop(arn)
    stopped = ecs.run_task(**LAUNCH, clientToken="key", startedBy="prefect/1")["tasks"][0]
    assert stopped == {"taskArn": arn, "lastStatus": "STOPPED", "desiredStatus": "STOPPED"}
    clock.turn(3660)
    assert start(ecs, clientToken="key", startedBy="prefect/1") != arn


def test_a_client_token_is_forgotten_after_a_day_and_belongs_to_one_cluster(ecs: Any, clock: TurnedClock) -> None:
    arn = start(ecs, clientToken="key")
    ecs.create_cluster(clusterName="second")
    assert start(ecs, clientToken="key", cluster="second") != arn
    clock.turn(82800)
    assert start(ecs, clientToken="key") == arn
    clock.turn(3600)
    assert start(ecs, clientToken="key") != arn


def test_tasks_are_listed_by_who_started_them_while_they_are_to_run(server: EcsServer, ecs: Any) -> None:
    arns = [start(ecs, startedBy="prefect/1") for _ in range(3)]
    start(ecs, startedBy="prefect/2")
    server.stop(arns[0])
    assert ecs.list_tasks(startedBy="prefect/1")["taskArns"] == arns[1:]
    first = ecs.list_tasks(startedBy="prefect/1", maxResults=1)
    rest = ecs.list_tasks(startedBy="prefect/1", maxResults=1, nextToken=first["nextToken"])
    assert first["taskArns"] + rest["taskArns"] == arns[1:]
    assert ecs.list_tasks(desiredStatus="STOPPED")["taskArns"] == arns[:1]
    assert refused(ecs.list_tasks, startedBy="prefect/1", family="flows")[0] == "InvalidParameterException"


def test_a_task_lives_in_steps_and_each_is_an_event(server: EcsServer, ecs: Any, clock: TurnedClock) -> None:
    arn = start(ecs, startedBy="prefect/1", tags=[{"key": "a", "value": "b"}])
    server.advance(arn, "RUNNING")
    server.stop(arn, reason="Essential container in task exited", exit_code=3)
    task = ecs.describe_tasks(tasks=[arn], include=["TAGS"])["tasks"][0]
    assert (task["lastStatus"], task["stopCode"], task["containers"][0]["exitCode"]) == (
        "STOPPED",
        "EssentialContainerExited",
        3,
    )
    assert (task["stoppedAt"], task["tags"]) == (clock.now(), [{"key": "a", "value": "b"}])
    details = [event["detail"] for event in server.events]
    assert [detail["lastStatus"] for detail in details] == [
        "PROVISIONING",
        "PENDING",
        "RUNNING",
        "DEPROVISIONING",
        "STOPPED",
    ]
    assert [detail["version"] for detail in details] == [1, 2, 3, 4, 5]
    assert (details[-1]["stoppedAt"], details[-1]["containers"][0]["exitCode"]) == ("2026-11-20T12:00:00.000Z", 3)
    assert (details[1]["containers"][0].get("exitCode"), "tags" in details[1]) == (None, False)


def test_a_task_that_fails_to_start_has_no_exit_code(server: EcsServer, ecs: Any) -> None:
    arn = start(ecs)
    server.stop(arn, stop_code="TaskFailedToStart", reason="CannotPullContainerError: pull failed")
    task = ecs.describe_tasks(tasks=[arn])["tasks"][0]
    assert ("startedAt" in task, "exitCode" in task["containers"][0]) == (False, False)


def test_a_task_that_somebody_stops_keeps_the_reason(server: EcsServer, ecs: Any) -> None:
    arn = start(ecs)
    server.advance(arn, "RUNNING")
    assert ecs.stop_task(task=arn, reason="enough")["task"]["desiredStatus"] == "STOPPED"
    server.stop(arn, exit_code=137)
    task = server.task(arn)
    assert (task["stopCode"], task["stoppedReason"], task["lastStatus"]) == ("UserInitiated", "enough", "STOPPED")
    assert refused(ecs.stop_task, task="unknown")[0] == "InvalidParameterException"


def test_a_stopped_task_is_missing_after_an_hour_and_a_call_describes_a_hundred(
    server: EcsServer, ecs: Any, clock: TurnedClock
) -> None:
    arn = start(ecs)
    server.stop(arn)
    clock.turn(3540)
    assert len(ecs.describe_tasks(tasks=[arn])["tasks"]) == 1
    clock.turn(60)
    answer = ecs.describe_tasks(tasks=[arn, "unknown"])
    assert (answer["tasks"], [failure["reason"] for failure in answer["failures"]]) == ([], ["MISSING", "MISSING"])
    assert refused(ecs.describe_tasks, tasks=["t"] * 101)[0] == "InvalidParameterException"


def test_tags_can_be_added_and_clusters_counted(server: EcsServer, ecs: Any) -> None:
    arn = start(ecs, tags=[{"key": "a", "value": "1"}])
    ecs.tag_resource(resourceArn=arn, tags=[{"key": "a", "value": "2"}, {"key": "b", "value": "3"}])
    assert {tag["key"]: tag["value"] for tag in ecs.list_tags_for_resource(resourceArn=arn)["tags"]} == {
        "a": "2",
        "b": "3",
    }
    cluster = ecs.describe_clusters(clusters=["default", "none"])
    assert (cluster["clusters"][0]["pendingTasksCount"], cluster["failures"][0]["reason"]) == (1, "MISSING")
    assert ecs.list_clusters()["clusterArns"] == [cluster["clusters"][0]["clusterArn"]]
    assert refused(ecs.tag_resource, resourceArn="arn:none", tags=[])[0] == "ResourceNotFoundException"


def test_faults_come_before_or_after_the_effect(server: EcsServer, ecs: Any) -> None:
    arn = start(ecs, clientToken="first")
    server.faults.add(when="RunTask", then="cut_before")
    with pytest.raises(ConnectionClosedError):
        ecs.run_task(**LAUNCH)
    assert [task["taskArn"] for task in server.tasks()] == [arn]
    server.faults.add(when="RunTask", then="cut_after")
    with pytest.raises(ConnectionClosedError):
        ecs.run_task(**LAUNCH)
    assert len(server.tasks()) == 2
    server.faults.add(when="RunTask", then="status", status=500)
    assert refused(ecs.run_task, **LAUNCH)[0] == "ServerException"
    server.faults.add(when="RunTask", then="failure", reason="RESOURCE:ENI")
    assert [failure["reason"] for failure in ecs.run_task(**LAUNCH)["failures"]] == ["RESOURCE:ENI"]
    server.faults.add(when="RunTask", then="throttle_disguised")
    assert "(ErrorCode: Throttling)" in refused(ecs.run_task, **LAUNCH)[1]
    assert len(ecs.run_task(**LAUNCH)["tasks"]) == 1
    assert server.count("RunTask") == 7


def test_a_slow_answer_runs_into_the_clients_time_out_and_is_applied_all_the_same(server: EcsServer) -> None:
    client = client_of(server, read_timeout=0.2)
    start(client)
    server.faults.add(when="RunTask", then="delay", seconds=0.6)
    with pytest.raises(ReadTimeoutError):
        client.run_task(**LAUNCH)
    client.close()
    server.close()
    assert len(server.tasks()) == 2


def test_calls_that_come_too_fast_are_throttled_and_registrations_share_a_bucket(
    server: EcsServer, ecs: Any, clock: TurnedClock
) -> None:
    server.throttles.add("RegisterTaskDefinition", "DeregisterTaskDefinition", burst=2, per_second=1)
    ecs.register_task_definition(**BASE)
    ecs.deregister_task_definition(taskDefinition="flows:1")
    assert refused(ecs.register_task_definition, **BASE) == ("ThrottlingException", "Rate exceeded")
    clock.turn(1)
    ecs.register_task_definition(**BASE)
    assert [row["revision"] for row in server.definitions()] == [1, 2]


def test_containers_can_really_run() -> None:
    seen = []

    def run_container(task: dict[str, Any]) -> int:
        seen.append((task["lastStatus"], task["taskDefinition"]["containerDefinitions"][0]["image"]))
        return 7

    heard: list[Any] = []
    with EcsServer(run_container=run_container) as server:
        server.on_event(heard.append)
        client = client_of(server)
        arn = start(client)
        client.close()
    assert seen == [("RUNNING", "flows:1")]
    assert server.task(arn)["containers"][0]["exitCode"] == 7
    assert heard == server.events
    assert heard[-1]["detail"]["lastStatus"] == "STOPPED"
