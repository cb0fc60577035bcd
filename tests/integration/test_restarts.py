"""A cancelled run that somebody restarts while a sweep is under way, wherever that stands still meanwhile."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from tests.integration.kubernetes_world import KubernetesWorld
from tests.integration.launched import launch, state_of
from tests.integration.world import TurnedWorld, World

MINUTE_SECONDS = 60
HARDLY_ANY_EFFECTS = 8
"""Of a tick that reads Prefect and the platform: one with less was over before anything could happen meanwhile."""


def cancel_and_sweep(world: TurnedWorld, run_id: str) -> None:
    world.prefect.cancel(run_id)
    world.clock.turn(MINUTE_SECONDS)
    world.tick()


def restart_during_a_sweep(world: TurnedWorld, run_id: str, at: int) -> bool:
    """Restart the run, and let a woken tick launch it, while a sweep stands still; whether it had not ended before."""
    world.clock.turn(MINUTE_SECONDS)
    with world.suspended_tick(at) as suspension:
        effects = suspension.effects
        world.prefect.set_state(run_id, {"type": "Scheduled", "message": "restarted by a user"})
        world.clock.turn(1)
        world.agent().tick(world.clock.now() + timedelta(seconds=10))
    return effects > at


def test_a_run_that_is_restarted_wherever_a_sweep_stands_still_keeps_its_new_task(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at, goes_on = 0, True
    while goes_on:
        with closing(World(monkeypatch)) as world:
            run_id, old = launch(world)
            cancel_and_sweep(world, run_id)
            world.ecs.stop(old, exit_code=143)
            goes_on = restart_during_a_sweep(world, run_id, at)
            (new,) = world.living_tasks(run_id)
            assert world.ecs.task(new)["desiredStatus"] == "RUNNING", f"restarted at effect {at}"
            assert (new != old, state_of(world, run_id)) == (True, "Submitted"), f"restarted at effect {at}"
        at += 1
    assert at > HARDLY_ANY_EFFECTS


def test_a_run_that_is_restarted_wherever_a_sweep_stands_still_keeps_its_new_job(tmp_path: Path) -> None:
    at, goes_on = 0, True
    while goes_on:
        with closing(KubernetesWorld(tmp_path)) as world:
            run_id = world.launch()
            cancel_and_sweep(world, run_id)
            assert world.living_jobs(run_id) == []
            goes_on = restart_during_a_sweep(world, run_id, at)
            world.clock.turn(1)
            assert len(world.living_jobs(run_id)) == 1, f"restarted at effect {at}"
            assert world.prefect.flow_run(run_id)["state"] == "Submitted", f"restarted at effect {at}"
        at += 1
    assert at > HARDLY_ANY_EFFECTS


def test_a_run_that_is_restarted_before_its_task_was_told_to_stop_begins_in_that_or_in_a_new_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at, goes_on = 0, True
    while goes_on:
        with closing(World(monkeypatch)) as world:
            run_id, old = launch(world)
            world.prefect.cancel(run_id)
            goes_on = restart_during_a_sweep(world, run_id, at)
            if world.ecs.task(old)["desiredStatus"] == "STOPPED":
                world.ecs.stop(old, exit_code=143)
            world.clock.turn(2 * MINUTE_SECONDS)
            world.tick()
            (living,) = world.living_tasks(run_id)
            assert world.ecs.task(living)["desiredStatus"] == "RUNNING", f"restarted at effect {at}"
            assert state_of(world, run_id) in ("Scheduled", "Submitted"), f"restarted at effect {at}"
        at += 1
    assert at > HARDLY_ANY_EFFECTS
