"""A run of a work pool that is cancelled and restarted while a sweep is under way, wherever that stands still."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.prefect3.pool_world import AFTER_RUN_TASK, TICK_SECONDS, NamedCut, PoolWorld, assert_launched_once
from tests.prefect3.server import Prefect3Server

pytestmark = pytest.mark.server


@pytest.mark.parametrize("is_recorded", [True, False])
def test_a_run_that_is_restarted_wherever_a_sweep_stands_still_keeps_its_new_task(
    server: Prefect3Server, monkeypatch: pytest.MonkeyPatch, is_recorded: bool
) -> None:
    at, goes_on = 0, True
    while goes_on:
        world = PoolWorld(server, monkeypatch)
        try:
            run_id = world.add_run()
            world.tick(None if is_recorded else NamedCut(AFTER_RUN_TASK))
            (old,) = world.living_tasks(run_id)
            server.set_state(run_id, "CANCELLING")
            world.ecs.stop(old, exit_code=143)
            with world.suspended_tick(at) as suspension:
                goes_on = suspension.effects > at
                # The server itself gives a cancellation up for confirmed after a while.
                server.set_state(run_id, "CANCELLED", force=True)
                server.set_state(run_id, "SCHEDULED", "AwaitingRetry", force=True)
                world.agent().tick(world.clock.now() + timedelta(seconds=TICK_SECONDS))
            world.tick_again(1)
            assert_launched_once(world, run_id, tasks=2)
            assert not world.is_to_stop(world.living_tasks(run_id)[0]), f"restarted at effect {at}"
        finally:
            world.close()
        at += 2
    assert at > 10, "there was hardly an effect to restart at"
