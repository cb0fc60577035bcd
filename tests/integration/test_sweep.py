"""The sweep of the scheduled tick: what no event told of, what it leaves alone, and Lazarus; time is turned by hand."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
import requests

from tests.integration.launched import (
    NO_IMAGE,
    NO_ROOM,
    assert_failed_with,
    begin,
    launch,
    launch_and_begin,
    state_of,
    tick_again,
)
from tests.integration.world import World


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    world = World(monkeypatch)
    yield world
    world.close()


@pytest.mark.parametrize("begins", [False, True])
def test_a_stop_that_no_event_told_of_is_found_by_the_sweep(world: World, begins: bool) -> None:
    run_id, arn = (launch_and_begin if begins else launch)(world)
    world.ecs.stop(arn, exit_code=1)
    tick_again(world, 100)
    assert_failed_with(world, run_id, arn, "exit code 1")


def test_a_lack_of_room_that_no_event_told_of_is_launched_again(world: World) -> None:
    run_id, arn = launch(world)
    world.ecs.stop(arn, **NO_ROOM)
    tick_again(world, 100, 40)
    assert state_of(world, run_id) == "Submitted"
    assert len(world.living_tasks(run_id)) == 1


def test_a_task_that_ecs_does_not_know_any_more_fails_its_run_after_an_hour_and_not_before(world: World) -> None:
    run_id, arn = launch(world)
    world.ecs.stop(arn, exit_code=1)
    world.clock.turn(3000)
    world.prefect.set_state(run_id, {"type": "Running"})
    tick_again(world, 700, 2800)
    assert state_of(world, run_id) == "Running"
    tick_again(world, 120)
    assert_failed_with(world, run_id, arn, "not known in ecs:default")


def test_a_run_that_waits_for_a_task_that_ecs_forgot_fails_after_an_hour(world: World) -> None:
    run_id, arn = launch(world)
    world.ecs.stop(arn, **NO_IMAGE)
    tick_again(world, 3700)
    assert_failed_with(world, run_id, arn, "not known in ecs:default")


def test_a_run_whose_retry_is_due_later_is_left_to_it_though_its_task_is_long_forgotten(world: World) -> None:
    run_id, arn = launch_and_begin(world)
    later = (world.clock.now() + timedelta(hours=5)).isoformat()
    world.prefect.add_task_run(run_id, {"type": "Retrying", "start_time": later, "run_count": 1})
    world.ecs.stop(arn, exit_code=0)
    tick_again(world, 60, 3700)
    assert state_of(world, run_id) == "Running"


def test_a_task_that_was_adopted_speaks_for_its_run_like_any_other(world: World) -> None:
    run_id, arn = launch(world)
    # As Lazarus does with a run whose task takes long to start: it is taken over by the next claim.
    world.prefect.set_state(run_id, {"type": "Scheduled", "start_time": world.clock.now().isoformat()})
    tick_again(world, 60)
    begin(world, run_id, arn)
    tick_again(world, 3700)
    assert (state_of(world, run_id), world.living_tasks(run_id)) == ("Running", [arn])
    world.ecs.stop(arn, exit_code=1)
    tick_again(world, 60)
    assert_failed_with(world, run_id, arn, "exit code 1")


def test_a_run_that_is_restarted_while_its_container_lives_waits_for_that_to_end_and_begins_anew(world: World) -> None:
    run_id, arn = launch_and_begin(world)
    world.prefect.set_state(run_id, {"type": "Failed", "message": "the flow's own"})
    world.prefect.set_state(run_id, {"type": "Scheduled", "start_time": world.clock.now().isoformat()})
    tick_again(world, 60, 60)
    assert (state_of(world, run_id), world.living_tasks(run_id)) == ("Scheduled", [arn])
    assert "has not ended yet" in world.prefect.flow_run(run_id)["state_message"]
    world.ecs.stop(arn)
    tick_again(world, 60)
    assert state_of(world, run_id) == "Submitted"
    assert len(set(world.living_tasks(run_id)) - {arn}) == 1


def write_log(world: World, run_id: str, message: str, info: dict[str, Any] | None) -> None:
    """A line in the run's log that is not this agent's."""
    line = {"flow_run_id": run_id, "message": message} | ({} if info is None else {"info": info})
    query = "mutation($line: write_run_log_input!) { write_run_logs(input: {logs: [$line]}) { success } }"
    answer = requests.post(world.prefect.url, json={"query": query, "variables": {"line": line}}, timeout=10)
    assert answer.json()["data"]["write_run_logs"] == {"success": True}


@pytest.mark.parametrize("info", [None, {}, {"module": "agent"}])
def test_a_run_that_another_agent_took_over_is_that_agents(world: World, info: dict[str, Any] | None) -> None:
    run_id, arn = launch(world)
    world.ecs.stop(arn, exit_code=1)
    world.prefect.set_state(run_id, {"type": "Scheduled"})
    world.prefect.set_state(run_id, {"type": "Submitted", "message": "Submitted for execution"})
    world.clock.turn(1)
    write_log(world, run_id, "Submitted for execution: Job prefect-job-1234", info)
    world.prefect.set_state(run_id, {"type": "Running"})
    before = world.prefect.flow_run(run_id)
    world.hear(*world.stop_events())
    tick_again(world, 60, 3700)
    assert world.prefect.flow_run(run_id) == before
    world.prefect.cancel(run_id)
    tick_again(world, 100, 100)
    assert state_of(world, run_id) == "Cancelling"


def test_a_flow_may_log_what_looks_like_the_sign_of_a_launch(world: World) -> None:
    run_id, arn = launch_and_begin(world)
    for number in range(6):
        world.clock.turn(1)
        write_log(world, run_id, f"Submitted for execution: batch {number}", {"levelname": "INFO"})
    tick_again(world, 60, 3700)
    assert (state_of(world, run_id), world.living_tasks(run_id)) == ("Running", [arn])
    world.ecs.stop(arn, exit_code=1)
    world.hear(*world.stop_events())
    assert_failed_with(world, run_id, arn, "exit code 1")


def test_250_living_tasks_cost_one_reading_of_prefect_and_three_questions_to_ecs(world: World) -> None:
    run_ids = [world.prefect.add_flow_run(run_config={"type": "ECSRun", "image": "flows:1"}) for _ in range(250)]
    agent = world.agent()
    agent.tick(world.clock.now() + timedelta(seconds=10))
    for task in world.ecs.tasks():
        begin(world, task["startedBy"].removeprefix("prefect/"), task["taskArn"])
    world.clock.turn(100)
    world.ecs.forget_calls()
    world.prefect.forget_requests()
    report = agent.tick(world.clock.now() + timedelta(seconds=10), recovers=True)
    assert [request.field_names[-1] for request in world.prefect.requests] == ["get_runs_in_queue", "flow_run"]
    assert [call.action for call in world.ecs.calls] == ["DescribeTasks"] * 3
    assert (report.errors, report.stops) == ([], {})
    assert {state_of(world, run_id) for run_id in run_ids} == {"Running"}


@pytest.mark.parametrize("stop", [NO_IMAGE, NO_ROOM])
def test_two_sweeps_at_once_come_to_the_same_end(world: World, stop: dict[str, Any]) -> None:
    run_id, arn = launch(world)
    world.ecs.stop(arn, **stop)
    world.clock.turn(100)
    agents = [world.agent(is_alone=False) for _ in range(2)]
    together = threading.Barrier(len(agents))

    def tick(number: int) -> None:
        together.wait(60)
        agents[number].tick(world.clock.now() + timedelta(seconds=10), recovers=True)

    threads = [threading.Thread(target=tick, args=(number,)) for number in range(len(agents))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = "Failed" if stop is NO_IMAGE else "Scheduled"
    row = world.prefect.flow_run(run_id)
    assert (row["state"], stop["reason"] in row["state_message"]) == (expected, True)
    tick_again(world, 40, 100)
    assert len(world.living_tasks(run_id)) == (0 if stop is NO_IMAGE else 1)


@pytest.mark.parametrize(
    ("change", "state"),
    [
        (lambda world, run_id: world.prefect.set_state(run_id, {"type": "Paused"}), "Paused"),
        (lambda world, run_id: world.prefect.set_state(run_id, {"type": "Success"}), "Success"),
        (lambda world, run_id: world.prefect.set_state(run_id, in_two_hours(world)), "Scheduled"),
    ],
)
@pytest.mark.parametrize("begins", [False, True])
def test_the_sweep_leaves_a_run_that_stands_on_nothing_that_was_launched(
    world: World, change: Callable[[World, str], None], state: str, begins: bool
) -> None:
    run_id, arn = (launch_and_begin if begins else launch)(world)
    change(world, run_id)
    world.ecs.stop(arn, exit_code=1)
    before = world.prefect.flow_run(run_id)
    tick_again(world, 100, 3700)
    assert before["state"] == state
    assert world.prefect.flow_run(run_id) == before


def in_two_hours(world: World) -> dict[str, str]:
    return {"type": "Scheduled", "start_time": (world.clock.now() + timedelta(hours=2)).isoformat()}


def test_a_sweep_that_freezes_while_its_run_finishes_does_not_set_it_back(monkeypatch: pytest.MonkeyPatch) -> None:
    effects = freeze_a_sweep(monkeypatch, at=99, finally_state="Failed")
    assert effects > 10, "the tick had hardly an effect to freeze at"
    # Once the states are being sent nothing holds them back: docs/reliability.md names that window.
    for at in range(effects - 2):
        freeze_a_sweep(monkeypatch, at, finally_state="Success")


def freeze_a_sweep(monkeypatch: pytest.MonkeyPatch, at: int, finally_state: str) -> int:
    """Freeze the sweep of a bad end at its effect `at`, and let the run succeed meanwhile; how many effects it had."""
    world = World(monkeypatch)
    try:
        run_id, arn = launch_and_begin(world)
        world.ecs.stop(arn, exit_code=1)
        world.clock.turn(60)
        with world.suspended_tick(at) as suspension:
            if suspension.effects > at:
                world.clock.turn(60)
                world.prefect.set_state(run_id, {"type": "Success"})
        assert state_of(world, run_id) == finally_state, f"frozen at effect {at}"
        return suspension.effects
    finally:
        world.close()


@pytest.mark.parametrize("is_retry", [False, True])
def test_lazarus_leaves_a_launch_that_takes_long_to_start(world: World, is_retry: bool) -> None:
    run_id, arn = launch(world)
    if is_retry:
        begin(world, run_id, arn)
        world.ecs.stop(arn)
        due = world.clock.now().isoformat()
        world.prefect.add_task_run(run_id, {"type": "Retrying", "start_time": due, "run_count": 1})
        tick_again(world, 10)
    revived = 0
    for _ in range(35):
        tick_again(world, 60)
        revived += world.prefect.run_lazarus()
    assert revived == 0
    assert state_of(world, run_id) == ("Running" if is_retry else "Submitted")
    assert len(world.living_tasks(run_id)) == 1
