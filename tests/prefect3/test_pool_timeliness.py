"""Runs of a work pool that are due in a while: each is launched so long before its time as its pool says."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import pytest

from tests.prefect3.pool_world import PoolWorld
from tests.prefect3.server import Prefect3Server

pytestmark = pytest.mark.server

LATE_SECONDS = 15
"""After which the server calls a run late that nobody has claimed."""


@pytest.fixture
def world(server: Prefect3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[PoolWorld]:
    world = PoolWorld(server, monkeypatch)
    yield world
    world.close()


def launched(world: PoolWorld, run_ids: list[str]) -> list[int]:
    return [len(world.tasks_of(run_id)) for run_id in run_ids]


def test_each_pool_has_its_own_lead(world: PoolWorld) -> None:
    early, late = world.add_pool(), world.add_pool()
    world.settings["AGENT_LEAD_SECONDS"] = f"{early}=60,{late}=0"
    runs = {
        pool: [world.server.create_run(world.deployments[pool], in_seconds) for in_seconds in (50, 200)]
        for pool in (early, late)
    }
    world.tick()
    assert (launched(world, runs[early]), launched(world, runs[late])) == ([1, 0], [0, 0])
    world.tick_again(45)
    assert (launched(world, runs[early]), launched(world, runs[late])) == ([1, 0], [1, 0])
    world.tick_again(100)
    assert (launched(world, runs[early]), launched(world, runs[late])) == ([1, 1], [1, 0])


@pytest.mark.parametrize("lead", ["0", "10"])
def test_nothing_due_is_left_unclaimed_for_as_long_as_the_server_calls_late(world: PoolWorld, lead: str) -> None:
    world.settings["AGENT_LEAD_SECONDS"] = lead
    run_ids = [world.add_run(in_seconds=each) for each in range(3, 33, 2)]
    due = {run_id: datetime.fromisoformat(world.server.run(run_id)["expected_start_time"]) for run_id in run_ids}
    waiting = dict.fromkeys(run_ids, 0.0)
    begun = world.clock.now()
    for number in range(5):
        # Ticks come every ten seconds, whether the last one was short or long.
        world.clock.seconds += max(0.0, 10 * number - (world.clock.now() - begun).total_seconds())
        world.tick()
        for run_id in [each for each in run_ids if not world.tasks_of(each)]:
            waiting[run_id] = (world.clock.now() - due[run_id]).total_seconds()
    assert launched(world, run_ids) == [1] * len(run_ids)
    assert max(waiting.values()) < LATE_SECONDS - 10
