"""The ECS launcher, with the real client, against the double of ECS."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from chalicelib.builders.ecs_defaults import EcsDefaults
from chalicelib.builders.ecs_launch import EcsLaunch
from chalicelib.builders.flow_container import ContainerSettings
from chalicelib.errors import (
    LaunchDeferred,
    LaunchForbidden,
    LaunchRejected,
    LaunchUnknown,
    SettingsError,
    UnsupportedRun,
)
from chalicelib.flow_runs import Document, Flow, FlowRun, Place
from chalicelib.launchers.aws import AwsClients
from chalicelib.launchers.ecs import EcsLauncher, read_answer
from chalicelib.launchers.ecs_run_configs import RunConfigTasks
from chalicelib.launchers.ecs_tasks import LAUNCH_KEY_TAG
from chalicelib.launchers.pacing import Pace
from chalicelib.launchers.templates import TemplateReader
from chalicelib.sightings import Sighting
from tests.doubles.clock import TurnedClock
from tests.doubles.ecs import EcsServer

NETWORK = {"awsvpcConfiguration": {"subnets": ["subnet-1"], "assignPublicIp": "ENABLED"}}
TEMPLATE = {
    "networkMode": "awsvpc",
    "cpu": "256",
    "memory": "512",
    "executionRoleArn": "arn:aws:iam::123456789012:role/execution",
    "containerDefinitions": [{"name": "flow", "image": "flows:1"}],
}
DEFAULTS = EcsDefaults(
    container=ContainerSettings(api_url="http://prefect", api_key="key"),
    task_definition=TEMPLATE,
    run_task_kwargs={"networkConfiguration": NETWORK},
    allowed_clusters=frozenset({"second"}),
)
KEY = "0a1b2c3d-7"


class Shelf(TemplateReader):
    """Templates by path."""

    def __init__(self, **templates: Document) -> None:
        super().__init__((), lambda: None, local_allowed=False)
        self.templates = templates

    def read(self, path: str) -> Document:
        if path not in self.templates:
            raise UnsupportedRun(f"There is no template {path}")
        return self.templates[path]


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


@pytest.fixture
def server(clock: TurnedClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[EcsServer]:
    with EcsServer(clock=clock, clusters=("default", "second")) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_ECS", server.url)
        monkeypatch.setenv("AWS_REGION", server.region)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        yield server


@pytest.fixture
def clients(server: EcsServer) -> Iterator[AwsClients]:
    clients = AwsClients()
    yield clients
    clients.close()


@pytest.fixture
def launcher(clients: AwsClients, clock: TurnedClock) -> EcsLauncher:
    return launcher_of(clients, clock)


def launcher_of(
    clients: AwsClients, clock: TurnedClock, defaults: EcsDefaults = DEFAULTS, rate: float = 20
) -> EcsLauncher:
    return EcsLauncher(
        clients, defaults, RunConfigTasks(clients, defaults, Shelf(small=TEMPLATE)), Pace(rate, clock), clock
    )


def run_of(number: int = 1, **run_config: Any) -> FlowRun:
    return FlowRun(
        id=f"00000000-0000-0000-0000-{number:012}",
        name=f"run-{number}",
        version=3,
        start_time=datetime(2026, 1, 1, tzinfo=UTC),
        flow=Flow(id="f", name="flow", version=1, core_version="1.4.1"),
        run_config={"type": "ECSRun", **run_config},
    )


def launch(launcher: EcsLauncher, key: str = KEY, number: int = 1, **run_config: Any) -> str:
    return launcher.launch(launcher.build(run_of(number, **run_config)), key)


def tags_of(task: dict[str, Any]) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in task["tags"]}


# what is started


def test_a_flow_run_becomes_one_task_that_bears_its_key(server: EcsServer, launcher: EcsLauncher) -> None:
    text = launch(launcher)
    (task,) = server.tasks()
    assert text == f"Task {task['taskArn']}"
    assert task["startedBy"] == f"prefect/{run_of().id}"
    assert tags_of(task).items() >= {LAUNCH_KEY_TAG: KEY, "prefect.io/flow_run_id": run_of().id}.items()
    assert next(call.parameters["clientToken"] for call in server.calls if call.action == "RunTask") == KEY
    assert launcher.place == Place("ecs", "default")


def test_importing_the_launcher_imports_no_aws_client() -> None:
    code = "import sys, chalicelib.launchers.ecs; sys.exit(bool({'boto3', 'botocore'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_launched_again_with_one_key_it_is_the_same_task(server: EcsServer, launcher: EcsLauncher) -> None:
    assert launch(launcher) == launch(launcher)
    assert len(server.tasks()) == 1


def test_the_next_claim_is_another_task(server: EcsServer, launcher: EcsLauncher) -> None:
    assert launch(launcher) != launch(launcher, key="0a1b2c3d-9")
    assert len(server.tasks()) == 2


def test_the_request_is_the_same_from_another_process(
    server: EcsServer, launcher: EcsLauncher, clock: TurnedClock
) -> None:
    text = launch(launcher)
    other = AwsClients()
    assert launch(launcher_of(other, clock)) == text
    other.close()
    assert (server.count("RegisterTaskDefinition"), len(server.tasks())) == (1, 1)


# task definitions


def test_runs_of_one_content_share_one_registered_definition(server: EcsServer, launcher: EcsLauncher) -> None:
    for number in range(5):
        launch(launcher, f"key-{number}", number)
    assert len(server.tasks()) == 5
    assert (server.count("RegisterTaskDefinition"), server.count("DescribeTaskDefinition")) == (1, 1)


def test_threads_that_need_one_definition_at_once_register_it_once(server: EcsServer, launcher: EcsLauncher) -> None:
    server.round_trip_seconds = 0.02
    requests = [launcher.build(run_of(number)) for number in range(10)]
    with ThreadPoolExecutor(10) as threads:
        list(threads.map(launcher.launch, requests, [f"key-{number}" for number in range(10)]))
    assert (server.count("RegisterTaskDefinition"), len(server.tasks())) == (1, 10)


def test_a_definition_that_somebody_deregistered_is_registered_again(
    server: EcsServer, launcher: EcsLauncher, clients: AwsClients
) -> None:
    launch(launcher)
    clients.ecs().deregister_task_definition(taskDefinition=server.definitions()[0]["taskDefinitionArn"])
    launch(launcher, "another")
    assert [row["status"] for row in server.definitions()] == ["INACTIVE", "ACTIVE"]
    assert server.tasks()[1]["taskDefinitionArn"] == server.definitions()[1]["taskDefinitionArn"]


def test_a_run_may_name_a_definition_which_is_described_once(
    server: EcsServer, launcher: EcsLauncher, clients: AwsClients
) -> None:
    answer = clients.ecs().register_task_definition(family="own", requiresCompatibilities=["FARGATE"], **TEMPLATE)
    arn = answer["taskDefinition"]["taskDefinitionArn"]
    for number in range(3):
        launch(launcher, f"key-{number}", number, task_definition_arn=arn)
    assert {task["taskDefinitionArn"] for task in server.tasks()} == {arn}
    assert (server.count("DescribeTaskDefinition"), server.count("RegisterTaskDefinition")) == (1, 1)


def test_a_family_without_a_revision_is_described_each_time(
    server: EcsServer, launcher: EcsLauncher, clients: AwsClients
) -> None:
    clients.ecs().register_task_definition(family="own", requiresCompatibilities=["FARGATE"], **TEMPLATE)
    for number in range(2):
        launcher.build(run_of(number, task_definition_arn="own"))
    assert server.count("DescribeTaskDefinition") == 2


def test_a_definition_that_does_not_exist_is_named(launcher: EcsLauncher) -> None:
    arn = "arn:aws:ecs:us-east-1:123456789012:task-definition/none:1"
    with pytest.raises(UnsupportedRun, match=arn):
        launcher.build(run_of(task_definition_arn=arn))


def test_a_definition_that_is_inactive_is_named(launcher: EcsLauncher, clients: AwsClients) -> None:
    clients.ecs().register_task_definition(family="own", **TEMPLATE)
    clients.ecs().deregister_task_definition(taskDefinition="own:1")
    with pytest.raises(UnsupportedRun, match="own:1 is INACTIVE"):
        launcher.build(run_of(task_definition_arn="own:1"))


def test_a_template_that_a_run_names_is_read(server: EcsServer, launcher: EcsLauncher) -> None:
    launch(launcher, task_definition_path="small")
    assert server.definitions()[0]["cpu"] == "256"
    with pytest.raises(UnsupportedRun, match="no template other"):
        launcher.build(run_of(task_definition_path="other"))


@pytest.mark.parametrize("then", ["cut_before", "status", "throttle"])
def test_a_look_up_that_ecs_cannot_answer_now_leaves_the_run_for_later(
    server: EcsServer, launcher: EcsLauncher, then: Any
) -> None:
    server.faults.add(when="DescribeTaskDefinition", then=then, times=None)
    with pytest.raises(LaunchDeferred, match="DescribeTaskDefinition of own:1"):
        launcher.build(run_of(task_definition_arn="own:1"))


def test_an_answer_that_is_not_ecs_leaves_the_run_for_later(server: EcsServer, launcher: EcsLauncher) -> None:
    server.faults.add(when="DescribeTaskDefinition", then="status", status=200, body="<html>Welcome</html>")
    with pytest.raises(LaunchDeferred, match="own:1"):
        launcher.build(run_of(task_definition_arn="own:1"))


def test_a_registration_that_is_cut_off_starts_nothing_and_is_for_now(server: EcsServer, launcher: EcsLauncher) -> None:
    server.faults.add(when="RegisterTaskDefinition", then="cut_before", times=None)
    with pytest.raises(LaunchDeferred, match="RegisterTaskDefinition of prefect-flows-1-"):
        launch(launcher)
    assert server.count("RunTask") == 0


# already there


def test_a_key_that_was_used_with_other_parameters_finds_its_living_task(
    server: EcsServer, launcher: EcsLauncher, clients: AwsClients, clock: TurnedClock
) -> None:
    text = launch(launcher)
    changed = launcher_of(clients, clock, replace(DEFAULTS, agent_name="renamed"))
    assert launch(changed) == text
    assert (len(server.tasks()), server.count("DescribeTasks")) == (1, 1)


def test_a_task_that_has_stopped_meanwhile_is_told_with_its_reason(server: EcsServer, launcher: EcsLauncher) -> None:
    arn = launch(launcher).removeprefix("Task ")
    server.stop(arn, exit_code=137, container_reason="OutOfMemoryError: Container killed due to memory usage")
    with pytest.raises(LaunchRejected, match=r"EssentialContainerExited; .*flow: exit code 137, OutOfMemoryError"):
        launch(launcher)


def test_a_task_that_never_ran_for_want_of_capacity_is_for_now(
    server: EcsServer, launcher: EcsLauncher, clients: AwsClients, clock: TurnedClock
) -> None:
    arn = launch(launcher).removeprefix("Task ")
    server.stop(arn, stop_code="TaskFailedToStart", reason="Capacity is unavailable at this time.")
    with pytest.raises(LaunchDeferred, match="Capacity is unavailable"):
        launch(launcher)
    with pytest.raises(LaunchDeferred, match="Capacity is unavailable"):
        launch(launcher_of(clients, clock, replace(DEFAULTS, agent_name="renamed")))


def test_a_task_that_nobody_knows_any_more_is_unknown(
    server: EcsServer, launcher: EcsLauncher, clock: TurnedClock
) -> None:
    arn = launch(launcher).removeprefix("Task ")
    server.stop(arn)
    clock.turn(3600)
    with pytest.raises(LaunchUnknown, match="does not know"):
        launcher.look_after([arn])


def test_a_task_that_cannot_be_looked_at_is_unknown(server: EcsServer, launcher: EcsLauncher) -> None:
    arn = launch(launcher).removeprefix("Task ")
    server.stop(arn)
    server.forbidden.add("DescribeTasks")
    with pytest.raises(LaunchUnknown, match="not authorized to perform: ecs:DescribeTasks"):
        launch(launcher)


def test_of_several_tasks_the_living_one_is_meant(server: EcsServer, launcher: EcsLauncher) -> None:
    arns = [launch(launcher, key).removeprefix("Task ") for key in ("first", "second")]
    server.stop(arns[0])
    assert launcher.look_after(arns) == arns[1]


def test_what_lives_of_a_run_is_found_and_only_ecs_itself_is_believed(server: EcsServer, launcher: EcsLauncher) -> None:
    assert launcher.find_alive(run_of().id) is None
    text = launch(launcher, run_task_kwargs={"cluster": "second"})
    assert launcher.find_alive(run_of().id) == Sighting(run_of().id, KEY, text)
    server.faults.add(when="ListTasks", then="status", status=200, body="<html>Welcome</html>")
    with pytest.raises(LaunchUnknown, match="what answered is not AWS"):
        launcher.find_alive(run_of().id)


# refused, and no answer


def test_a_cut_connection_is_asked_again_and_starts_one_task(server: EcsServer, launcher: EcsLauncher) -> None:
    server.faults.add(when="RunTask", then="cut_after")
    text = launch(launcher)
    assert [f"Task {task['taskArn']}" for task in server.tasks()] == [text]


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ("cut_after", {"then": "throttle", "times": None}),
        ("cut_after", {"then": "failure", "reason": "RESOURCE:CPU"}),
        ("cut_after", {"then": "error", "code": "InvalidParameterException"}),
        ("cut_after", {"then": "cut_before"}),
        ("status", {"then": "throttle_disguised", "times": None}),
    ],
)
def test_after_a_try_of_unknown_end_no_refusal_is_believed(
    server: EcsServer, launcher: EcsLauncher, first: Any, then: dict[str, Any]
) -> None:
    server.faults.add(when="RunTask", then=first)
    server.faults.add(when="RunTask", **then)
    with pytest.raises(LaunchUnknown):
        launch(launcher)
    server.faults.clear()
    launch(launcher)
    assert len(server.tasks()) == 1


def test_a_try_that_botocore_would_have_repeated_is_not_hidden(server: EcsServer, launcher: EcsLauncher) -> None:
    server.faults.add(when="RunTask", then="cut_before", times=2)
    with pytest.raises(LaunchUnknown):
        launch(launcher)
    assert server.count("RunTask") == 2


@pytest.mark.parametrize("then", ["throttle", "throttle_disguised"])
def test_a_throttled_launch_is_tried_again_more_slowly(
    server: EcsServer, launcher: EcsLauncher, clock: TurnedClock, then: Any
) -> None:
    room = launcher.room(1)
    server.faults.add(when="RunTask", then=then)
    assert launch(launcher) == f"Task {server.tasks()[0]['taskArn']}"
    assert server.count("RunTask") == 2
    assert launcher.room(1) < room / 2


def test_a_launch_that_stays_throttled_is_for_now_within_seconds(
    server: EcsServer, launcher: EcsLauncher, clock: TurnedClock
) -> None:
    server.faults.add(when="RunTask", then="throttle", times=None)
    with pytest.raises(LaunchDeferred, match="ThrottlingException: Rate exceeded"):
        launch(launcher)
    assert 3 <= clock.slept_seconds < 6
    assert (server.tasks(), server.count("RunTask")) == ([], 4)


def test_a_backlog_under_the_quota_meets_no_throttling(
    server: EcsServer, clients: AwsClients, clock: TurnedClock
) -> None:
    server.throttles.add("RunTask", burst=3, per_second=2)
    launcher = EcsLauncher(
        clients, DEFAULTS, RunConfigTasks(clients, DEFAULTS, Shelf()), Pace(2, clock, burst=3), clock
    )
    for number in range(12):
        launch(launcher, f"key-{number}", number)
    assert (len(server.tasks()), server.count("RunTask")) == (12, 12)


def test_a_backlog_over_the_quota_is_slowed_down_until_it_fits(
    server: EcsServer, clients: AwsClients, clock: TurnedClock
) -> None:
    server.throttles.add("RunTask", burst=3, per_second=2, disguised=True)
    launcher = launcher_of(clients, clock, rate=0)
    for number in range(12):
        launch(launcher, f"key-{number}", number)
    assert len(server.tasks()) == 12
    assert server.count("RunTask") > 12


@pytest.mark.parametrize("reason", ["RESOURCE:MEMORY", "AGENT", "Capacity is unavailable at this time."])
def test_a_failure_of_the_cluster_is_for_now(server: EcsServer, launcher: EcsLauncher, reason: str) -> None:
    server.faults.add(when="RunTask", then="failure", reason=reason)
    with pytest.raises(LaunchDeferred, match=reason):
        launch(launcher)
    assert server.count("RunTask") == 1


def test_a_cluster_that_is_not_there_is_the_agents_fault(
    server: EcsServer, clients: AwsClients, clock: TurnedClock
) -> None:
    launcher = launcher_of(clients, clock, replace(DEFAULTS, cluster="gone"))
    with pytest.raises(LaunchForbidden, match=r"in cluster gone: ClusterNotFoundException.*AGENT_CLUSTER"):
        launch(launcher)


def test_a_cluster_that_a_run_chose_and_is_not_there_is_the_runs_trouble(
    server: EcsServer, launcher: EcsLauncher
) -> None:
    server.deactivate_cluster("second")
    with pytest.raises(LaunchRejected, match="in cluster second") as caught:
        launch(launcher, run_task_kwargs={"cluster": "second"})
    assert not isinstance(caught.value, LaunchForbidden)


def test_a_task_in_a_cluster_that_a_run_chose_is_found_there(server: EcsServer, launcher: EcsLauncher) -> None:
    arn = launch(launcher, run_task_kwargs={"cluster": "second"}).removeprefix("Task ")
    server.stop(arn, exit_code=1)
    with pytest.raises(LaunchRejected, match=f"{arn} has stopped"):
        launch(launcher, run_task_kwargs={"cluster": "second"})


@pytest.mark.parametrize("action", ["RunTask", "TagResource", "RegisterTaskDefinition"])
def test_what_the_agents_policy_lacks_is_the_agents_fault(
    server: EcsServer, launcher: EcsLauncher, action: str
) -> None:
    server.forbidden.add(action)
    with pytest.raises(LaunchForbidden, match=f"not authorized to perform: ecs:{action}"):
        launch(launcher)


def test_a_definition_that_a_run_names_and_the_agent_may_not_run_is_the_runs_trouble(
    server: EcsServer, launcher: EcsLauncher, clients: AwsClients
) -> None:
    clients.ecs().register_task_definition(family="theirs", requiresCompatibilities=["FARGATE"], **TEMPLATE)
    server.forbidden.add("RunTask")
    with pytest.raises(LaunchRejected) as caught:
        launch(launcher, task_definition_arn="theirs:1")
    assert not isinstance(caught.value, LaunchForbidden)


def test_a_role_that_the_agent_may_not_pass_is_named(server: EcsServer, launcher: EcsLauncher) -> None:
    role = "arn:aws:iam::123456789012:role/team"
    server.passable_roles = {TEMPLATE["executionRoleArn"]}  # type: ignore[arg-type]
    with pytest.raises(LaunchRejected, match=f"add the role {role} to those that the agent may pass") as caught:
        launch(launcher, task_role_arn=role)
    assert not isinstance(caught.value, LaunchForbidden)
    launch(launcher, "another", 2)
    assert len(server.tasks()) == 1


def test_a_launch_that_ecs_finds_wrong_is_for_good(server: EcsServer, launcher: EcsLauncher) -> None:
    with pytest.raises(LaunchRejected, match="No Fargate configuration exists"):
        launch(launcher, task_definition={**TEMPLATE, "cpu": "300"})
    with pytest.raises(UnsupportedRun, match="platformVersion is a number, not text"):
        launch(launcher, run_task_kwargs={"platformVersion": 14})
    assert server.tasks() == []


def test_without_a_region_nothing_is_built_so_nothing_is_claimed(
    server: EcsServer, clock: TurnedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    with pytest.raises(SettingsError, match="AWS_REGION"):
        launcher_of(AwsClients(), clock).build(run_of())


def test_while_ecs_is_away_nothing_is_started_and_the_launch_is_for_now(
    server: EcsServer, launcher: EcsLauncher
) -> None:
    request = launcher.build(run_of())
    server.close()
    with pytest.raises(LaunchDeferred, match="cannot be reached"):
        launcher.launch(request, KEY)


def test_an_answer_without_task_and_failure_is_unknown() -> None:
    with pytest.raises(LaunchUnknown, match="neither a task nor a failure"):
        read_answer({"tasks": [], "failures": []}, "RunTask")


def test_a_request_of_an_arn_alone_registers_nothing(server: EcsServer, launcher: EcsLauncher) -> None:
    request = EcsLaunch(run_task={"launchType": "FARGATE"}, definition_arn="none:1")
    with pytest.raises(LaunchRejected, match="TaskDefinition not found"):
        launcher.launch(request, KEY)
    assert server.definitions() == []


@pytest.mark.parametrize("action", ["ListTasks", "DescribeTasks"])
def test_whether_something_lives_is_unknown_when_the_agent_may_not_ask(
    server: EcsServer, launcher: EcsLauncher, action: str
) -> None:
    launch(launcher)
    server.forbidden.add(action)
    with pytest.raises(LaunchUnknown):
        launcher.find_alive(run_of().id)


def test_a_role_of_the_agents_own_that_may_not_be_passed_is_the_agents_fault(
    server: EcsServer, clients: AwsClients, clock: TurnedClock
) -> None:
    role = "arn:aws:iam::123456789012:role/the-agents"
    launcher = launcher_of(clients, clock, replace(DEFAULTS, task_role_arn=role))
    server.passable_roles = {"arn:aws:iam::123456789012:role/execution"}
    with pytest.raises(LaunchForbidden, match="the-agents"):
        launch(launcher)
    with pytest.raises(LaunchRejected) as caught:
        launch(launcher, task_role_arn="arn:aws:iam::123456789012:role/the-runs")
    assert not isinstance(caught.value, LaunchForbidden)


ROLE = "arn:aws:iam::123456789012:role/prefect-task"


@pytest.mark.parametrize("suffix", ["-admin", "2", ".admin", ",admin", "+x", "@x", "=x", "/x", "_x"])
def test_a_role_that_is_called_almost_like_the_agents_own_is_the_runs_trouble(
    server: EcsServer, clients: AwsClients, clock: TurnedClock, suffix: str
) -> None:
    launcher = launcher_of(clients, clock, replace(DEFAULTS, task_role_arn=ROLE))
    server.passable_roles = {ROLE, str(TEMPLATE["executionRoleArn"])}
    with pytest.raises(LaunchRejected, match=r"PassRole on resource") as caught:
        launch(launcher, task_role_arn=ROLE + suffix)
    assert not isinstance(caught.value, LaunchForbidden)


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ("Error retrieving subnet information for [subnet-0a, subnet-0b]", LaunchForbidden),
        ("The subnet ID 'subnet-0a' does not exist", LaunchForbidden),
        ("There is no subnet-0a.", LaunchForbidden),
        ("Error retrieving security group information for [sg-0a]", LaunchForbidden),
        ("Error retrieving subnet information for [subnet-0a1, subnet-0b]", LaunchRejected),
        ("Error retrieving security group information for [sg-0a1]", LaunchRejected),
        ("Error retrieving security group information for [my-sg-0a]", LaunchRejected),
    ],
)
def test_only_the_agents_own_subnets_and_security_groups_are_its_fault(
    server: EcsServer, clients: AwsClients, clock: TurnedClock, said: str, answer: type[LaunchRejected]
) -> None:
    network = {"awsvpcConfiguration": {"subnets": ["subnet-0a"], "securityGroups": ["sg-0a"]}}
    settings = replace(DEFAULTS, run_task_kwargs={"networkConfiguration": network})
    server.faults.add("RunTask", "error", code="InvalidParameterException", message=said)
    with pytest.raises(LaunchRejected) as caught:
        launch(launcher_of(clients, clock, settings))
    assert type(caught.value) is answer
