"""Several that serve one work pool at once, ours and the official worker: each run is one task."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from chalicelib.outcomes import TickReport
from tests.prefect3.pool_world import AWS, RUN_TAG, PoolWorld, assert_launched_once, tags_of
from tests.prefect3.server import PYTHON, Prefect3Server

pytestmark = pytest.mark.server

PATIENCE_SECONDS, WORKER_PATIENCE_SECONDS = 60, 150
RUNS = 24


@pytest.fixture
def world(server: Prefect3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[PoolWorld]:
    # Slowly enough that a tick leaves some to whoever is beside it.
    world = PoolWorld(server, monkeypatch, AGENT_LAUNCHES_PER_SECOND="1")
    yield world
    world.close()


def test_ticks_at_once_launch_each_run_once(server: Prefect3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    world = PoolWorld(server, monkeypatch)
    try:
        run_ids = [world.add_run() for _ in range(RUNS)]
        agents = [world.agent(is_alone=False) for _ in range(3)]
        together = threading.Barrier(len(agents))
        reports: list[TickReport] = []

        def tick(number: int) -> None:
            together.wait(PATIENCE_SECONDS)
            reports.append(agents[number].tick(world.clock.now() + timedelta(seconds=30), recovers=True))

        threads = [threading.Thread(target=tick, args=(number,)) for number in range(len(agents))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(report.claimed for report in reports) == RUNS
        assert [report.errors for report in reports] == [[], [], []]
        for run_id in run_ids:
            assert_launched_once(world, run_id)
        world.tick_again(100)
        assert len(world.ecs.tasks()) == RUNS
    finally:
        world.close()


@contextmanager
def official_worker(world: PoolWorld, home: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The worker that Prefect ships, once it has told the server that it lives."""
    environment = world.server.client_environment() | AWS
    environment |= {"HOME": str(home), "PREFECT_HOME": str(home), "AWS_ENDPOINT_URL_ECS": world.ecs.url}
    environment |= {"PATH": os.environ["PATH"], "PREFECT_WORKER_QUERY_SECONDS": "1"}
    command = [str(PYTHON.with_name("prefect")), "worker", "start", "--pool", world.pool, "--type", "ecs"]
    worker = subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        give_up = time.monotonic() + PATIENCE_SECONDS
        while not world.server.workers(world.pool):
            assert worker.poll() is None, "the worker has ended"
            assert time.monotonic() < give_up, "the worker does not start"
            time.sleep(0.2)
        yield worker
    finally:
        worker.terminate()
        worker.wait(30)


def is_the_workers(run: dict[str, Any]) -> bool:
    """Whether the worker is still to launch a run: it bears no pid, and is no claim of ours either."""
    is_ours = (run["state"]["message"] or "").startswith("Claimed by agent")
    return run["infrastructure_pid"] is None and not is_ours


@pytest.mark.timeout(240)
def test_a_tick_beside_the_official_worker_launches_each_run_once(world: PoolWorld, tmp_path: Path) -> None:
    world.add_pool()
    with official_worker(world, tmp_path):
        world.server.update_pool(world.pool, is_paused=True)
        run_ids = [world.add_run() for _ in range(RUNS)]
        world.server.update_pool(world.pool, is_paused=False)
        world.tick()
        give_up = time.monotonic() + WORKER_PATIENCE_SECONDS
        while any(is_the_workers(world.server.run(run_id)) for run_id in run_ids):
            assert time.monotonic() < give_up, Counter(world.server.state(run_id)["name"] for run_id in run_ids)
            time.sleep(0.5)
    # What our tick has claimed and left to another one is launched by that.
    world.tick_again(100)
    tasks = world.ecs.tasks()
    assert Counter(tags_of(task)[RUN_TAG] for task in tasks) == Counter(run_ids)
    ours = sum("startedBy" in task for task in tasks)
    assert 0 < ours < RUNS
    pids = {world.server.run(run_id)["infrastructure_pid"] for run_id in run_ids}
    assert {pid.partition("::")[2] for pid in pids} == {task["taskArn"] for task in tasks}
