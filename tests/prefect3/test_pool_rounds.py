"""Which of many work pools are polled: those in which something waits, and now and then all."""

from __future__ import annotations

import pytest

from chalicelib.errors import PrefectUnreachable
from chalicelib.prefect_api.prefect3_client import PAGE_LIMIT
from chalicelib.prefect_api.prefect3_pools import ROUND_SECONDS
from tests.prefect3.agents import LaterClock, agent_at, poll
from tests.prefect3.proxy import Fault, Proxy
from tests.prefect3.server import Prefect3Server

pytestmark = pytest.mark.server


@pytest.fixture
def pools(server: Prefect3Server) -> list[str]:
    return [server.create_pool("ecs") for _ in range(3)]


@pytest.fixture
def deployments(server: Prefect3Server, pools: list[str]) -> list[str]:
    return [server.create_deployment(pool) for pool in pools]


def polled(proxy: Proxy, pools: list[str]) -> list[int]:
    """How often each of the pools was polled."""
    return [proxy.asked(f"{pool}/get_scheduled_flow_runs") for pool in pools]


def test_the_first_poll_is_one_of_all_pools_and_the_next_idle_one_is_one_request(
    proxy: Proxy, pools: list[str]
) -> None:
    api = agent_at(proxy.url, *pools)
    assert poll(api) == []
    assert polled(proxy, pools) == [1, 1, 1]
    before = proxy.asked("")
    assert poll(api) == []
    assert proxy.asked("") - before == 1
    assert polled(proxy, pools) == [1, 1, 1]


@pytest.mark.parametrize("name", ["Scheduled", "Late", "AwaitingRetry", "AwaitingConcurrencySlot"])
def test_a_pool_in_which_something_waits_is_polled_and_no_other(
    server: Prefect3Server, proxy: Proxy, pools: list[str], deployments: list[str], name: str
) -> None:
    api = agent_at(proxy.url, *pools)
    poll(api)
    run_id = server.create_run(deployments[1])
    server.set_state(run_id, "SCHEDULED", name, force=True)
    assert [(run.id, run.state["name"]) for run in poll(api)] == [(run_id, name)]
    assert polled(proxy, pools) == [1, 2, 1]


def test_a_lead_counts_also_where_nothing_was_due_before(server: Prefect3Server, pools: list[str]) -> None:
    api = agent_at(server.url, *pools, lead_seconds={pools[2]: 60.0})
    poll(api)
    for pool in pools:
        server.create_run(server.create_deployment(pool), in_seconds=40)
    assert [run.pool_name for run in poll(api)] == [pools[2]]


def test_pauses_and_limits_are_still_the_servers_matter(
    server: Prefect3Server, proxy: Proxy, pools: list[str], deployments: list[str]
) -> None:
    api = agent_at(proxy.url, *pools)
    poll(api)
    server.update_pool(pools[0], is_paused=True)
    server.update_pool(pools[1], concurrency_limit=1)
    for deployment in deployments:
        server.create_runs(deployment, 2)
    assert [run.pool_name for run in poll(api)] == [pools[1], pools[2], pools[2]]
    assert polled(proxy, pools) == [2, 2, 2]


def test_a_queue_that_goes_first_goes_first(server: Prefect3Server, pools: list[str], deployments: list[str]) -> None:
    api = agent_at(server.url, *pools)
    poll(api)
    server.create_queue(pools[0], "first", priority=1)
    early = server.create_run(deployments[0], in_seconds=-60)
    first = server.create_run(server.create_deployment(pools[0], work_queue_name="first"))
    assert [run.id for run in poll(api)] == [first, early]


def test_so_many_that_wait_hide_no_other_pool(
    server: Prefect3Server, proxy: Proxy, pools: list[str], deployments: list[str]
) -> None:
    api = agent_at(proxy.url, *pools)
    poll(api)
    server.create_runs(deployments[0], PAGE_LIMIT)
    server.update_pool(pools[0], is_paused=True)
    run_id = server.create_run(deployments[2], in_seconds=0)
    assert [run.id for run in poll(api)] == [run_id]
    assert polled(proxy, pools) == [2, 2, 2]


def test_all_pools_are_polled_again_before_the_server_misses_the_agent(proxy: Proxy, pools: list[str]) -> None:
    clock = LaterClock()
    api = agent_at(proxy.url, *pools, clock=clock)
    for seconds in (0, ROUND_SECONDS / 2, ROUND_SECONDS, 1.5 * ROUND_SECONDS):
        clock.seconds = seconds
        poll(api)
    assert polled(proxy, pools) == [2, 2, 2]


def test_a_poll_of_all_that_failed_is_made_again(proxy: Proxy, pools: list[str]) -> None:
    api = agent_at(proxy.url, *pools)
    proxy.faults.order(Fault("get_scheduled", 503, headers=(("Retry-After", "3600"),), times=len(pools)))
    with pytest.raises(PrefectUnreachable):
        poll(api)
    assert poll(api) == []
    assert polled(proxy, pools) == [2, 2, 2]
