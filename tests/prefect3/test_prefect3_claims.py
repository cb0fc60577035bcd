"""Polling and claiming on a real server."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from chalicelib.errors import PrefectRejected, PrefectUnauthorized, PrefectUnreachable
from chalicelib.flow_runs import WorkPoolJob
from chalicelib.prefect_api.prefect3_client import PAGE_LIMIT
from chalicelib.prefect_api.transport import PREFECT3_AUTH_STRING
from tests.doubles.prefect1 import Prefect1Server
from tests.prefect3.agents import PLACE, agent_at, claim_all, poll
from tests.prefect3.proxy import Fault, Meeting, Proxy
from tests.prefect3.server import Prefect3Server

pytestmark = pytest.mark.server


@pytest.fixture
def pool(server: Prefect3Server) -> str:
    return server.create_pool("ecs")


@pytest.fixture
def deployment(server: Prefect3Server, pool: str) -> str:
    return server.create_deployment(pool)


def job_of(found: WorkPoolJob | None) -> WorkPoolJob:
    assert found is not None
    return found


def test_a_due_run_comes_with_all_that_a_launch_of_it_needs(server: Prefect3Server, pool: str) -> None:
    flow = server.create_flow("sales-report")
    deployment = server.create_deployment(pool, flow, job_variables={"env": {"A": "{{ prefect.variables.region }}"}})
    server.create_variable("region", "eu")
    run_id = server.create_run(deployment, job_variables={"name": "mine"})
    [run] = poll(agent_at(server.url, pool))
    job = job_of(run.job)
    assert (run.id, run.flow.name, run.was_claimed_before, run.begun_version) == (run_id, "sales-report", False, 0)
    assert (job.pool["type"], job.flow_run["job_variables"]) == ("ecs", {"name": "mine"})
    assert job.deployment["id"] == deployment
    assert job.references == {"prefect.variables.region": "eu"}
    assert "base_job_template" in job.pool


def test_secrets_of_blocks_and_what_they_name_are_read_and_the_absent_is_left_out(server: Prefect3Server) -> None:
    server.create_block("vault", "one", {"token": "s3cret", "host": "{{ prefect.variables.vault_host }}"}, ["token"])
    server.create_variable("vault_host", {"name": "h"})
    env = {
        "T": "{{ prefect.blocks.vault.one.token }}",
        "H": "{{ prefect.blocks.vault.one.host }}",
        "NONE": "{{ prefect.blocks.vault.two }}",
        "VOID": "{{ prefect.variables.nothing }}",
    }
    pool = server.create_pool("process")
    server.create_run(server.create_deployment(pool, job_variables={"env": env}))
    [run] = poll(agent_at(server.url, pool))
    known = job_of(run.job).references
    assert set(known) == {"prefect.blocks.vault.one", "prefect.variables.vault_host"}
    assert known["prefect.blocks.vault.one"]["token"] == "s3cret"
    assert "s3cret" not in repr(run.job)


def test_pools_take_turns_and_a_missing_one_leaves_the_others_alone(
    server: Prefect3Server, caplog: pytest.LogCaptureFixture
) -> None:
    pools = [server.create_pool("ecs"), server.create_pool("process")]
    for pool in pools:
        deployment = server.create_deployment(pool)
        for _ in range(2):
            server.create_run(deployment)
    runs = poll(agent_at(server.url, "not-there", *pools))
    assert [job_of(run.job).pool["name"] for run in runs] == pools * 2
    assert "not-there" in caplog.text


def test_more_pools_than_a_server_tells_of_at_once_are_all_served(server: Prefect3Server) -> None:
    pools = [server.create_pool("ecs") for _ in range(PAGE_LIMIT + 1)]
    run_id = server.create_run(server.create_deployment(max(pools)))
    api = agent_at(server.url, *pools)
    assert [run.id for run in poll(api)] == [run_id]
    assert api.reader.read_pools().keys() == {*pools}


def test_when_no_pool_exists_that_is_an_error(server: Prefect3Server) -> None:
    with pytest.raises(PrefectRejected, match="Work pool not-there does not exist: create it, or correct its name"):
        poll(agent_at(server.url, "not-there"))


def test_runs_of_a_pool_that_nobody_launches_are_left_and_said_so(
    server: Prefect3Server, pool: str, deployment: str, caplog: pytest.LogCaptureFixture
) -> None:
    strange = server.create_pool("vertex-ai")
    server.create_run(server.create_deployment(strange))
    server.create_run(deployment)
    runs = poll(agent_at(server.url, strange, pool))
    assert [job_of(run.job).pool["name"] for run in runs] == [pool]
    assert f"{strange} is of type vertex-ai" in caplog.text


def test_a_paused_pool_is_empty(server: Prefect3Server, pool: str, deployment: str) -> None:
    server.create_run(deployment)
    server.update_pool(pool, is_paused=True)
    assert poll(agent_at(server.url, pool)) == []


def test_only_the_queues_that_are_named_are_served_also_where_a_pool_lacks_one(
    server: Prefect3Server, pool: str, deployment: str
) -> None:
    server.create_queue(pool, "fast")
    fast = server.create_run(server.create_deployment(pool, work_queue_name="fast"))
    server.create_run(deployment)
    other = server.create_pool("ecs")
    slow = server.create_run(server.create_deployment(other))
    api = agent_at(server.url, pool, other, queues=("fast", "default"))
    assert [run.id for run in poll(agent_at(server.url, pool, queues=("fast",)))] == [fast]
    assert {fast, slow} <= {run.id for run in poll(api)}


def test_a_pool_with_none_of_the_queues_is_told(server: Prefect3Server, pool: str) -> None:
    with pytest.raises(PrefectRejected, match=r"queue .*/none' not found"):
        poll(agent_at(server.url, pool, queues=("none",)))


def test_a_block_that_cannot_be_read_now_keeps_its_runs_waiting_and_no_others(
    server: Prefect3Server, pool: str, deployment: str, proxy: Proxy
) -> None:
    variables = {"env": {"A": "{{ prefect.variables.refused }}"}}
    server.create_run(server.create_deployment(pool, job_variables=variables))
    run_id = server.create_run(deployment)
    proxy.faults.order(Fault("variables/name/refused", 403))
    assert [run.id for run in poll(agent_at(proxy.url, pool))] == [run_id]


def test_a_lead_brings_runs_forward_by_so_much(server: Prefect3Server, pool: str, deployment: str) -> None:
    run_id = server.create_run(deployment, in_seconds=40)
    assert poll(agent_at(server.url, pool)) == []
    [run] = poll(agent_at(server.url, pool, lead_seconds={pool: 60.0}))
    assert run.id == run_id
    assert timedelta(seconds=-25) < run.start_time - agent_at(server.url).clock.now() < timedelta(seconds=-15)


class Move(Meeting):
    """Something that happens to a run once it has been polled, and before any run is read again."""

    def __init__(self, happen: Callable[[], object]) -> None:
        super().__init__("/flow_runs/filter")
        self.happen: Callable[[], object] | None = happen
        self.lock = threading.Lock()

    def attend(self, asked: str) -> None:
        if self.marks[0] in asked:
            with self.lock:
                happen, self.happen = self.happen, None
                if happen:
                    happen()


@pytest.mark.parametrize(
    ("kind", "name"), [("SCHEDULED", "Scheduled"), ("SCHEDULED", "AwaitingRetry"), ("RUNNING", "Running")]
)
def test_a_run_that_moves_on_while_it_is_read_is_left_to_the_next_poll(
    server: Prefect3Server, pool: str, deployment: str, proxy: Proxy, kind: str, name: str
) -> None:
    stays, moves = (server.create_run(deployment) for _ in range(2))
    for run_id in (stays, moves):
        server.set_state(run_id, "SCHEDULED", "AwaitingRetry")
    api = agent_at(proxy.url, pool)
    details = {"scheduled_time": (api.clock.now() + timedelta(hours=1)).isoformat()}
    proxy.meeting = Move(lambda: server.set_state(moves, kind, name, force=True, state_details=details))
    assert [run.id for run in poll(api)] == [stays]
    assert proxy.meeting.happen is None
    assert [run.id for run in poll(api)] == [stays]
    assert server.state(moves)["name"] == name


def test_a_claim_is_a_pending_of_our_own_whose_id_is_its_key(
    server: Prefect3Server, pool: str, deployment: str, proxy: Proxy
) -> None:
    ids = {server.create_run(deployment) for _ in range(3)}
    claims = claim_all(agent_at(proxy.url, pool, name="mine"))
    assert {claim.run.id for claim in claims} == ids
    for claim in claims:
        state = server.state(claim.run.id)
        assert (state["type"], state["name"], state["id"]) == ("PENDING", "Pending", claim.key)
        assert state["message"] == 'Claimed by agent "mine" for work-pools:ecs'
    assert proxy.asked("bulk_set_state") == 1
    assert proxy.asked("") == 7  # version, poll, fault, pools, deployments, flows, claims


def test_what_a_launch_needs_is_read_at_the_same_time(
    server: Prefect3Server, pool: str, deployment: str, proxy: Proxy
) -> None:
    run_id = server.create_run(deployment)
    proxy.meeting = Meeting("/flow_runs/filter", "work_pools/filter", "deployments/filter", "flows/filter")
    assert [run.id for run in poll(agent_at(proxy.url, pool))] == [run_id]
    assert not proxy.meeting.has_failed


def test_a_server_without_bulk_is_claimed_from_run_by_run(
    server: Prefect3Server, pool: str, deployment: str, proxy: Proxy
) -> None:
    proxy.faults.order(Fault("bulk_set_state", 404, body=b'{"detail": "Not Found"}', times=None))
    ids = {server.create_run(deployment) for _ in range(3)}
    assert {claim.run.id for claim in claim_all(agent_at(proxy.url, pool))} == ids
    assert proxy.asked("bulk_set_state") == 1


@pytest.mark.parametrize("has_bulk", [True, False])
def test_a_claim_whose_reply_is_lost_is_still_ours(
    server: Prefect3Server, pool: str, deployment: str, proxy: Proxy, has_bulk: bool
) -> None:
    ids = {server.create_run(deployment) for _ in range(2)}
    if not has_bulk:
        proxy.faults.order(Fault("bulk_set_state", 404, body=b'{"detail": "Not Found"}', times=None))
    proxy.faults.order(Fault("set_state", times=2))
    claims = claim_all(agent_at(proxy.url, pool))
    assert {claim.run.id for claim in claims} == ids
    assert {claim.key for claim in claims} == {server.state(run_id)["id"] for run_id in ids}


def test_a_run_that_the_database_was_too_busy_for_is_claimed_all_the_same(
    server: Prefect3Server, pool: str, deployment: str, proxy: Proxy
) -> None:
    ids = [server.create_run(deployment) for _ in range(2)]
    busy = {"flow_run_id": ids[0], "status": "ABORT", "state": None, "details": {"reason": "database is locked"}}
    proxy.faults.order(Fault("bulk_set_state", 200, body=json.dumps({"results": [busy]}).encode()))
    assert {claim.run.id for claim in claim_all(agent_at(proxy.url, pool))} == {ids[0]}
    assert server.state(ids[1])["type"] == "SCHEDULED"


def test_two_agents_never_hold_the_same_run(server: Prefect3Server, pool: str, deployment: str) -> None:
    ids = [server.create_run(deployment) for _ in range(12)]
    agents = [agent_at(server.url, pool, name=name) for name in ("one", "two", "three")]
    readings = [poll(api) for api in agents]
    with ThreadPoolExecutor(3) as threads:
        claims = list(threads.map(lambda pair: pair[0].claim(pair[1], PLACE), zip(agents, readings, strict=True)))
    taken = [claim.run.id for each in claims for claim in each]
    assert sorted(taken) == sorted(ids)


def test_what_an_official_worker_claimed_or_finished_meanwhile_is_not_taken(
    server: Prefect3Server, pool: str, deployment: str
) -> None:
    ids = [server.create_run(deployment) for _ in range(4)]
    api = agent_at(server.url, pool)
    runs = poll(api)
    server.set_state(ids[0], "PENDING")
    server.set_state(ids[0], "PENDING", "InfrastructurePending")
    server.set_state(ids[1], "CRASHED")
    server.set_state(ids[2], "CANCELLING")
    assert [claim.run.id for claim in api.claim(runs, PLACE)] == [ids[3]]
    assert server.state(ids[1])["type"] == "CRASHED"


@pytest.mark.parametrize(
    ("options", "state"),
    [
        ({"concurrency_limit": 1}, "AwaitingConcurrencySlot"),
        ({"concurrency_limit": 1, "concurrency_options": {"collision_strategy": "CANCEL_NEW"}}, "Cancelled"),
    ],
)
def test_a_full_deployment_keeps_its_runs_to_itself(
    server: Prefect3Server, pool: str, options: dict[str, Any], state: str
) -> None:
    deployment = server.create_deployment(pool, **options)
    ids = [server.create_run(deployment) for _ in range(2)]
    claims = claim_all(agent_at(server.url, pool))
    assert len(claims) == 1
    [other] = [run_id for run_id in ids if run_id != claims[0].run.id]
    assert server.state(other)["name"] == state


def test_a_deployment_that_may_run_nothing_runs_nothing(server: Prefect3Server, pool: str) -> None:
    deployment = server.create_deployment(pool, concurrency_limit=1)
    run_id = server.create_run(deployment)
    server.request("PATCH", f"/v2/concurrency_limits/deployment:{deployment}", {"limit": 0})
    assert claim_all(agent_at(server.url, pool)) == []
    assert server.state(run_id)["type"] == "SCHEDULED"


def test_a_run_that_is_gone_is_skipped(server: Prefect3Server, pool: str, deployment: str) -> None:
    ids = [server.create_run(deployment) for _ in range(2)]
    api = agent_at(server.url, pool)
    runs = poll(api)
    server.delete_run(ids[0])
    assert [claim.run.id for claim in api.claim(runs, PLACE)] == [ids[1]]


def test_a_run_whose_deployment_is_gone_is_cancelled_with_the_reason(
    server: Prefect3Server, pool: str, deployment: str, proxy: Proxy
) -> None:
    # The server deletes such runs with the deployment; on Cloud one may survive.
    run_id = server.create_run(deployment)
    proxy.faults.order(Fault("deployments/filter", 200, body=b"[]"))
    proxy.faults.order(Fault(f"GET /api/deployments/{deployment}", 404))
    assert claim_all(agent_at(proxy.url, pool)) == []
    state = server.state(run_id)
    assert (state["type"], state["message"]) == (
        "CANCELLED",
        f"Deployment {deployment} no longer exists, cancelled run",
    )


def test_a_deployment_that_one_answer_lacks_is_asked_for_by_itself(
    server: Prefect3Server, pool: str, deployment: str, proxy: Proxy
) -> None:
    run_id = server.create_run(deployment)
    proxy.faults.order(Fault("deployments/filter", 200, body=b"[]"))
    [claim] = claim_all(agent_at(proxy.url, pool))
    assert (claim.run.id, job_of(claim.run.job).deployment["id"]) == (run_id, deployment)
    assert server.state(run_id)["id"] == claim.key


def test_a_run_whose_deployment_is_not_for_this_agent_to_read_is_left_alone_and_said_so(
    server: Prefect3Server, pool: str, deployment: str, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    hidden, free = server.create_run(deployment), server.create_ad_hoc_run(pool)
    proxy.faults.order(Fault("deployments/filter", 200, body=b"[]"))
    proxy.faults.order(Fault(f"GET /api/deployments/{deployment}", 403))
    assert [claim.run.id for claim in claim_all(agent_at(proxy.url, pool))] == [free]
    assert server.state(hidden)["type"] == "SCHEDULED"
    [line] = [record.getMessage() for record in caplog.records if "deployment" in record.getMessage()]
    assert line.startswith("A deployment cannot be read: ")


def test_answers_of_an_overloaded_server_are_waited_out(
    server: Prefect3Server, pool: str, deployment: str, proxy: Proxy
) -> None:
    run_id = server.create_run(deployment)
    for mark in ("get_scheduled", "work_pools/filter", "deployments/filter", "bulk_set_state"):
        proxy.faults.order(Fault(mark, 503, headers=(("Retry-After", "0"),)))
    assert [claim.run.id for claim in claim_all(agent_at(proxy.url, pool))] == [run_id]


def test_a_server_that_is_away_is_said_to_be(server: Prefect3Server, pool: str, proxy: Proxy) -> None:
    proxy.faults.order(Fault("", 503, headers=(("Retry-After", "3600"),)))
    with pytest.raises(PrefectUnreachable, match="asks to wait 3600 s"):
        poll(agent_at(proxy.url, pool))


@pytest.mark.parametrize(("version", "error"), [(b'"2.20.4"', "Prefect 2.20.4 server"), (b'"4.0.0"', "Prefect 4.0.0")])
def test_a_server_of_another_major_version_is_refused(pool: str, proxy: Proxy, version: bytes, error: str) -> None:
    proxy.faults.order(Fault("admin/version", 200, body=version))
    with pytest.raises(PrefectRejected, match=error):
        poll(agent_at(proxy.url, pool))


def test_a_server_of_prefect_1_and_a_ui_are_no_api_of_prefect_3(pool: str, proxy: Proxy) -> None:
    told = "where JSON is expected; check that PREFECT_API_URL is the address of the API"
    with Prefect1Server() as old, pytest.raises(PrefectUnreachable, match=told):
        poll(agent_at(old.url, pool))
    proxy.faults.order(Fault("admin/version", 200, body=b"<html></html>"))
    with pytest.raises(PrefectUnreachable, match=told):
        poll(agent_at(proxy.url, pool))


def test_the_types_that_are_served_now_are_known(server: Prefect3Server, pool: str) -> None:
    strange = server.create_pool("vertex-ai")
    reader = agent_at(server.url, pool, strange, server.create_pool("process"), "not-there").reader
    assert reader.present_types() == {"ecs", "process"}


def test_an_address_without_api_is_told(server: Prefect3Server, pool: str) -> None:
    with pytest.raises(PrefectRejected, match="PREFECT_API_URL must end in /api"):
        poll(agent_at(server.url.removesuffix("/api"), pool))


def test_a_guarded_server_takes_the_right_auth_string_alone_and_its_csrf_token() -> None:
    variables = {"PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED": "true"}
    with Prefect3Server("admin:s3cret", variables) as guarded:
        pool = guarded.create_pool("ecs")
        ids = {guarded.create_run(guarded.create_deployment(pool)) for _ in range(3)}
        with pytest.raises(PrefectUnauthorized, match=r"refuses the API key .*PREFECT_API_AUTH_STRING") as refused:
            poll(agent_at(guarded.url, pool, key="admin:wrong", sign_in=PREFECT3_AUTH_STRING))
        assert "wrong" not in str(refused.value)
        with pytest.raises(PrefectUnauthorized, match=r"none is set.*PREFECT_API_KEY"):
            poll(agent_at(guarded.url, pool))
        api = agent_at(guarded.url, pool, key="admin:s3cret", sign_in=PREFECT3_AUTH_STRING)
        claims = claim_all(api)
        assert {claim.run.id for claim in claims} == ids
