"""What a tick of work pools asks for and imports, counted."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.idle_path import ON_MACHINES, SDKS, modules_of_idle_ticks, within
from tests.prefect3.pool_world import CLUSTER, PoolWorld, ecs_template
from tests.prefect3.proxy import Proxy
from tests.prefect3.server import Prefect3Server

pytestmark = pytest.mark.server

RUNS, REQUESTS_A_RUN, CALLS_A_RUN = 100, 3, 1.02


@pytest.fixture
def world(server: Prefect3Server, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[PoolWorld]:
    made = PoolWorld(server, monkeypatch, PREFECT_API_URL=proxy.url)
    yield made
    made.close()


def test_a_hundred_due_runs_cost_few_requests_a_run_and_one_call_to_ecs(world: PoolWorld, proxy: Proxy) -> None:
    for _ in range(RUNS):
        world.add_run()
    report = world.tick()
    assert report is not None
    assert (report.claimed, report.errors) == (RUNS, [])
    assert world.ecs.count("RunTask") == RUNS
    assert len(world.ecs.calls) <= CALLS_A_RUN * RUNS
    assert proxy.asked("") <= REQUESTS_A_RUN * RUNS


def test_a_woken_tick_with_nothing_due_imports_no_sdk_and_nothing_of_prefect_1(server: Prefect3Server) -> None:
    pool = server.create_pool("ecs", ecs_template())
    settings = {"PREFECT_API_URL": server.url, "AGENT_WORK_POOLS": pool, "AGENT_CLUSTER": CLUSTER}
    modules = modules_of_idle_ticks(settings)
    assert "chalicelib.prefect_api.prefect3" in modules
    assert within(modules, *SDKS, *ON_MACHINES, "chalicelib.launchers.kubernetes", "graphql") == []
    assert [name for name in modules if name.startswith("chalicelib.prefect_api.prefect1")] == []
