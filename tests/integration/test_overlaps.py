"""Ticks that overlap, and one that is frozen between two effects and goes on later: each run is launched once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest

from tests.integration.world import Cut, World

EFFECTS_OF_A_TICK = 20
"""Of a process that signs in, recovers, and starts one run."""

SENDING_OF_RUN_TASK = 16
"""After its last check nothing holds a request back: docs/reliability.md names that window."""


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    world = World(monkeypatch)
    yield world
    world.close()


def add_runs(world: World, count: int) -> list[str]:
    return [world.prefect.add_flow_run(run_config={"type": "ECSRun", "image": "flows:1"}) for _ in range(count)]


def tick_again(world: World, *after_seconds: float) -> None:
    for seconds in after_seconds:
        world.clock.turn(seconds)
        world.tick()


def assert_one_task_each(world: World, run_ids: list[str]) -> None:
    states = {run_id: world.prefect.flow_run(run_id)["state"] for run_id in run_ids}
    assert states == dict.fromkeys(run_ids, "Submitted")
    assert {run_id: len(world.living_tasks(run_id)) for run_id in run_ids} == dict.fromkeys(run_ids, 1)
    assert len(world.ecs.tasks()) == len(run_ids)


def test_a_tick_has_as_many_effects_as_these_tests_freeze_it_at(world: World) -> None:
    add_runs(world, 1)
    effects = Cut()
    world.tick(effects)
    assert effects.effects == EFFECTS_OF_A_TICK


@pytest.mark.parametrize("frozen_seconds", [61, 200])
@pytest.mark.parametrize("at", range(EFFECTS_OF_A_TICK))
def test_a_tick_that_freezes_while_others_go_on_launches_nothing_twice(
    world: World, at: int, frozen_seconds: int
) -> None:
    run_ids = add_runs(world, 1)
    with world.suspended_tick(at):
        world.clock.turn(frozen_seconds)
        tick_again(world, 0, 1)
    tick_again(world, 100, 100)
    assert_one_task_each(world, run_ids)


@pytest.mark.parametrize("at", [at for at in range(EFFECTS_OF_A_TICK) if at != SENDING_OF_RUN_TASK])
def test_a_tick_that_freezes_until_lazarus_has_given_its_run_to_another_claim_launches_nothing_twice(
    world: World, at: int
) -> None:
    (run_id,) = add_runs(world, 1)
    with world.suspended_tick(at):
        world.clock.turn(700)
        world.prefect.run_lazarus()
        tick_again(world, 0, 1)
    tick_again(world, 100, 100)
    assert_one_task_each(world, [run_id])


def test_many_ticks_at_once_launch_each_run_once(world: World) -> None:
    run_ids = add_runs(world, 40)
    agents = [world.agent(is_alone=False) for _ in range(4)]
    together = threading.Barrier(len(agents))

    def tick(number: int) -> None:
        together.wait(60)
        agents[number].tick(world.clock.now() + timedelta(seconds=30), recovers=True)

    threads = [threading.Thread(target=tick, args=(number,)) for number in range(len(agents))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    world.clock.turn(100)
    world.tick()
    assert_one_task_each(world, run_ids)
