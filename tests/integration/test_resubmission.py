"""Flow runs that are launched again by themselves, on a clock turned by hand: how often, and with which key."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chalicelib.errors import PrefectUnreachable
from tests.integration.launched import (
    NO_IMAGE,
    NO_ROOM,
    SPOT,
    assert_failed_with,
    begin,
    changes,
    keys_of,
    launch,
    launch_and_begin,
    state_of,
    tasks_of,
    tick_again,
)
from tests.integration.world import World


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    world = World(monkeypatch)
    yield world
    world.close()


def test_a_launch_that_found_no_room_is_launched_again_with_another_claim_and_key(world: World) -> None:
    run_id, arn = launch(world)
    world.ecs.stop(arn, **NO_ROOM)
    world.hear(*world.stop_events())
    tick_again(world, 40)
    first, second = keys_of(world, run_id)
    assert first != second
    assert state_of(world, run_id) == "Submitted"
    assert world.prefect.flow_run(run_id)["serialized_state"]["context"]["key"] == second
    assert len(world.living_tasks(run_id)) == 1


def test_a_launch_that_never_finds_room_is_launched_four_times_and_then_failed_with_the_reason(world: World) -> None:
    run_id, _ = launch(world)
    for _ in range(6):
        for arn in world.living_tasks(run_id):
            world.ecs.stop(arn, **NO_ROOM)
        # Each time everything that was ever said is said again.
        world.hear(*world.stop_events())
        tick_again(world, 40)
    assert len(tasks_of(world, run_id)) == 4
    assert_failed_with(world, run_id, "TaskFailedToStart", NO_ROOM["reason"])
    history = [state["message"] for state in world.prefect.states(run_id) if state["state"] == "Scheduled"]
    assert [message[:23] for message in history[1:]] == [f"Launched again ({n} of 3)" for n in (1, 2, 3)]


def test_starts_and_machines_that_were_taken_away_are_counted_together(world: World) -> None:
    run_id, arn = launch(world, resubmit="running")
    world.ecs.stop(arn, **NO_ROOM)
    for _ in range(4):
        world.hear(*world.stop_events())
        tick_again(world, 40)
        for again in world.living_tasks(run_id):
            begin(world, run_id, again)
            world.ecs.stop(again, **SPOT)
    assert len(tasks_of(world, run_id)) == 4
    assert_failed_with(world, run_id, "SpotInterruption")


def test_a_launch_that_is_given_back_in_between_goes_on_counting(world: World) -> None:
    run_id, arn = launch(world)
    world.ecs.stop(arn, **NO_ROOM)
    world.hear(*world.stop_events())
    world.ecs.faults.add(when="RunTask", then="failure")
    tick_again(world, 40, 40)
    world.ecs.stop(world.living_tasks(run_id)[0], **NO_ROOM)
    world.hear(*world.stop_events())
    assert world.prefect.flow_run(run_id)["state_message"].startswith("Launched again (2 of 3)")


def test_a_run_whose_machine_was_taken_away_runs_again_where_it_says_so(world: World) -> None:
    run_id, arn = launch_and_begin(world, resubmit="running")
    task_run = world.prefect.add_task_run(run_id, {"type": "Running"})
    world.ecs.stop(arn, **SPOT)
    world.hear(*world.stop_events())
    tick_again(world, 40)
    assert (state_of(world, run_id), world.prefect.task_run(task_run)["state"]) == ("Submitted", "Pending")
    assert len(world.living_tasks(run_id)) == 1


def test_an_event_about_an_earlier_launch_does_not_touch_the_present_one(world: World) -> None:
    run_id, arn = launch(world)
    world.ecs.stop(arn, **NO_ROOM)
    world.hear(*world.stop_events())
    tick_again(world, 40)
    assert changes(world.hear(*world.stop_events())) == {}
    begin(world, run_id, world.living_tasks(run_id)[0])
    assert changes(world.hear(*world.stop_events())) == {}
    assert state_of(world, run_id) == "Running"


def test_an_event_that_is_faster_than_the_record_of_its_launch_is_heeded(world: World) -> None:
    run_id = world.prefect.add_flow_run(run_config={"type": "ECSRun", "image": "flows:1"})
    world.prefect.faults.add(then="cut_before", when="write_run_logs", times=None)
    world.tick()
    world.ecs.stop(world.living_tasks(run_id)[0], **NO_IMAGE)
    world.prefect.faults.clear()
    assert world.prefect.logs(run_id) == []
    assert world.hear(*world.stop_events()) == {"failed": 1}
    assert_failed_with(world, run_id, "CannotPullContainerError")


def test_an_event_whose_states_prefect_does_not_take_now_comes_again(world: World) -> None:
    run_id, arn = launch(world)
    world.ecs.stop(arn, **NO_IMAGE)
    world.prefect.faults.add(then="api_error", when="set_flow_run_states", times=None)
    with pytest.raises(PrefectUnreachable):
        world.hear(*world.stop_events())
    world.prefect.faults.clear()
    assert world.hear(*world.stop_events()) == {"failed": 1}
    assert_failed_with(world, run_id, "CannotPullContainerError")


def test_a_retry_whose_task_found_no_room_waits_as_the_retry_that_it_was(world: World) -> None:
    run_id, arn = launch_and_begin(world)
    world.ecs.stop(arn)
    due = world.clock.now().isoformat()
    task_run = world.prefect.add_task_run(run_id, {"type": "Retrying", "start_time": due, "run_count": 2})
    tick_again(world, 10)
    world.ecs.stop(world.living_tasks(run_id)[0], **NO_ROOM)
    assert changes(world.hear(*world.stop_events())) == {"resubmitted": 1}
    state = world.prefect.task_run(task_run)["serialized_state"]
    assert (state["type"], state["run_count"]) == ("Retrying", 2)
    tick_again(world, 40)
    assert (state_of(world, run_id), world.prefect.task_run(task_run)["state"]) == ("Running", "Submitted")
    assert len(world.living_tasks(run_id)) == 1
