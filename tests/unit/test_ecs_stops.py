"""Why ECS tasks stop, as AWS documents it: what is read from their descriptions and from the events about them."""

from __future__ import annotations

import json
import logging
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.errors import LaunchDeferred, LaunchError, LaunchRejected
from chalicelib.launchers.ecs_stops import answer_of_stop, read_stop, stopped_tasks
from tests.doubles.clock import TurnedClock
from tests.doubles.ecs import EcsServer

TASK = {"taskArn": "arn:task", "lastStatus": "STOPPED"}
EXITED = {"stopCode": "EssentialContainerExited", "stoppedReason": "Essential container in task exited"}
DIGEST = "sha256:2bb501e6173d9d006e56de5bce2720eb06396803300fe1687b58a7ff32bf4c14"
BACK_OFF = (
    "CannotPullContainerError: inspect image has been retried 5 time(s): httpReadSeeker: failed open: unexpected "
    f"status code https://registry-1.docker.io/v2/our-company/flows-of-the-data-team/manifests/{DIGEST}: 429 Too Many "
    "Requests - Server message: toomanyrequests: You have reached your pull rate limit."
)


def not_started(reason: str | None, **more: Any) -> dict[str, Any]:
    """A task of which no container ever ran."""
    return {**TASK, "stopCode": "TaskFailedToStart", "stoppedReason": reason, "containers": [{"name": "flow"}], **more}


def exited(code: int | None, reason: str | None = None, **more: Any) -> dict[str, Any]:
    """A task whose flow container ran and ended."""
    container = {"name": "flow", "exitCode": code, "reason": reason}
    shown = {name: value for name, value in container.items() if value is not None}
    return {**TASK, **EXITED, "startedAt": "then", "containers": [shown], **more}


class Case(NamedTuple):
    """A kind of stop, and what is to be read from it."""

    task: dict[str, Any]
    hint: str
    has_run: bool = False
    went_well: bool = False
    passes: bool = False


SPOT = {"stopCode": "SpotInterruption", "stoppedReason": "Your Spot Task was interrupted."}
SECRETS = "ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval failed: "
CASES = {
    "image not found": Case(
        not_started(
            "CannotPullContainerError: pull image manifest has been retried 1 time(s): failed to resolve ref "
            "docker.io/library/flows:9: docker.io/library/flows:9: not found"
        ),
        "check the image's name",
    ),
    "pull denied": Case(
        not_started("CannotPullContainerError: Error response from daemon: pull access denied for flows"),
        "execution role's rights",
    ),
    "no way to the registry": Case(
        not_started(
            "CannotPullContainerError: ref pull has been retried 5 time(s): failed to copy: httpReadSeeker: failed "
            "open: dial tcp 52.217.0.1:443: i/o timeout"
        ),
        "subnets' way to the registry",
    ),
    "wrong architecture": Case(
        not_started("CannotPullContainerError: image Manifest does not contain descriptor matching platform"),
        "check the image's name",
    ),
    "pull said by the container alone": Case(
        not_started(None, containers=[{"name": "flow", "reason": "CannotPullContainerError: not found"}]),
        "check the image's name",
    ),
    "registry's pull limit": Case(not_started(BACK_OFF), "check the image's name", passes=True),
    "pull limit said by the container": Case(
        not_started("Task failed to start", containers=[{"name": "flow", "reason": BACK_OFF}]),
        "check the image's name",
        passes=True,
    ),
    "secret not to be read": Case(
        not_started(SECRETS + "unable to retrieve secret from asm: AccessDeniedException"), "execution role may read it"
    ),
    "secret out of reach": Case(
        not_started(SECRETS + "unable to retrieve ecr registry auth: service call has been retried 3 time(s)"),
        "subnets reach the service",
    ),
    "secret throttled": Case(
        not_started(SECRETS + "ThrottlingException: Rate exceeded"), "execution role may read it", passes=True
    ),
    "no log group": Case(
        not_started(
            "ResourceInitializationError: failed to validate logger args: create stream has been retried 1 times: "
            "failed to create Cloudwatch log stream: ResourceNotFoundException: The specified log group does not exist."
        ),
        "log group does not exist",
    ),
    "no network interface": Case(
        not_started("Timeout waiting for network interface provisioning to complete."),
        "subnets have addresses left",
        passes=True,
    ),
    "no ephemeral storage": Case(
        not_started("Timeout waiting for EphemeralStorage provisioning to complete."), "AWS had no room", passes=True
    ),
    "no capacity": Case(
        not_started("Capacity is unavailable at this time. Please try again later or in a different availability zone"),
        "more subnets or zones help",
        passes=True,
    ),
    "no room on instances": Case(not_started("RESOURCE:MEMORY"), "AWS had no room", passes=True),
    "internal error": Case(not_started("InternalError: ECS failed"), "AWS had no room or was too busy", passes=True),
    "command not to be started": Case(
        not_started(
            "Task failed to start",
            containers=[
                {
                    "name": "flow",
                    "reason": 'CannotStartContainerError: exec: "prefect": executable file not found in $PATH',
                }
            ],
        ),
        "command cannot be run",
    ),
    "no reason at all": Case(not_started(None, containers=[]), "look at the stopped task in ECS"),
    "nothing at all": Case(dict(TASK), "look at the stopped task in ECS"),
    "Spot before it ran": Case(not_started(None, **SPOT), "AGENT_RESUBMIT=running", passes=True),
    "Spot while it ran": Case(exited(143, **SPOT), "AGENT_RESUBMIT=running", has_run=True, passes=True),
    "host terminated": Case(
        exited(None, stopCode="TerminationNotice", stoppedReason="Host EC2 (instance i-0a1b) terminated."),
        "machine was taken away",
        has_run=True,
        passes=True,
    ),
    "maintenance": Case(
        exited(137, stoppedReason="ECS is performing maintenance on the underlying infrastructure hosting the task."),
        "machine was taken away",
        has_run=True,
        passes=True,
    ),
    "out of memory": Case(
        exited(137, "OutOfMemoryError: Container killed due to memory usage"), "raise `memory`", has_run=True
    ),
    "killed": Case(exited(137), "it was killed", has_run=True),
    "terminated": Case(exited(143), "somebody or something stopped the task", has_run=True),
    "failed": Case(exited(1), "look at the container's own log", has_run=True),
    "failed with words of another": Case(exited(1, "Rate exceeded"), "exit code 1, Rate exceeded", has_run=True),
    "command not executable": Case(exited(126), "check image and command", has_run=True),
    "command not found": Case(exited(127), "check image and command", has_run=True),
    "failed with a code like another": Case(exited(12), "look at the container's own log", has_run=True),
    "stopped by somebody": Case(
        exited(None, stopCode="UserInitiated", stoppedReason="Task stopped by user"),
        "somebody or something stopped the task",
        has_run=True,
    ),
    "lost its exit code": Case(exited(None), "look at the stopped task in ECS", has_run=True),
    "ended well": Case(exited(0), "its command ended before the flow run began", has_run=True, went_well=True),
    "ended well, then its sidecar was killed": Case(
        exited(0, containers=[{"name": "log", "exitCode": 137}, {"name": "flow", "exitCode": 0}]),
        "its command ended before the flow run began",
        has_run=True,
        went_well=True,
    ),
    "failed, then its sidecar was killed": Case(
        exited(1, containers=[{"name": "log", "exitCode": 137}, {"name": "flow", "exitCode": 1}]),
        "look at the container's own log",
        has_run=True,
    ),
    "its sidecar ended well": Case(
        exited(1, containers=[{"name": "log", "exitCode": 0}, {"name": "flow", "exitCode": 1}]),
        "look at the container's own log",
        has_run=True,
    ),
    "its sidecar cannot be pulled": Case(
        not_started(
            "Task failed to start",
            containers=[{"name": "flow"}, {"name": "log", "reason": "CannotPullContainerError: not found"}],
        ),
        "check the image's name",
    ),
    "no container of ours": Case(
        exited(0, containers=[{"name": "a", "exitCode": 0}, {"name": "b", "exitCode": 1}]),
        "look at the container's own log",
        has_run=True,
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_each_kind_of_stop_is_read_as_what_it_is_with_what_to_do(case: Case) -> None:
    stop = read_stop(case.task)
    assert (stop.has_run, stop.went_well, stop.passes) == (case.has_run, case.went_well, case.passes)
    assert case.hint in stop.reason


def test_a_stopped_tasks_reason_and_exit_code_are_told() -> None:
    containers = [{"name": "flow", "exitCode": 137, "reason": "OutOfMemoryError: killed"}, {"name": "log"}]
    answer = answer_of_stop(exited(137, containers=containers))
    assert type(answer) is LaunchRejected
    assert str(answer) == (
        "Task arn:task has stopped: EssentialContainerExited; Essential container in task exited; "
        "container flow: exit code 137, OutOfMemoryError: killed "
        "(it needs more memory: raise `memory` in the run config or the job variables)"
    )


@pytest.mark.parametrize(
    ("task", "answer"),
    [
        (not_started("Capacity is unavailable at this time"), LaunchDeferred),
        (not_started("Timeout waiting for network interface provisioning"), LaunchDeferred),
        (not_started(None, **SPOT), LaunchDeferred),
        (exited(143, **SPOT), LaunchRejected),
        (not_started("CannotPullContainerError: not found"), LaunchRejected),
        (not_started(None, containers=[]), LaunchRejected),
        (exited(1, stoppedReason="Rate exceeded"), LaunchRejected),
        (not_started("Rate exceeded", containers=[{"name": "flow", "exitCode": 1}]), LaunchRejected),
        (not_started("Rate exceeded", containers=[{"name": "flow", "exitCode": None}]), LaunchDeferred),
    ],
)
def test_only_a_task_that_never_ran_for_a_reason_that_passes_is_for_now(
    task: dict[str, Any], answer: type[LaunchError]
) -> None:
    assert type(answer_of_stop(task)) is answer


WORDS = st.none() | st.builds(lambda text, times: text * times, st.text(max_size=30), st.sampled_from([1, 200]))
DESCRIPTIONS = st.fixed_dictionaries(
    {"taskArn": st.just("arn:task")},
    optional={
        "stopCode": st.none() | st.sampled_from(["TaskFailedToStart", "SpotInterruption", "UserInitiated"]),
        "stoppedReason": WORDS,
        "startedAt": st.just("then"),
        "containers": st.lists(
            st.fixed_dictionaries(
                {"name": st.sampled_from(["flow", "log", "proxy"])},
                optional={"exitCode": st.none() | st.integers(0, 255), "reason": WORDS},
            ),
            max_size=3,
        ),
    },
)


@given(task=DESCRIPTIONS)
def test_whatever_a_description_says_the_reason_is_one_line_of_bounded_length(task: dict[str, Any]) -> None:
    reason = read_stop(task).reason
    assert len(reason) < 1000
    assert len(reason.splitlines()) == 1
    assert "\x00" not in reason
    assert reason.startswith("Task arn:task has stopped: ")


@given(task=DESCRIPTIONS)
def test_what_went_well_has_run(task: dict[str, Any]) -> None:
    stop = read_stop(task)
    assert stop.has_run or not stop.went_well


# events


def event(**detail: Any) -> str:
    """An event about a task of ours, changed by `detail`."""
    ours = {
        "taskArn": "arn:aws:ecs:us-east-1:1:task/flows/1",
        "clusterArn": "arn:aws:ecs:us-east-1:1:cluster/flows",
        "startedBy": "prefect/run",
        "lastStatus": "STOPPED",
    }
    return json.dumps({"detail-type": "ECS Task State Change", "detail": {**ours, **detail}})


def test_of_the_events_of_a_tasks_life_only_its_end_counts_and_that_once() -> None:
    with EcsServer(clock=TurnedClock(), clusters=("flows",)) as server:
        ours, lives, foreign = (start_task(server, by) for by in ("prefect/one", "prefect/two", "deploy/three"))
        server.advance(lives, "RUNNING")
        server.stop(ours, exit_code=1)
        server.stop(foreign)
        bodies = [json.dumps(each) for each in server.events]
    assert len(bodies) > 5
    assert list(stopped_tasks(bodies, {"flows"})) == [ours]
    assert list(stopped_tasks(bodies * 2, {"flows"})) == [ours]
    assert list(stopped_tasks(bodies, {"others"})) == []


def start_task(server: EcsServer, started_by: str) -> str:
    """Start a task over the double's API; its ARN."""
    definition = {"family": "flow", "containerDefinitions": [{"name": "flow", "image": "flows:1", "memory": 128}]}
    server.answer("RegisterTaskDefinition", json.dumps(definition).encode())
    asked = {"taskDefinition": "flow", "cluster": "flows", "startedBy": started_by}
    status, answer = server.answer("RunTask", json.dumps(asked).encode())
    assert status == 200
    return str(answer["tasks"][0]["taskArn"])


@pytest.mark.parametrize(
    "change",
    [
        {"startedBy": "ecs-svc/123"},
        {"startedBy": None},
        {"startedBy": 7},
        {"clusterArn": "arn:aws:ecs:us-east-1:1:cluster/others"},
        {"lastStatus": "RUNNING"},
        {"lastStatus": None},
    ],
)
def test_an_event_about_something_else_is_left_out(change: dict[str, Any]) -> None:
    assert list(stopped_tasks([event(**change), event(taskArn="ours")], {"flows"})) == ["ours"]


@pytest.mark.parametrize(
    "body",
    ["", "no JSON", "null", "7", "[]", "{}", '{"detail": null}', '{"detail": []}', '{"detail": "x"}', "[" * 100_000],
)
def test_what_is_no_event_of_ecs_is_logged_and_left_out(body: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        assert list(stopped_tasks([body, event(taskArn="ours")], {"flows"})) == ["ours"]
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        "A message is left out that is no event of ECS"
    ]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
NAMES = ["taskArn", "clusterArn", "startedBy", "lastStatus"]
DETAILS = st.dictionaries(st.sampled_from(NAMES), JSON | st.sampled_from(["prefect/x", "x/flows", "STOPPED"]))
BODIES = st.text() | JSON.map(json.dumps) | DETAILS.map(lambda detail: json.dumps({"detail": detail}))


@given(bodies=st.lists(BODIES, max_size=4))
def test_whatever_comes_in_messages_the_good_ones_are_read(bodies: list[str]) -> None:
    arns = list(stopped_tasks([*bodies, event(taskArn="ours")], {"flows"}))
    assert arns[-1] == "ours"
    assert len(arns) <= len(bodies) + 1
