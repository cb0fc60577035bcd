"""Each function of a stage with no more of ECS than its role in infra/core.yaml allows for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.doubles.ecs import EcsServer
from tests.doubles.ecs.server import ACTIONS
from tests.doubles.prefect1 import Prefect1Server
from tests.integration.lambdas import Lambdas
from tests.integration.launched import (
    NO_IMAGE,
    NO_ROOM,
    assert_failed_with,
    launch,
    launch_and_begin,
    state_of,
    tick_again,
)
from tests.integration.stage import ECS_RUN, Stage, assert_failed
from tests.integration.world import ROUND_SECONDS, World
from tests.roles import actions_of


@pytest.fixture
def stage(lambdas: Lambdas, prefect: Prefect1Server, ecs: EcsServer) -> Stage:
    return Stage(lambdas, prefect, ecs)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    world = World(monkeypatch)
    yield world
    world.close()


def be(ecs: EcsServer, role: str) -> None:
    """Let ECS refuse all from now on that the role does not allow for."""
    ecs.forbidden.clear()
    ecs.forbidden.update(ACTIONS.keys() - actions_of(role, "ecs"))
    ecs.forget_calls()


def test_the_events_function_may_do_all_that_a_task_asks_for_that_ended_badly(stage: Stage) -> None:
    bad, unlucky, good = stage.launch(begins=True), stage.launch(), stage.launch(begins=True)
    stage.ecs.stop(bad[1], exit_code=1)
    stage.ecs.stop(unlucky[1], **NO_ROOM)
    stage.ecs.stop(good[1], exit_code=0)
    be(stage.ecs, "TaskStoppedRole")
    heard = stage.hear(*stage.stop_events())
    assert heard["stopped"] == {"failed": 1, "resubmitted": 1, "left_alone": 1}
    assert_failed(stage, bad[0], "exit code 1")
    assert stage.ecs.count("ListTasks") > 0, "it looks whether something else of the run lives"


def test_the_woken_function_may_do_all_that_a_launch_asks_for(stage: Stage) -> None:
    be(stage.ecs, "WakeRole")
    run_id = stage.prefect.add_flow_run(labels=["dev"], run_config=ECS_RUN)
    stage.lambdas.wake("{}")
    assert stage.prefect.flow_run(run_id)["state"] == "Submitted"
    assert [task["startedBy"] for task in stage.ecs.tasks()] == [f"prefect/{run_id}"]


def test_the_scheduled_function_may_do_all_that_a_launch_asks_for(stage: Stage) -> None:
    be(stage.ecs, "TickRole")
    run_id, _ = stage.launch()
    assert stage.prefect.flow_run(run_id)["state"] == "Submitted"


def test_the_scheduled_function_may_launch_what_was_claimed_and_left(world: World) -> None:
    be(world.ecs, "TickRole")
    run_id = world.prefect.add_flow_run(run_config={"type": "ECSRun", "image": "flows:1"})
    left = world.agent()
    assert len(left.prefect.claim(left.prefect.record_and_poll([], world.clock.now()), left.launcher.place)) == 1
    world.clock.turn(ROUND_SECONDS)
    report = world.tick()
    assert report is not None
    assert (report.recovered, report.errors) == (1, [])
    assert len(world.living_tasks(run_id)) == 1


def test_the_scheduled_function_may_look_for_what_an_earlier_claim_has_left_alive(world: World) -> None:
    be(world.ecs, "TickRole")
    run_id, arn = launch(world)
    world.prefect.set_state(run_id, {"type": "Scheduled", "start_time": world.clock.now().isoformat()})
    tick_again(world, 60)
    assert (state_of(world, run_id), world.living_tasks(run_id)) == ("Submitted", [arn])
    assert world.ecs.count("ListTasks") > 0


@pytest.mark.parametrize("begins", [False, True])
def test_the_scheduled_function_may_find_what_has_ended_unheard(world: World, begins: bool) -> None:
    be(world.ecs, "TickRole")
    run_id, arn = (launch_and_begin if begins else launch)(world)
    world.ecs.stop(arn, **({"exit_code": 1} if begins else NO_IMAGE))
    world.clock.turn(ROUND_SECONDS)
    report = world.tick()
    assert report is not None
    assert report.errors == []
    assert_failed_with(world, run_id, arn)


@pytest.mark.parametrize("begins", [False, True])
def test_the_scheduled_function_may_stop_the_task_of_a_cancelled_run(world: World, begins: bool) -> None:
    be(world.ecs, "TickRole")
    run_id, arn = (launch_and_begin if begins else launch)(world)
    world.prefect.cancel(run_id)
    world.clock.turn(ROUND_SECONDS)
    report = world.tick()
    assert report is not None
    assert report.errors == []
    assert world.ecs.task(arn)["desiredStatus"] == "STOPPED"


def test_the_scheduled_function_may_look_for_strays(world: World) -> None:
    be(world.ecs, "TickRole")
    run_id, arn = launch_and_begin(world)
    world.prefect.set_state(run_id, {"type": "Success"})
    now = world.clock.now()
    world.clock.turn((now.replace(hour=now.hour + 2, minute=0) - now).total_seconds())
    report = world.tick()
    assert report is not None
    assert (report.strays, report.errors) == (1, [])
    assert world.living_tasks(run_id) == [arn]
