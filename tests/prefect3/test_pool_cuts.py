"""A process that serves a work pool and is cut off, or frozen, at any effect loses nothing and starts nothing twice.

One tick after the other is cut, each an effect later and each with a run that is due; then two rounds are let through.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.integration.launched import NO_IMAGE, NO_ROOM
from tests.integration.world import Cut
from tests.prefect3.pool_world import ROUND_SECONDS, PoolWorld, assert_launched_once
from tests.prefect3.server import Prefect3Server

pytestmark = pytest.mark.server

MOST_EFFECTS = 44
"""More than any act has here that is not cut off."""


@pytest.fixture
def world(server: Prefect3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[PoolWorld]:
    world = PoolWorld(server, monkeypatch)
    yield world
    world.close()


def cut_ticks(world: PoolWorld, make_due: Callable[[], str]) -> list[str]:
    """The runs that were due in ticks of which each was cut an effect later, until one was not; two rounds later."""
    run_ids = [make_due()]
    for at in range(MOST_EFFECTS):
        if world.server.state(run_ids[-1])["name"] not in ("Scheduled", "Late", "AwaitingRetry"):
            run_ids.append(make_due())
        if world.tick(Cut(at)) is not None:
            break
    else:
        raise AssertionError("there is always one more effect to cut at")
    assert len(run_ids) > 9, "there was hardly an effect to cut at"
    world.tick_again(ROUND_SECONDS, ROUND_SECONDS)
    return run_ids


def launch_many(world: PoolWorld, count: int = MOST_EFFECTS) -> list[tuple[str, str]]:
    """Runs that were launched, each with its task."""
    run_ids = [world.add_run() for _ in range(count)]
    world.tick()
    return [(run_id, arn) for run_id in run_ids for arn in world.living_tasks(run_id)]


def test_fresh_runs_are_launched_once_wherever_the_tick_is_cut(world: PoolWorld) -> None:
    for run_id in cut_ticks(world, world.add_run):
        assert_launched_once(world, run_id)


@pytest.mark.parametrize("is_alive", [False, True])
def test_runs_that_were_launched_before_have_one_task_wherever_the_tick_is_cut(
    world: PoolWorld, is_alive: bool
) -> None:
    launched = launch_many(world)

    def make_due() -> str:
        run_id, arn = launched.pop()
        if not is_alive:
            world.ecs.stop(arn, **NO_ROOM)
        assert world.server.set_state(run_id, "SCHEDULED", "AwaitingRetry")["status"] == "ACCEPT"
        return run_id

    for run_id in cut_ticks(world, make_due):
        if is_alive:
            # It waits for the task that lives, which will run it.
            assert world.server.state(run_id)["name"] == "AwaitingCapacity"
            assert (len(world.living_tasks(run_id)), len(world.tasks_of(run_id))) == (1, 1)
        else:
            assert_launched_once(world, run_id, tasks=2)


@pytest.mark.parametrize("is_passing", [False, True])
def test_a_launch_that_could_not_start_has_one_consequence_wherever_the_hearing_of_it_is_cut(
    world: PoolWorld, is_passing: bool
) -> None:
    launched = launch_many(world, 28)
    for _, arn in launched:
        world.ecs.stop(arn, **(NO_ROOM if is_passing else NO_IMAGE))
    events = {event["detail"]["taskArn"]: event for event in world.stop_events()}
    heard = [world.hear(events[arn], cut=Cut(at)) for at, (_, arn) in enumerate(launched)]
    assert (heard[9], heard[-1]) == (None, {"resubmitted" if is_passing else "failed": 1})
    world.tick_again(ROUND_SECONDS, ROUND_SECONDS)
    for run_id, _ in launched:
        if is_passing:
            assert_launched_once(world, run_id, tasks=2)
            assert world.names(run_id).count("AwaitingRetry") == 1
        else:
            assert world.server.state(run_id)["name"] == "Crashed"
            assert (world.names(run_id).count("Crashed"), len(world.tasks_of(run_id))) == (1, 1)


def test_a_tick_that_freezes_at_any_effect_while_others_go_on_launches_nothing_twice(world: PoolWorld) -> None:
    effects = Cut()
    run_ids = [world.add_run()]
    world.tick(effects)
    with ExitStack() as frozen:
        for at in range(effects.effects):
            if world.server.state(run_ids[-1])["type"] != "SCHEDULED":
                run_ids.append(world.add_run())
            frozen.enter_context(world.suspended_tick(at))
        world.tick_again(ROUND_SECONDS)
    world.tick_again(ROUND_SECONDS)
    assert len(run_ids) > 9
    for run_id in run_ids:
        assert_launched_once(world, run_id)
