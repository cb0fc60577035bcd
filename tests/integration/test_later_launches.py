"""A run that was adopted, launched again or is retried stands on its latest launch, whatever became of earlier ones."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.containers import Containers
from tests.integration.world import World

CONFIG = {"type": "ECSRun", "image": "flows:1"}
ROUND_SECONDS = 100
ROUNDS_OF_OVER_AN_HOUR = 40


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    world = World(monkeypatch)
    yield world
    world.close()


@pytest.fixture
def containers(world: World) -> Containers:
    return Containers(world)


def adopted_run(world: World, containers: Containers) -> tuple[str, str]:
    """A run, and its task, which was so slow to start that Lazarus rescheduled the run, and was found again."""
    run_id = world.prefect.add_flow_run(run_config=CONFIG)
    world.tick()
    world.clock.turn(700)
    assert world.prefect.run_lazarus() == 1
    world.tick()
    (task,) = containers.living(run_id)
    assert [row["state"] for row in world.prefect.states(run_id)].count("Submitted") == 2
    return run_id, task.arn


def go_rounds(world: World, containers: Containers, count: int) -> None:
    for _ in range(count):
        world.clock.turn(ROUND_SECONDS)
        containers.send_heartbeats()
        world.tick()


def test_an_adopted_run_that_runs_for_over_an_hour_is_left_alone(world: World, containers: Containers) -> None:
    run_id, arn = adopted_run(world, containers)
    containers.begin(arn)
    go_rounds(world, containers, ROUNDS_OF_OVER_AN_HOUR)
    assert world.prefect.flow_run(run_id)["state"] == "Running"


def test_an_adopted_run_whose_task_dies_fails_within_a_round(world: World, containers: Containers) -> None:
    run_id, arn = adopted_run(world, containers)
    containers.begin(arn)
    containers.die(arn, "out of memory")
    go_rounds(world, containers, 1)
    row = world.prefect.flow_run(run_id)
    assert (row["state"], "OutOfMemory" in row["state_message"]) == ("Failed", True)


def test_an_adopted_run_that_is_cancelled_is_stopped(world: World, containers: Containers) -> None:
    run_id, arn = adopted_run(world, containers)
    world.prefect.cancel(run_id)
    go_rounds(world, containers, 1)
    assert not containers.tasks[arn].is_to_run


@pytest.mark.parametrize("end_of_the_first", ["exit 0", "exit 1"])
@pytest.mark.parametrize("tells", ["the sweep", "a late event"])
def test_a_retry_whose_launch_was_never_recorded_is_not_failed_for_the_end_of_the_first_task(
    world: World, containers: Containers, end_of_the_first: str, tells: str
) -> None:
    run_id = world.prefect.add_flow_run(run_config=CONFIG)
    world.tick()
    (first,) = containers.living(run_id)
    containers.begin(first.arn)
    containers.wait_for_retry(first.arn, 300, ends=False)
    containers.die(first.arn, end_of_the_first)
    world.clock.turn(310)
    world.prefect.faults.add("cut_before", when="write_run_logs", times=None)
    world.tick()
    world.prefect.faults.clear()
    (retry,) = containers.living(run_id)
    containers.begin(retry.arn)
    if tells == "a late event":
        world.hear(*containers.events)
    else:
        go_rounds(world, containers, ROUNDS_OF_OVER_AN_HOUR)
    assert world.prefect.flow_run(run_id)["state"] == "Running"


@pytest.mark.parametrize("at", range(22))
def test_a_sweep_that_freezes_after_its_reading_does_not_set_back_what_others_have_finished(
    world: World, containers: Containers, at: int
) -> None:
    run_id = world.prefect.add_flow_run(run_config=CONFIG)
    world.tick()
    (first,) = containers.living(run_id)
    containers.fail_to_start(first.arn, "no room")
    world.clock.turn(ROUND_SECONDS)
    with world.suspended_tick(at):
        go_rounds(world, containers, 2)
        (second,) = containers.living(run_id)
        containers.begin(second.arn)
        containers.end(second.arn, "Success")
    go_rounds(world, containers, 2)
    assert world.prefect.flow_run(run_id)["state"] == "Success"
    assert len(containers.tasks) == 2


def test_an_event_about_a_task_of_no_cluster_of_ours_does_not_hold_up_the_others(
    world: World, containers: Containers
) -> None:
    run_id = world.prefect.add_flow_run(run_config=CONFIG)
    world.tick()
    (task,) = containers.living(run_id)
    containers.begin(task.arn)
    containers.die(task.arn, "exit 1")
    (event,) = containers.events
    forged = {"detail": {**event["detail"], "taskArn": task.arn.replace("/default/", "/elsewhere/")}}
    assert world.hear(forged, event) == {"failed": 1}
