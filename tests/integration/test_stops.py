"""ECS says that a task has stopped: what the handler `task_stopped` makes of it for the task's flow run."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from chalicelib.errors import LaunchError, PrefectUnreachable
from tests.doubles.ecs import EcsServer
from tests.doubles.prefect1 import Prefect1Server
from tests.integration.lambdas import Lambdas
from tests.integration.launched import NO_IMAGE, NO_INTERFACE, NO_ROOM, SPOT, changes
from tests.integration.stage import Event, Stage, assert_failed

NO_PERMISSION = {
    "stop_code": "TaskFailedToStart",
    "reason": "ResourceInitializationError: unable to pull secrets or registry auth: unable to retrieve ecr registry "
    "auth: AccessDeniedException: not authorized to perform: ecr:GetAuthorizationToken",
}
NO_SECRET = {
    "stop_code": "TaskFailedToStart",
    "reason": "ResourceInitializationError: unable to pull secrets or registry auth: unable to retrieve secret from "
    "asm: secretsmanager: failed to fetch secret: AccessDeniedException",
}
NO_COMMAND: dict[str, Any] = {
    "stop_code": "TaskFailedToStart",
    "reason": "CannotStartContainerError: failed to create shim task: exec: prefect: executable file not found",
}
NO_MEMORY: dict[str, Any] = {
    "exit_code": 137,
    "container_reason": "OutOfMemoryError: Container killed due to memory usage",
}


@pytest.fixture
def stage(lambdas: Lambdas, prefect: Prefect1Server, ecs: EcsServer) -> Stage:
    return Stage(lambdas, prefect, ecs)


def altered(event: Event, **detail: Any) -> Event:
    return {**event, "detail": {**event["detail"], **detail}}


@pytest.mark.parametrize(
    ("stop", "hint"),
    [
        (NO_IMAGE, "check the image's name"),
        (NO_SECRET, "the execution role may read it"),
        (NO_PERMISSION, "the execution role may read it"),
        (NO_COMMAND, "check image and command"),
    ],
)
def test_a_task_that_cannot_start_fails_its_run_with_code_reason_and_hint(
    stage: Stage, stop: dict[str, Any], hint: str
) -> None:
    run_id, arn = stage.launch()
    stage.ecs.stop(arn, **stop)
    assert stage.hear(*stage.stop_events()) == {"events": 1, "stopped": {"failed": 1}}
    assert_failed(stage, run_id, arn, stop["stop_code"], stop["reason"][:40], hint)


@pytest.mark.parametrize(
    ("stop", "parts"),
    [
        (NO_MEMORY, ["EssentialContainerExited", "exit code 137", "OutOfMemoryError", "raise `memory`"]),
        ({"exit_code": 1}, ["EssentialContainerExited", "exit code 1", "the container's own log"]),
        (SPOT, ["SpotInterruption", "Your Spot Task was interrupted.", "AGENT_RESUBMIT=running"]),
    ],
)
def test_a_task_that_ends_badly_while_its_flow_runs_fails_the_run_and_what_ran_of_it(
    stage: Stage, stop: dict[str, Any], parts: list[str]
) -> None:
    run_id, arn = stage.launch(begins=True)
    running, waiting = (stage.prefect.add_task_run(run_id, {"type": kind}) for kind in ("Running", "Pending"))
    stage.ecs.stop(arn, **stop)
    assert stage.hear(*stage.stop_events())["stopped"] == {"failed": 1}
    assert_failed(stage, run_id, *parts)
    assert [stage.prefect.task_run(task_run)["state"] for task_run in (running, waiting)] == ["Failed", "Pending"]


def test_a_flow_that_ended_by_itself_is_left_as_it_is(stage: Stage) -> None:
    run_id, arn = stage.launch(begins=True)
    stage.prefect.set_state(run_id, {"type": "Success"})
    stage.ecs.stop(arn, exit_code=0)
    before = stage.look(run_id)
    assert changes(stage.hear(*stage.stop_events())["stopped"]) == {}
    assert stage.look(run_id) == before


def test_exit_0_says_nothing_against_a_flow_that_runs(stage: Stage) -> None:
    run_id, arn = stage.launch(begins=True)
    stage.ecs.stop(arn, exit_code=0)
    before = stage.look(run_id)
    stage.hear(*stage.stop_events())
    assert stage.look(run_id) == before


def test_exit_0_before_the_flow_began_fails_the_run_as_its_command_did_nothing(stage: Stage) -> None:
    run_id, arn = stage.launch()
    stage.ecs.stop(arn, exit_code=0)
    stage.hear(*stage.stop_events())
    assert_failed(stage, run_id, "exit code 0", "its command ended before the flow run began")


@pytest.mark.parametrize("stop", [NO_ROOM, NO_INTERFACE])
def test_what_passes_before_the_flow_began_waits_for_another_launch_with_the_reason(
    stage: Stage, stop: dict[str, Any]
) -> None:
    run_id, arn = stage.launch()
    stage.ecs.stop(arn, **stop)
    assert stage.hear(*stage.stop_events())["stopped"] == {"resubmitted": 1}
    row = stage.prefect.flow_run(run_id)
    assert row["state"] == "Scheduled"
    assert row["state_message"].startswith("Launched again (1 of 3)")
    assert stop["reason"] in row["state_message"]
    assert stage.prefect.logs(run_id)[-1]["message"] == row["state_message"]


@pytest.mark.parametrize(("stop", "begins"), [(NO_ROOM, False), (SPOT, True)])
def test_a_run_that_never_wants_it_is_not_launched_again(stage: Stage, stop: dict[str, Any], begins: bool) -> None:
    run_id, arn = stage.launch(resubmit="never", begins=begins)
    stage.ecs.stop(arn, **stop)
    assert stage.hear(*stage.stop_events())["stopped"] == {"failed": 1}
    assert_failed(stage, run_id, stop["reason"])


def test_a_flow_that_its_machine_was_taken_from_begins_anew_where_its_run_says_so(stage: Stage) -> None:
    run_id, arn = stage.launch(resubmit="running", begins=True)
    task_runs = [stage.prefect.add_task_run(run_id, {"type": kind}) for kind in ("Running", "Success")]
    stage.ecs.stop(arn, **SPOT)
    assert stage.hear(*stage.stop_events())["stopped"] == {"resubmitted": 1}
    assert stage.prefect.flow_run(run_id)["state"] == "Scheduled"
    assert [stage.prefect.task_run(task_run)["state"] for task_run in task_runs] == ["Pending", "Success"]


def test_a_bad_exit_is_not_launched_again_by_itself(stage: Stage) -> None:
    run_id, arn = stage.launch(resubmit="running", begins=True)
    stage.ecs.stop(arn, exit_code=1)
    stage.hear(*stage.stop_events())
    assert_failed(stage, run_id, "exit code 1")


@pytest.mark.parametrize(
    "change",
    [
        {"startedBy": "ecs-svc/1234567890"},
        {"startedBy": None},
        {"clusterArn": "arn:aws:ecs:us-east-1:123456789012:cluster/others"},
        {"lastStatus": "DEPROVISIONING"},
    ],
)
def test_an_event_of_somebody_elses_is_left_and_costs_no_request(stage: Stage, change: dict[str, Any]) -> None:
    run_id, arn = stage.launch()
    stage.ecs.stop(arn, **NO_IMAGE)
    before = stage.look(run_id)
    stage.ecs.forget_calls()
    stage.prefect.forget_requests()
    assert stage.hear(altered(stage.stop_events()[0], **change)) == {"events": 1, "stopped": {}}
    assert stage.look(run_id) == before
    assert (stage.ecs.calls, stage.prefect.requests) == ([], [])


def test_an_event_that_says_stopped_of_a_task_that_runs_is_not_believed(stage: Stage) -> None:
    run_id, _ = stage.launch(begins=True)
    before = stage.look(run_id)
    forged = altered(stage.ecs.events[-1], lastStatus="STOPPED", stopCode="TaskFailedToStart", startedAt=None)
    assert stage.hear(forged) == {"events": 1, "stopped": {}}
    assert stage.look(run_id) == before


def test_an_event_about_a_task_that_ecs_does_not_know_changes_nothing(stage: Stage) -> None:
    run_id, arn = stage.launch()
    before = stage.look(run_id)
    unknown = altered(stage.ecs.events[0], lastStatus="STOPPED", taskArn=f"{arn[:-4]}0000")
    assert stage.hear(unknown) == {"events": 1, "stopped": {}}
    assert stage.look(run_id) == before


def test_an_event_that_comes_twice_is_heeded_once(stage: Stage) -> None:
    run_id, arn = stage.launch()
    stage.ecs.stop(arn, **NO_IMAGE)
    (event,) = stage.stop_events()
    assert stage.hear(event, event)["stopped"] == {"failed": 1}
    before = stage.look(run_id)
    assert changes(stage.hear(event)["stopped"]) == {}
    assert stage.look(run_id) == before


def test_ten_events_in_one_batch_end_each_as_it_deserves_and_cost_prefect_two_requests(stage: Stage) -> None:
    stops: list[dict[str, Any]] = [NO_IMAGE, NO_ROOM, {"exit_code": 0}, NO_INTERFACE, NO_SECRET] * 2
    pairs = [stage.launch() for _ in stops]
    for (_, arn), stop in zip(pairs, stops, strict=True):
        stage.ecs.stop(arn, **stop)
    stage.ecs.forget_calls()
    stage.prefect.forget_requests()
    assert stage.hear(*stage.stop_events()) == {"events": 10, "stopped": {"failed": 6, "resubmitted": 4}}
    states = [stage.prefect.flow_run(run_id)["state"] for run_id, _ in pairs]
    assert states == ["Failed", "Scheduled", "Failed", "Scheduled", "Failed"] * 2
    assert stage.ecs.count("DescribeTasks") == 1
    # And whether something else of a run lives whose task has ended badly.
    assert stage.ecs.count("ListTasks") <= len(stops)
    signing_in = 2
    assert len(stage.prefect.requests) == signing_in + 2


def test_messages_that_are_no_events_are_left_and_those_beside_them_are_heeded(stage: Stage) -> None:
    run_id, arn = stage.launch()
    stage.ecs.stop(arn, **NO_IMAGE)
    good = json.dumps(stage.stop_events()[0])
    bad = ["", "{", "null", "[]", '"text"', "{}", '{"detail": null}', '{"detail": []}', '{"detail": {"clusterArn": 7}}']
    assert stage.lambdas.task_stopped(*bad) == {"events": len(bad), "stopped": {}}
    assert stage.lambdas.task_stopped(*bad, good)["stopped"] == {"failed": 1}
    assert_failed(stage, run_id, "CannotPullContainerError")


@pytest.mark.parametrize(
    ("change", "state"),
    [
        (lambda prefect, run_id: prefect.set_state(run_id, {"type": "Paused"}), "Paused"),
        (lambda prefect, run_id: prefect.set_state(run_id, {"type": "Success"}), "Success"),
        (lambda prefect, run_id: prefect.set_state(run_id, {"type": "Scheduled"}), "Scheduled"),
        (lambda prefect, run_id: prefect.cancel(run_id), "Cancelled"),
    ],
)
def test_a_run_that_does_not_stand_on_the_launch_any_more_is_left_alone(
    stage: Stage, change: Callable[[Prefect1Server, str], None], state: str
) -> None:
    run_id, arn = stage.launch()
    change(stage.prefect, run_id)
    stage.ecs.stop(arn, exit_code=1)
    before = stage.look(run_id)
    assert changes(stage.hear(*stage.stop_events())["stopped"]) == {}
    assert stage.look(run_id) == before
    assert before[0][0]["state"] == state


def test_a_run_that_was_deleted_does_not_stop_the_others(stage: Stage) -> None:
    pairs = [stage.launch() for _ in range(2)]
    for _, arn in pairs:
        stage.ecs.stop(arn, **NO_IMAGE)
    stage.prefect.delete_flow_run(pairs[0][0])
    assert changes(stage.hear(*stage.stop_events())["stopped"]) == {"failed": 1}
    assert_failed(stage, pairs[1][0], "CannotPullContainerError")


def test_while_prefect_is_away_the_handler_raises_and_the_next_delivery_works(stage: Stage) -> None:
    run_id, arn = stage.launch()
    stage.ecs.stop(arn, **NO_IMAGE)
    stage.prefect.faults.add(then="html", times=None)
    with pytest.raises(PrefectUnreachable):
        stage.hear(*stage.stop_events())
    stage.prefect.faults.clear()
    assert stage.hear(*stage.stop_events())["stopped"] == {"failed": 1}
    assert_failed(stage, run_id, "CannotPullContainerError")


def test_while_ecs_throttles_the_handler_raises_and_the_next_delivery_works(stage: Stage) -> None:
    run_id, arn = stage.launch()
    stage.ecs.stop(arn, **NO_IMAGE)
    stage.ecs.faults.add(when="DescribeTasks", then="throttle", times=None)
    with pytest.raises(LaunchError):
        stage.hear(*stage.stop_events())
    assert stage.prefect.flow_run(run_id)["state"] == "Submitted"
    stage.ecs.faults.clear()
    assert stage.hear(*stage.stop_events())["stopped"] == {"failed": 1}
    assert_failed(stage, run_id, "CannotPullContainerError")


def test_the_app_finds_in_a_scheduled_tick_what_no_event_told_of(stage: Stage) -> None:
    run_id, arn = stage.launch(begins=True)
    stage.ecs.stop(arn, **NO_MEMORY)
    assert stage.lambdas.tick()["stopped"] == {"failed": 1}
    assert_failed(stage, run_id, "OutOfMemoryError", "raise `memory`")
