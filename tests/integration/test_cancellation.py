"""Flow runs that somebody cancelled, and tasks that run without need: how the agent ends them, and when."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chalicelib.sweep import Manners
from tests.integration.launched import begin, changes, launch, launch_and_begin, state_of, tick_again
from tests.integration.test_overlaps import SENDING_OF_RUN_TASK
from tests.integration.world import Cut, World


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    world = World(monkeypatch)
    yield world
    world.close()


def is_to_stop(world: World, arn: str) -> bool:
    return bool(world.ecs.task(arn)["desiredStatus"] == "STOPPED")


def end_what_is_to_stop(world: World) -> None:
    """As ECS does some seconds after StopTask."""
    for task in world.ecs.tasks():
        if task["desiredStatus"] == "STOPPED" and task["lastStatus"] != "STOPPED":
            world.ecs.stop(task["taskArn"], exit_code=143)


def test_the_task_of_a_run_that_is_cancelled_before_its_flow_began_is_stopped_by_the_next_tick(world: World) -> None:
    run_id, arn = launch(world)
    world.prefect.cancel(run_id)
    tick_again(world, 10)
    assert is_to_stop(world, arn)
    end_what_is_to_stop(world)
    assert changes(world.hear(*world.stop_events())) == {}
    tick_again(world, 60)
    assert (state_of(world, run_id), world.living_tasks(run_id)) == ("Cancelled", [])
    assert world.ecs.task(arn)["stoppedReason"] == "The flow run was cancelled"


def test_a_container_that_has_just_begun_when_its_run_is_cancelled_has_its_grace(world: World) -> None:
    run_id, arn = launch(world)
    world.ecs.advance(arn, "RUNNING")
    world.prefect.cancel(run_id)
    tick_again(world, 50)
    assert not is_to_stop(world, arn)
    tick_again(world, 20)
    assert is_to_stop(world, arn)


@pytest.mark.parametrize("is_heard", [True, False])
def test_a_flow_that_does_not_end_in_its_grace_is_stopped_and_its_run_confirmed_as_cancelled(
    world: World, is_heard: bool
) -> None:
    run_id, arn = launch_and_begin(world)
    world.prefect.cancel(run_id)
    tick_again(world, 50)
    assert (state_of(world, run_id), is_to_stop(world, arn)) == ("Cancelling", False)
    tick_again(world, 20)
    assert (state_of(world, run_id), is_to_stop(world, arn)) == ("Cancelling", True)
    end_what_is_to_stop(world)
    if is_heard:
        assert world.hear(*world.stop_events()) == {"cancelled": 1}
    else:
        tick_again(world, 60)
    row = world.prefect.flow_run(run_id)
    assert row["state"] == "Cancelled"
    assert "UserInitiated; The flow run was cancelled" in row["state_message"]
    assert row["state_message"].endswith(world.prefect.logs(run_id)[-1]["message"])


def test_a_flow_that_ends_by_itself_in_its_grace_is_not_touched(world: World) -> None:
    run_id, arn = launch_and_begin(world)
    world.prefect.cancel(run_id)
    tick_again(world, 30)
    world.prefect.set_state(run_id, {"type": "Cancelled", "message": "Flow run was cancelled"})
    world.ecs.stop(arn)
    assert changes(world.hear(*world.stop_events())) == {}
    tick_again(world, 60)
    assert world.prefect.flow_run(run_id)["state_message"] == "Flow run was cancelled"
    assert world.ecs.count("StopTask") == 0


def test_a_flow_that_dies_in_its_grace_without_a_word_is_confirmed_as_cancelled(world: World) -> None:
    run_id, arn = launch_and_begin(world)
    world.prefect.cancel(run_id)
    world.ecs.stop(arn, exit_code=137)
    assert world.hear(*world.stop_events()) == {"cancelled": 1}
    assert state_of(world, run_id) == "Cancelled"


def test_the_grace_is_as_long_as_the_settings_say(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, Manners(cancel_grace_seconds=300))
    try:
        run_id, arn = launch_and_begin(world)
        world.prefect.cancel(run_id)
        tick_again(world, 290)
        assert not is_to_stop(world, arn)
        tick_again(world, 20)
        assert is_to_stop(world, arn)
    finally:
        world.close()


def test_a_cancelled_run_is_not_launched_again_though_its_machine_was_taken_away(world: World) -> None:
    run_id, arn = launch_and_begin(world, resubmit="running")
    world.prefect.cancel(run_id)
    world.ecs.stop(arn, "SpotInterruption", "Your Spot Task was interrupted.", 143)
    assert world.hear(*world.stop_events()) == {"cancelled": 1}
    tick_again(world, 40, 60)
    assert (state_of(world, run_id), world.living_tasks(run_id)) == ("Cancelled", [])


@pytest.mark.parametrize("at", range(SENDING_OF_RUN_TASK - 2, SENDING_OF_RUN_TASK + 3))
def test_a_run_that_is_cancelled_between_its_claim_and_the_record_of_its_launch_ends_without_a_task(
    world: World, at: int
) -> None:
    run_id = world.prefect.add_flow_run(run_config={"type": "ECSRun", "image": "flows:1"})
    world.tick(Cut(at))
    assert state_of(world, run_id) == "Submitted"
    world.prefect.cancel(run_id)
    for seconds in (10, 60, 60):
        tick_again(world, seconds)
        end_what_is_to_stop(world)
    assert (state_of(world, run_id), world.living_tasks(run_id)) == ("Cancelled", [])
    assert len(world.ecs.tasks()) == (at > SENDING_OF_RUN_TASK)


@pytest.mark.parametrize("at", range(SENDING_OF_RUN_TASK - 2, SENDING_OF_RUN_TASK + 3))
def test_a_run_that_is_cancelled_just_before_its_tick_launches_it_ends_without_a_task(world: World, at: int) -> None:
    run_id = world.prefect.add_flow_run(run_config={"type": "ECSRun", "image": "flows:1"})
    with world.suspended_tick(at):
        world.prefect.cancel(run_id)
        tick_again(world, 10)
        end_what_is_to_stop(world)
    for seconds in (10, 60, 60):
        tick_again(world, seconds)
        end_what_is_to_stop(world)
    assert (state_of(world, run_id), world.living_tasks(run_id)) == ("Cancelled", [])


def test_a_flow_whose_launch_was_never_recorded_is_stopped_and_confirmed_all_the_same(world: World) -> None:
    run_id = world.prefect.add_flow_run(run_config={"type": "ECSRun", "image": "flows:1"})
    world.tick(Cut(SENDING_OF_RUN_TASK + 1))
    (arn,) = world.living_tasks(run_id)
    begin(world, run_id, arn)
    world.prefect.cancel(run_id)
    tick_again(world, 30)
    assert not is_to_stop(world, arn)
    tick_again(world, 40)
    assert is_to_stop(world, arn)
    end_what_is_to_stop(world)
    tick_again(world, 60)
    assert state_of(world, run_id) == "Cancelled"


def test_a_run_that_is_cancelled_while_its_retry_starts_has_that_task_stopped(world: World) -> None:
    run_id, arn = launch_and_begin(world)
    world.ecs.stop(arn)
    due = world.clock.now().isoformat()
    world.prefect.add_task_run(run_id, {"type": "Retrying", "start_time": due, "run_count": 1})
    tick_again(world, 10)
    (retry,) = world.living_tasks(run_id)
    world.prefect.cancel(run_id)
    tick_again(world, 10)
    assert is_to_stop(world, retry)
    end_what_is_to_stop(world)
    assert changes(world.hear(*world.stop_events())) == {"cancelled": 1}
    assert state_of(world, run_id) == "Cancelled"


def test_a_run_that_is_cancelled_between_its_tasks_is_confirmed_by_the_next_tick(world: World) -> None:
    run_id, arn = launch_and_begin(world)
    world.ecs.stop(arn)
    world.prefect.add_task_run(run_id, {"type": "Retrying", "start_time": "2026-11-20T18:00:00+00:00", "run_count": 1})
    world.prefect.cancel(run_id)
    tick_again(world, 10)
    assert state_of(world, run_id) == "Cancelled"


def test_a_task_that_may_not_be_stopped_is_an_error_of_the_report_and_tried_again(world: World) -> None:
    run_id, arn = launch(world)
    world.prefect.cancel(run_id)
    world.ecs.forbidden.add("StopTask")
    report = world.tick()
    assert report
    (error,) = report.errors
    assert (arn in error, run_id in error, "StopTask" in error) == (True, True, True)
    world.ecs.forbidden.clear()
    tick_again(world, 60)
    assert is_to_stop(world, arn)


def test_a_run_that_is_restarted_after_it_was_cancelled_keeps_its_new_task(world: World) -> None:
    run_id, arn = launch(world)
    world.prefect.cancel(run_id)
    tick_again(world, 40)
    end_what_is_to_stop(world)
    world.prefect.set_state(run_id, {"type": "Scheduled", "start_time": world.clock.now().isoformat()})
    tick_again(world, 40, 60, 60)
    (new,) = world.living_tasks(run_id)
    assert (new != arn, is_to_stop(world, new)) == (True, False)
    assert state_of(world, run_id) == "Submitted"


# what runs without need


def finish_while_its_task_lives(world: World) -> str:
    """A run that has succeeded at 12:30 and whose task goes on."""
    run_id, arn = launch_and_begin(world)
    world.prefect.set_state(run_id, {"type": "Success"})
    return arn


def test_a_task_alive_an_hour_after_its_run_has_finished_is_reported(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    arn = finish_while_its_task_lives(world)
    launch_and_begin(world)
    world.clock.turn(31 * 60)
    early = world.tick()
    world.clock.turn(60 * 60)
    report = world.tick()
    assert early and report
    assert (early.strays, report.strays, report.as_dict()["strays"]) == (0, 1, 1)
    assert [arn in record.getMessage() for record in caplog.records if "long finished" in record.getMessage()] == [True]
    assert world.ecs.count("StopTask") == 0


def test_strays_are_looked_for_in_the_first_minutes_of_each_hour_only(world: World) -> None:
    finish_while_its_task_lives(world)
    world.clock.turn(96 * 60)
    world.ecs.forget_calls()
    report = world.tick()
    assert report and report.strays == 0
    assert world.ecs.calls == []


@pytest.mark.parametrize(("strays", "is_stopped"), [("stop", True), ("ignore", False)])
def test_strays_are_stopped_or_ignored_where_the_settings_say_so(
    monkeypatch: pytest.MonkeyPatch, strays: str, is_stopped: bool
) -> None:
    world = World(monkeypatch, Manners(strays=strays))
    try:
        arn = finish_while_its_task_lives(world)
        _, needed = launch_and_begin(world)
        world.clock.turn(91 * 60)
        report = world.tick()
        desired = [world.ecs.task(each)["desiredStatus"] for each in (arn, needed)]
        assert desired == ["STOPPED" if is_stopped else "RUNNING", "RUNNING"]
        assert report and report.strays == is_stopped
    finally:
        world.close()
