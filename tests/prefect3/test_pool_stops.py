"""What has ended on ECS, by its events and without them: what follows for the flow run of a work pool."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.launched import NO_IMAGE, NO_ROOM, SPOT, changes
from tests.prefect3.pool_world import (
    AFTER_RUN_TASK,
    BEFORE_RUN_TASK,
    RUN_TAG,
    NamedCut,
    PoolWorld,
    assert_launched_once,
    pid_of,
)
from tests.prefect3.server import Prefect3Server

pytestmark = pytest.mark.server

HOURS = 5 * 3600


@pytest.fixture
def world(server: Prefect3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[PoolWorld]:
    world = PoolWorld(server, monkeypatch)
    yield world
    world.close()


def assert_crashed_with(world: PoolWorld, run_id: str, *parts: str) -> None:
    """It crashed once, its message has all these parts, and the same stands in its log."""
    state = world.server.state(run_id)
    assert (state["type"], state["name"]) == ("CRASHED", "Crashed")
    assert [part for part in parts if part not in state["message"]] == []
    assert world.names(run_id).count("Crashed") == 1
    assert state["message"] in world.server.logs(run_id)


# as events tell


@pytest.mark.parametrize("is_begun", [False, True])
def test_a_container_that_fails_crashes_its_run_with_the_exit_code_and_a_hint(world: PoolWorld, is_begun: bool) -> None:
    run_id, arn = (world.launch_and_begin if is_begun else world.launch)()
    world.ecs.stop(arn, exit_code=137)
    assert world.hear(*world.stop_events()) == {"failed": 1}
    assert_crashed_with(world, run_id, arn, "exit code 137", "want of memory")


def test_an_image_that_cannot_be_pulled_crashes_the_run_at_once(world: PoolWorld) -> None:
    run_id, arn = world.launch()
    world.ecs.stop(arn, **NO_IMAGE)
    assert world.hear(*world.stop_events()) == {"failed": 1}
    assert_crashed_with(world, run_id, "CannotPullContainerError", "check the image's name")


def test_a_command_that_ends_well_before_the_flow_run_began_crashes_the_run(world: PoolWorld) -> None:
    run_id, arn = world.launch()
    world.ecs.stop(arn, exit_code=0)
    assert world.hear(*world.stop_events()) == {"failed": 1}
    assert_crashed_with(world, run_id, "its command ended before the flow run began")


def test_a_start_that_never_finds_room_is_tried_four_times_and_then_crashes_the_run(world: PoolWorld) -> None:
    run_id, _ = world.launch()
    for _ in range(5):
        for arn in world.living_tasks(run_id):
            world.ecs.stop(arn, **NO_ROOM)
        # Each time everything that was ever said is said again.
        world.hear(*world.stop_events())
        world.tick_again(20)
    assert len(world.tasks_of(run_id)) == 4
    assert_crashed_with(world, run_id, "TaskFailedToStart", NO_ROOM["reason"])
    retries = [state["message"] for state in world.server.states(run_id) if state["name"] == "AwaitingRetry"]
    assert [message[:23] for message in retries] == [f"Launched again ({n} of 3)" for n in (1, 2, 3)]


def test_a_run_whose_machine_was_taken_away_runs_again_where_its_deployment_says_so(world: PoolWorld) -> None:
    run_id, arn = world.launch_and_begin(env={"AGENT_RESUBMIT": "running"})
    other, other_arn = world.launch_and_begin()
    for each in (arn, other_arn):
        world.ecs.stop(each, **SPOT)
    assert world.hear(*world.stop_events()) == {"resubmitted": 1, "failed": 1}
    world.tick_again(20)
    assert_launched_once(world, run_id, tasks=2)
    assert_crashed_with(world, other, "AGENT_RESUBMIT=running")


def test_a_task_that_ends_well_after_its_flow_has_finished_changes_nothing(world: PoolWorld) -> None:
    run_id, arn = world.launch_and_begin()
    world.server.set_state(run_id, "COMPLETED")
    world.ecs.stop(arn)
    assert changes(world.hear(*world.stop_events())) == {}
    assert world.server.state(run_id)["type"] == "COMPLETED"


def test_a_late_event_of_an_earlier_task_changes_nothing(world: PoolWorld) -> None:
    run_id, arn = world.launch()
    world.ecs.stop(arn, **NO_ROOM)
    assert world.hear(*world.stop_events()) == {"resubmitted": 1}
    assert changes(world.hear(*world.stop_events())) == {}
    world.clock.seconds += 20
    assert world.tick(NamedCut(BEFORE_RUN_TASK)) is None
    # It is claimed again, and has nothing but the earlier task's pid.
    assert (world.server.state(run_id)["type"], world.living_tasks(run_id)) == ("PENDING", [])
    assert changes(world.hear(*world.stop_events())) == {}
    world.tick_again(100)
    assert_launched_once(world, run_id, tasks=2)
    (living,) = world.living_tasks(run_id)
    world.begin(run_id, living)
    assert changes(world.hear(*world.stop_events())) == {}
    assert world.server.state(run_id)["type"] == "RUNNING"


def test_an_event_of_an_official_workers_task_changes_nothing(world: PoolWorld) -> None:
    run_id, arn = world.run_officially()
    world.ecs.stop(arn, exit_code=1)
    assert changes(world.hear(*world.stop_events())) == {}
    assert world.server.state(run_id)["type"] == "RUNNING"


@pytest.mark.parametrize("is_begun", [False, True])
def test_a_task_that_somebody_started_in_the_name_of_a_run_does_not_speak_for_it(
    world: PoolWorld, is_begun: bool
) -> None:
    run_id, arn = (world.launch_and_begin if is_begun else world.launch)()
    before = world.server.states(run_id)
    forged = [
        world.run_task(arn, f"prefect/{run_id}", **{RUN_TAG: run_id}),
        world.run_task(arn, "prefect/nobody"),
        world.run_task(arn, f"prefect/{run_id}", **{"prefect-agent:launch-key": "guessed"}),
    ]
    for each in forged:
        world.ecs.stop(each, exit_code=1)
    world.ecs.stop(arn, exit_code=0) if is_begun else None
    events = [event for event in world.stop_events() if event["detail"]["taskArn"] in forged]
    assert changes(world.hear(*events)) == {}
    world.tick_again(100)
    assert world.server.states(run_id) == before
    assert world.server.run(run_id)["infrastructure_pid"] == pid_of(arn)


# without events


@pytest.mark.parametrize("is_begun", [False, True])
def test_a_task_whose_end_nobody_told_is_found_by_the_next_tick(world: PoolWorld, is_begun: bool) -> None:
    run_id, arn = (world.launch_and_begin if is_begun else world.launch)()
    world.ecs.stop(arn, exit_code=1)
    world.tick_again(100)
    assert_crashed_with(world, run_id, arn, "exit code 1")


def test_a_start_that_found_no_room_and_of_which_nobody_told_is_launched_again(world: PoolWorld) -> None:
    run_id, arn = world.launch()
    world.ecs.stop(arn, **NO_ROOM)
    world.tick_again(100, 20)
    assert_launched_once(world, run_id, tasks=2)


@pytest.mark.parametrize("is_begun", [False, True])
def test_a_task_that_ecs_does_not_know_any_more_crashes_its_run(world: PoolWorld, is_begun: bool) -> None:
    run_id, arn = (world.launch_and_begin if is_begun else world.launch)()
    world.ecs.stop(arn, exit_code=1)
    world.tick_again(3700)
    assert_crashed_with(world, run_id, arn, "is not known in")


def test_a_run_that_began_before_its_launch_was_recorded_gets_its_pid(world: PoolWorld) -> None:
    run_id = world.add_run()
    assert world.tick(NamedCut(AFTER_RUN_TASK)) is None
    (arn,) = world.living_tasks(run_id)
    world.begin(run_id, arn)
    assert world.server.run(run_id)["infrastructure_pid"] is None
    world.tick_again(10)
    run = world.server.run(run_id)
    assert (run["state_type"], run["infrastructure_pid"]) == ("RUNNING", pid_of(arn))
    world.ecs.stop(arn, exit_code=1)
    world.tick_again(10)
    assert_crashed_with(world, run_id, "exit code 1")


def test_a_run_that_began_and_died_before_its_launch_was_recorded_crashes_with_its_exit_code(world: PoolWorld) -> None:
    run_id = world.add_run()
    assert world.tick(NamedCut(AFTER_RUN_TASK)) is None
    (arn,) = world.living_tasks(run_id)
    world.begin(run_id, arn)
    world.ecs.stop(arn, exit_code=1)
    assert world.hear(*world.stop_events()) == {"failed": 1}
    assert_crashed_with(world, run_id, arn, "exit code 1")


def test_what_runs_for_hours_is_left_alone_whoever_launched_it(world: PoolWorld) -> None:
    official, _ = world.run_officially()
    mine, _ = world.launch_and_begin()
    world.tick_again(HOURS)
    assert {world.server.state(each)["type"] for each in (official, mine)} == {"RUNNING"}


@pytest.mark.parametrize("pid", ["{arn}-gone", "other-cluster::{arn}", "arn:aws:ecs:eu-west-1:1:cluster/c::{arn}", "x"])
def test_an_official_workers_run_of_hours_ago_is_left_alone_where_its_task_cannot_be_seen_from_here(
    world: PoolWorld, pid: str
) -> None:
    run_id, _ = world.run_officially()
    arn = "arn:aws:ecs:eu-west-1:999999999999:task/c/0123456789abcdef"
    world.server.update_run(run_id, infrastructure_pid=pid.format(arn=arn))
    world.tick_again(HOURS)
    assert world.server.state(run_id)["type"] == "RUNNING"


# scheduled again


def schedule_again(world: PoolWorld) -> tuple[str, str]:
    """A run that somebody scheduled again while its task was on its way, looked at by a tick, and that task."""
    run_id, arn = world.launch()
    world.server.set_state(run_id, "SCHEDULED", "AwaitingRetry")
    world.tick_again(20)
    assert (world.server.state(run_id)["name"], world.living_tasks(run_id)) == ("AwaitingCapacity", [arn])
    return run_id, arn


def test_a_run_that_is_scheduled_again_while_its_task_is_on_its_way_is_run_by_that_task(world: PoolWorld) -> None:
    run_id, arn = schedule_again(world)
    world.begin(run_id, arn)
    world.tick_again(100)
    assert (world.server.state(run_id)["type"], len(world.tasks_of(run_id))) == ("RUNNING", 1)
    world.ecs.stop(arn, exit_code=1)
    assert world.hear(*world.stop_events()) == {"failed": 1}
    assert_crashed_with(world, run_id, arn, "exit code 1")


def test_a_run_that_is_scheduled_again_is_launched_once_its_task_has_ended(world: PoolWorld) -> None:
    run_id, arn = schedule_again(world)
    world.ecs.stop(arn, exit_code=1)
    assert changes(world.hear(*world.stop_events())) == {}
    world.tick_again(20)
    assert_launched_once(world, run_id, tasks=2)
