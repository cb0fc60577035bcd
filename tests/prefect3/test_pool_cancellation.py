"""Cancelled flow runs of a work pool: how the agent ends them, and before the server gives up on them itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.prefect3.pool_world import AFTER_CLAIM, AFTER_RUN_TASK, BEFORE_RUN_TASK, NamedCut, PoolWorld
from tests.prefect3.server import Prefect3Server

pytestmark = pytest.mark.server

SERVERS_PATIENCE_SECONDS = 300
"""After which the server takes a cancellation for confirmed, whatever still runs."""


@pytest.fixture
def world(server: Prefect3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[PoolWorld]:
    world = PoolWorld(server, monkeypatch)
    yield world
    world.close()


def cancel(world: PoolWorld, run_id: str) -> None:
    assert world.server.set_state(run_id, "CANCELLING")["status"] == "ACCEPT"


@pytest.mark.parametrize("is_heard", [True, False])
def test_the_task_of_a_run_that_is_cancelled_before_its_flow_began_is_stopped_at_once_and_the_run_confirmed(
    world: PoolWorld, is_heard: bool
) -> None:
    run_id, arn = world.launch()
    cancel(world, run_id)
    world.tick_again(10)
    assert world.is_to_stop(arn)
    world.end_what_is_to_stop()
    if is_heard:
        assert world.hear(*world.stop_events()) == {"cancelled": 1}
    else:
        world.tick_again(60)
    state = world.server.state(run_id)
    assert (state["type"], state["name"]) == ("CANCELLED", "Cancelled")
    assert "UserInitiated; The flow run was cancelled" in state["message"]
    assert world.server.logs(run_id)[-1] in state["message"]
    assert world.clock.seconds < SERVERS_PATIENCE_SECONDS


@pytest.mark.parametrize("is_heard", [True, False])
def test_a_flow_that_does_not_end_in_its_grace_is_stopped_and_its_run_confirmed_as_cancelled(
    world: PoolWorld, is_heard: bool
) -> None:
    run_id, arn = world.launch_and_begin()
    cancel(world, run_id)
    world.tick_again(50)
    assert (world.server.state(run_id)["type"], world.is_to_stop(arn)) == ("CANCELLING", False)
    world.tick_again(20)
    assert (world.server.state(run_id)["type"], world.is_to_stop(arn)) == ("CANCELLING", True)
    world.end_what_is_to_stop()
    if is_heard:
        assert world.hear(*world.stop_events()) == {"cancelled": 1}
    else:
        world.tick_again(60)
    assert world.server.state(run_id)["type"] == "CANCELLED"
    assert world.clock.seconds < SERVERS_PATIENCE_SECONDS


def test_a_flow_that_ends_by_itself_in_its_grace_is_not_touched(world: PoolWorld) -> None:
    run_id, arn = world.launch_and_begin()
    cancel(world, run_id)
    world.tick_again(30)
    world.server.set_state(run_id, "CANCELLED", message="Flow run was cancelled successfully.")
    world.ecs.stop(arn)
    assert world.hear(*world.stop_events()) == {"left_alone": 1}
    world.tick_again(60)
    assert world.server.state(run_id)["message"] == "Flow run was cancelled successfully."
    assert world.ecs.count("StopTask") == 0


def test_what_still_runs_once_its_run_counts_as_cancelled_is_stopped(world: PoolWorld) -> None:
    run_id, arn = world.launch_and_begin()
    cancel(world, run_id)
    world.server.set_state(run_id, "CANCELLED", message="Flow run cancellation timed out")
    world.tick_again(70)
    assert world.is_to_stop(arn)


@pytest.mark.parametrize("is_begun", [False, True])
def test_a_run_whose_task_died_before_it_could_cancel_is_confirmed(world: PoolWorld, is_begun: bool) -> None:
    run_id, arn = (world.launch_and_begin if is_begun else world.launch)()
    cancel(world, run_id)
    world.ecs.stop(arn, exit_code=137)
    assert world.hear(*world.stop_events()) == {"cancelled": 1}
    assert world.server.state(run_id)["type"] == "CANCELLED"


@pytest.mark.parametrize("mark", [AFTER_CLAIM, BEFORE_RUN_TASK, AFTER_RUN_TASK])
def test_a_run_that_is_cancelled_between_its_claim_and_the_record_of_its_launch_ends_without_a_task(
    world: PoolWorld, mark: str
) -> None:
    run_id = world.add_run()
    assert world.tick(NamedCut(mark)) is None
    assert world.server.state(run_id)["type"] == "PENDING"
    cancel(world, run_id)
    for seconds in (10, 60, 60):
        world.tick_again(seconds)
        world.end_what_is_to_stop()
    assert (world.server.state(run_id)["type"], world.living_tasks(run_id)) == ("CANCELLED", [])
    assert len(world.tasks_of(run_id)) == (mark == AFTER_RUN_TASK)
    assert world.clock.seconds < SERVERS_PATIENCE_SECONDS


def test_an_official_workers_claim_that_is_cancelled_before_its_launch_is_left_to_the_server(world: PoolWorld) -> None:
    run_id = world.add_run()
    world.server.set_state(run_id, "PENDING")
    cancel(world, run_id)
    world.tick_again(10, 60)
    assert world.server.state(run_id)["type"] == "CANCELLING"


def test_an_official_workers_flow_that_is_cancelled_is_left_to_that_worker(world: PoolWorld) -> None:
    run_id, arn = world.run_officially()
    cancel(world, run_id)
    world.tick_again(50, 20, 100)
    assert (world.server.state(run_id)["type"], world.is_to_stop(arn)) == ("CANCELLING", False)


def test_a_cancelled_run_is_not_launched_again_though_its_machine_was_taken_away(world: PoolWorld) -> None:
    run_id, arn = world.launch_and_begin(env={"AGENT_RESUBMIT": "running"})
    cancel(world, run_id)
    world.ecs.stop(arn, "SpotInterruption", "Your Spot Task was interrupted.", 143)
    assert world.hear(*world.stop_events()) == {"cancelled": 1}
    world.tick_again(40, 60)
    assert (world.server.state(run_id)["type"], len(world.tasks_of(run_id))) == ("CANCELLED", 1)
