"""Recording outcomes, recovery and the ends of launches on a real server."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from chalicelib.flow_runs import BEGUN, Claim
from chalicelib.outcomes import Answer, Outcome
from chalicelib.prefect_api.prefect3 import Prefect3API
from chalicelib.prefect_api.prefect3_states import claim_sign
from chalicelib.sightings import Consequence, Launched, Phase, Sighting, Stop
from tests.prefect3.agents import PLACE, LaterClock, agent_at, claim_all, outcome_of, poll
from tests.prefect3.proxy import Fault, Meeting, Proxy
from tests.prefect3.server import Prefect3Server

pytestmark = pytest.mark.server

PID = "arn:aws:ecs:eu-west-1:123:cluster/c::arn:aws:ecs:eu-west-1:123:task/c/1"
BAD_END = Stop("Exit code 1 in container prefect", has_run=True)
LOST_START = Stop("The capacity was taken away", has_run=False, passes=True)


@pytest.fixture
def pool(server: Prefect3Server) -> str:
    return server.create_pool("ecs")


@pytest.fixture
def deployment(server: Prefect3Server, pool: str) -> str:
    return server.create_deployment(pool)


@pytest.fixture
def clock() -> LaterClock:
    return LaterClock()


@pytest.fixture
def api(server: Prefect3Server, pool: str, clock: LaterClock) -> Prefect3API:
    return agent_at(server.url, pool, clock=clock)


@pytest.fixture
def run_id(server: Prefect3Server, deployment: str) -> str:
    return server.create_run(deployment)


def claim_one(api: Prefect3API) -> Claim:
    [claim] = claim_all(api)
    return claim


def launch(api: Prefect3API, pid: str = PID) -> Claim:
    """Claim the one run that is due, and record it as launched."""
    claim = claim_one(api)
    poll(api, [outcome_of(claim, Answer.LAUNCHED, f"Task {pid}")])
    return claim


def sighting_of(claim: Claim, stop: Stop | None = BAD_END, key: str | None = None, pid: str = PID) -> Sighting:
    return Sighting(claim.run.id, key or claim.key, f"Task {pid}", stop=stop)


def create_two_for_one_slot(server: Prefect3Server, pool: str) -> tuple[str, str]:
    """Two runs, the first of them due, of a deployment that runs one at a time."""
    limited = server.create_deployment(pool, concurrency_limit=1)
    return server.create_run(limited), server.create_run(limited, in_seconds=36_000)


def fill_slot(server: Prefect3Server, run_id: str) -> None:
    assert server.set_state(run_id, "PENDING")["status"] == "ACCEPT"


def wait_for_slot(api: Prefect3API, clock: LaterClock, run_id: str) -> None:
    """Let the server send the run to wait for a slot, twice."""
    for _ in range(2):
        clock.seconds += 40
        [run] = poll(api)
        assert (run.id, api.claim([run], PLACE)) == (run_id, [])
    assert run.state["name"] == "AwaitingConcurrencySlot"


# Recording


def test_a_busy_tick_asks_little_and_writes_pids_and_one_bulk_of_logs(
    server: Prefect3Server, pool: str, deployment: str, proxy: Proxy
) -> None:
    ids = [server.create_run(deployment) for _ in range(10)]
    api = agent_at(proxy.url, pool)
    claims = claim_all(api)
    before = proxy.asked("")
    texts = {claim.run.id: f"c::{claim.key}" for claim in claims}
    poll(api, [outcome_of(claim, Answer.LAUNCHED, f"Task {texts[claim.run.id]}") for claim in claims])
    assert {run_id: server.run(run_id)["infrastructure_pid"] for run_id in ids} == texts
    assert all(server.logs(run_id) == [f"Submitted for execution: Task {texts[run_id]}"] for run_id in ids)
    assert proxy.asked("") - before == 10 + 1 + 1  # pids, logs, poll


def test_a_pid_and_the_log_are_written_at_the_same_time(
    server: Prefect3Server, pool: str, deployment: str, proxy: Proxy
) -> None:
    server.create_run(deployment)
    api = agent_at(proxy.url, pool)
    [claim] = claim_all(api)
    proxy.meeting = Meeting("PATCH", "/logs/")
    poll(api, [outcome_of(claim, Answer.LAUNCHED, "Task flows::arn:1")])
    assert not proxy.meeting.has_failed
    assert server.run(claim.run.id)["infrastructure_pid"] == "flows::arn:1"
    assert len(server.logs(claim.run.id)) == 1


def test_an_unconfirmed_launch_keeps_its_claim_and_is_told_in_the_log(
    server: Prefect3Server, api: Prefect3API, run_id: str
) -> None:
    claim = claim_one(api)
    poll(api, [outcome_of(claim, Answer.UNKNOWN, "no answer")])
    assert server.state(run_id)["id"] == claim.key
    assert server.logs(run_id) == ["Launch not confirmed, it will be tried again with the same key: no answer"]


@pytest.mark.parametrize("answer", [Answer.REFUSED_FOR_GOOD, Answer.IMPOSSIBLE])
def test_what_can_never_be_launched_crashes_with_the_reason(
    server: Prefect3Server, api: Prefect3API, run_id: str, answer: Answer
) -> None:
    poll(api, [outcome_of(claim_one(api), answer, "no such {image}")])
    state = server.state(run_id)
    assert (state["type"], state["name"], state["message"]) == ("CRASHED", "Crashed", "no such {image}")
    assert server.logs(run_id) == ["no such {image}"]


def test_what_cannot_be_built_crashes_without_a_claim(server: Prefect3Server, api: Prefect3API, run_id: str) -> None:
    [run] = poll(api)
    poll(api, [Outcome(run, Answer.IMPOSSIBLE, "bad template")])
    assert [state["name"] for state in server.states(run_id)] == ["Scheduled", "Crashed"]


def test_outcomes_of_runs_that_changed_or_are_gone_are_not_written(
    server: Prefect3Server, api: Prefect3API, deployment: str
) -> None:
    ids = [server.create_run(deployment) for _ in range(4)]
    claims = {claim.run.id: claim for claim in claim_all(api)}
    server.set_state(ids[0], "RUNNING")
    server.set_state(ids[1], "PENDING", "InfrastructurePending")
    server.set_state(ids[2], "SCHEDULED")
    server.set_state(ids[2], "PENDING")
    server.delete_run(ids[3])
    refused = [outcome_of(claims[run_id], Answer.REFUSED_FOR_GOOD, "no") for run_id in ids]
    poll(api, [*refused, outcome_of(claims[ids[3]], Answer.LAUNCHED, "Task x")])
    assert [server.state(run_id)["name"] for run_id in ids[:3]] == ["Running", "InfrastructurePending", "Pending"]


def test_a_refusal_for_now_gives_the_run_back_and_its_notes_come_again_with_every_claim(
    server: Prefect3Server, api: Prefect3API, run_id: str, clock: LaterClock
) -> None:
    server.update_run(run_id, infrastructure_pid="old::pid")
    first = claim_one(api)
    assert server.state(run_id)["message"].endswith('{"after": "old::pid"}')
    poll(api, [outcome_of(first, Answer.REFUSED_FOR_NOW, "throttled {1}")])
    waiting = server.state(run_id)
    assert (waiting["type"], waiting["name"]) == ("SCHEDULED", "AwaitingCapacity")
    assert waiting["message"].startswith("Given back, to be tried again in 15 s: throttled {1} {")
    assert server.logs(run_id) == ["Given back, to be tried again in 15 s: throttled {1}"]
    assert poll(api) == []
    clock.seconds = 20
    again = claim_one(api)
    assert again.key != first.key
    assert again.run.was_claimed_before
    since = waiting["message"].rpartition("refused_since")[2]
    assert since in server.state(run_id)["message"].replace(', "after": "old::pid"', "")
    poll(api, [outcome_of(again, Answer.REFUSED_FOR_NOW, "throttled")])
    assert since in server.state(run_id)["message"]


def test_a_run_that_is_refused_for_too_long_crashes_unless_the_reason_is_not_its_own(
    server: Prefect3Server, api: Prefect3API, run_id: str, clock: LaterClock
) -> None:
    poll(api, [outcome_of(claim_one(api), Answer.REFUSED_FOR_NOW, "no capacity")])
    clock.seconds = 3700
    poll(api, [outcome_of(claim_one(api), Answer.REFUSED_FOR_NOW, "agent's fault", counts=False)])
    assert server.state(run_id)["name"] == "AwaitingCapacity"
    clock.seconds = 3800
    poll(api, [outcome_of(claim_one(api), Answer.REFUSED_FOR_NOW, "no capacity")])
    state = server.state(run_id)
    assert (state["type"], state["message"]) == ("CRASHED", "Refused for 63 minutes, giving up: no capacity")


def test_a_look_up_that_fails_for_now_lets_an_unclaimed_run_wait(
    server: Prefect3Server, api: Prefect3API, run_id: str
) -> None:
    [run] = poll(api)
    assert poll(api, [Outcome(run, Answer.REFUSED_FOR_NOW, "ECS is away")]) == []
    assert server.state(run_id)["name"] == "AwaitingCapacity"


@pytest.mark.parametrize("taken_up", ["claimed", "recovered", "unclaimed"])
def test_a_wait_for_a_slot_of_the_deployment_does_not_renew_the_deadline(
    server: Prefect3Server, pool: str, api: Prefect3API, clock: LaterClock, taken_up: str
) -> None:
    run_id, other = create_two_for_one_slot(server, pool)
    poll(api, [outcome_of(claim_one(api), Answer.REFUSED_FOR_NOW, "no capacity")])
    fill_slot(server, other)
    wait_for_slot(api, clock, run_id)
    server.set_state(other, "COMPLETED")
    clock.seconds = 3700
    outcome = Outcome(poll(api)[0], Answer.REFUSED_FOR_NOW, "no capacity")
    if taken_up != "unclaimed":
        outcome = outcome_of(claim_one(api), Answer.REFUSED_FOR_NOW, "no capacity")
    if taken_up == "recovered":
        clock.seconds = 3800
        [orphan] = api.find_own(PLACE).orphans
        outcome = outcome_of(orphan, Answer.REFUSED_FOR_NOW, "no capacity")
    poll(api, [outcome])
    assert server.state(run_id)["type"] == "CRASHED"
    assert server.state(run_id)["message"].startswith("Refused for 6")


def test_a_fault_of_the_agents_own_stops_its_claims_for_two_minutes_and_turns_health_red(
    server: Prefect3Server, pool: str, api: Prefect3API, deployment: str, clock: LaterClock
) -> None:
    run_id = server.create_run(deployment)
    poll(api, [outcome_of(claim_one(api), Answer.REFUSED_FOR_GOOD, "no such cluster", agent_fault=True)])
    assert (server.state(run_id)["type"], server.state(run_id)["name"]) == ("CRASHED", "AgentMisconfigured")
    server.create_run(deployment)
    assert poll(api) == []
    assert api.health_facts(clock.now()).agent_fault == "no such cluster"
    assert len(poll(agent_at(server.url, pool, name="another"))) == 1
    clock.seconds = 130
    assert len(poll(api)) == 1


def test_a_recording_meets_503s_and_is_still_complete(
    server: Prefect3Server, pool: str, deployment: str, proxy: Proxy
) -> None:
    ids = [server.create_run(deployment) for _ in range(3)]
    api = agent_at(proxy.url, pool)
    claims = claim_all(api)
    for mark in ("PATCH", "PATCH", "bulk_set_state", "/logs/", "flow_runs/filter"):
        proxy.faults.order(Fault(mark, 503, headers=(("Retry-After", "0"),)))
    launched = [outcome_of(claim, Answer.LAUNCHED, f"Task {PID}") for claim in claims[:2]]
    poll(api, [*launched, outcome_of(claims[2], Answer.REFUSED_FOR_GOOD, "no")])
    assert sorted(server.run(run_id)["infrastructure_pid"] or "" for run_id in ids) == ["", PID, PID]
    assert [len(server.logs(run_id)) for run_id in ids] == [1, 1, 1]


# Recovery


def test_a_claim_without_a_pid_is_an_orphan_once_it_is_older_than_any_tick(
    server: Prefect3Server, api: Prefect3API, run_id: str, clock: LaterClock
) -> None:
    claim = claim_one(api)
    assert api.find_own(PLACE).orphans == ()
    clock.seconds = 100
    [orphan] = api.find_own(PLACE).orphans
    assert (orphan.key, orphan.run.id, orphan.run.was_claimed_before) == (claim.key, run_id, True)
    assert orphan.run.job is not None
    assert orphan.run.job.deployment["id"] == server.run(run_id)["deployment_id"]
    assert agent_at(server.url, *api.pools.names, name="agen", clock=clock).find_own(PLACE).orphans == ()


def test_an_orphan_whose_deployment_cannot_be_read_now_keeps_its_claim(
    server: Prefect3Server, pool: str, deployment: str, run_id: str, proxy: Proxy, clock: LaterClock
) -> None:
    api = agent_at(proxy.url, pool, clock=clock)
    claim = claim_one(api)
    clock.seconds = 100
    proxy.faults.order(Fault("deployments/filter", 200, body=b"[]"))
    proxy.faults.order(Fault(f"GET /api/deployments/{deployment}", 403))
    assert api.find_own(PLACE).orphans == ()
    assert server.state(run_id)["id"] == claim.key
    assert [orphan.key for orphan in api.find_own(PLACE).orphans] == [claim.key]


def test_a_pid_from_before_the_claim_is_no_sign_of_launch(
    server: Prefect3Server, api: Prefect3API, run_id: str, clock: LaterClock
) -> None:
    server.update_run(run_id, infrastructure_pid="old::pid")
    claim = claim_one(api)
    clock.seconds = 100
    assert [orphan.key for orphan in api.find_own(PLACE).orphans] == [claim.key]
    poll(api, [outcome_of(claim, Answer.LAUNCHED, f"Task {PID}")])
    own = api.find_own(PLACE)
    assert own.orphans == ()
    assert [(each.key, each.phase, each.text) for each in own.launched] == [(claim.key, Phase.WAITING, f"Task {PID}")]


def test_claims_of_official_workers_are_left_alone(server: Prefect3Server, pool: str, deployment: str) -> None:
    first, second = (server.create_run(deployment) for _ in range(2))
    server.set_state(first, "PENDING")
    server.set_state(second, "PENDING")
    server.set_state(second, "PENDING", "Submitting")
    own = agent_at(server.url, pool, clock=LaterClock(100)).find_own(PLACE)
    assert (own.orphans, own.launched) == ((), ())


def test_what_runs_or_is_being_cancelled_is_found_by_its_pid_whoever_launched_it(
    server: Prefect3Server, api: Prefect3API, deployment: str
) -> None:
    ids = [server.create_run(deployment) for _ in range(3)]
    for run_id in ids:
        server.set_state(run_id, "PENDING")
        server.update_run(run_id, infrastructure_pid=f"c::{run_id}")
        server.set_state(run_id, "RUNNING")
    server.set_state(ids[1], "CANCELLING")
    server.set_state(ids[2], "CANCELLED")
    found = {each.run_id: (each.phase, each.text, each.key) for each in api.find_own(PLACE).launched}
    phases = (Phase.RUNNING, Phase.CANCELLING, Phase.CANCELLED)
    assert found == {run_id: (phase, f"Task c::{run_id}", "") for run_id, phase in zip(ids, phases, strict=True)}


def test_a_run_that_began_before_its_pid_was_recorded_is_found_and_gets_it(
    server: Prefect3Server, api: Prefect3API, run_id: str
) -> None:
    claim = claim_one(api)
    server.set_state(run_id, "RUNNING")
    [launched] = api.find_own(PLACE).launched
    assert isinstance(launched, Launched)
    assert (launched.run_id, launched.text, launched.key) == (run_id, "", claim.key)
    assert api.record_stops([], [sighting_of(claim, stop=None)]) == []
    assert server.run(run_id)["infrastructure_pid"] == PID


def test_a_run_that_was_restarted_meanwhile_does_not_get_the_pid_of_what_it_ran_in_before(
    server: Prefect3Server, api: Prefect3API, run_id: str
) -> None:
    claim = claim_one(api)
    server.set_state(run_id, "RUNNING")
    server.set_state(run_id, "SCHEDULED", "AwaitingRetry")
    server.set_state(run_id, "PENDING")
    assert api.record_stops([], [sighting_of(claim, stop=None)]) == []
    assert server.run(run_id)["infrastructure_pid"] is None


def test_more_claims_than_one_page_are_all_found(server: Prefect3Server, pool: str) -> None:
    claim = {"type": "PENDING", "message": claim_sign("agent")}
    body = {"flow_id": server.create_flow(), "state": claim, "work_pool_name": pool}
    ids = {server.request("POST", "/flow_runs/", body)["id"] for _ in range(205)}
    own = agent_at(server.url, pool, clock=LaterClock(100)).find_own(PLACE)
    assert {orphan.run.id for orphan in own.orphans} == ids


def test_the_agent_is_shown_online_once_it_has_looked_for_its_own(
    server: Prefect3Server, pool: str, api: Prefect3API
) -> None:
    assert api.health_facts(datetime.now(UTC)).last_polled is None
    assert server.workers(pool) == []
    api.find_own(PLACE)
    [worker] = server.workers(pool)
    assert (worker["name"], worker["status"], worker["heartbeat_interval_seconds"]) == ("agent", "ONLINE", 60)
    last_polled = api.health_facts(datetime.now(UTC)).last_polled
    assert last_polled is not None
    assert datetime.now(UTC) - last_polled < timedelta(seconds=30)


# The ends of launches


def test_a_launch_that_ended_badly_crashes_its_run_with_the_reason(
    server: Prefect3Server, api: Prefect3API, run_id: str
) -> None:
    claim = launch(api)
    server.set_state(run_id, "RUNNING")
    assert api.record_stops([sighting_of(claim)]) == [Consequence.FAIL]
    assert (server.state(run_id)["type"], server.state(run_id)["message"]) == ("CRASHED", BAD_END.reason)
    assert server.logs(run_id)[-1] == BAD_END.reason
    assert api.record_stops([sighting_of(claim)]) == [Consequence.NOTHING]


def test_a_start_that_passes_is_tried_again_three_times(
    server: Prefect3Server, api: Prefect3API, run_id: str, clock: LaterClock
) -> None:
    for number in (1, 2, 3):
        claim = launch(api, f"c::{number}")
        stop = sighting_of(claim, LOST_START, pid=f"c::{number}")
        assert api.record_stops([stop]) == [Consequence.RESUBMIT]
        assert server.state(run_id)["name"] == "AwaitingRetry"
        assert server.state(run_id)["message"].startswith(f"Launched again ({number} of 3)")
        clock.seconds += 20
    claim = launch(api, "c::4")
    assert api.record_stops([sighting_of(claim, LOST_START, pid="c::4")]) == [Consequence.FAIL]


def test_two_that_share_a_slot_and_never_find_room_are_launched_four_times_each(
    server: Prefect3Server, pool: str, api: Prefect3API, clock: LaterClock
) -> None:
    limited = server.create_deployment(pool, concurrency_limit=1)
    ids = [server.create_run(limited) for _ in range(2)]
    ended = []
    for number in range(1, 9):
        # Of the two, the server sends one to wait for a slot at each turn.
        claim = launch(api, f"c::{number}")
        ended += [(claim.run.id, *api.record_stops([sighting_of(claim, LOST_START, pid=f"c::{number}")]))]
        clock.seconds += 40
    assert [ended.count((run_id, Consequence.RESUBMIT)) for run_id in ids] == [3, 3]
    assert {server.state(run_id)["type"] for run_id in ids} == {"CRASHED"}


def test_a_wait_for_a_slot_costs_no_request_and_a_restart_before_it_begins_anew(
    server: Prefect3Server, pool: str, proxy: Proxy, clock: LaterClock
) -> None:
    api = agent_at(proxy.url, pool, clock=clock)
    run_id, other = create_two_for_one_slot(server, pool)
    first = launch(api)
    assert api.record_stops([sighting_of(first, LOST_START)]) == [Consequence.RESUBMIT]
    server.set_state(run_id, "SCHEDULED")
    fill_slot(server, other)
    before = proxy.asked("flow_run_states")
    wait_for_slot(api, clock, run_id)
    assert proxy.asked("flow_run_states") == before
    server.set_state(other, "COMPLETED")
    clock.seconds += 40
    second = launch(api, "c::2")
    assert api.record_stops([sighting_of(second, LOST_START, pid="c::2")]) == [Consequence.RESUBMIT]
    assert server.state(run_id)["message"].startswith("Launched again (1 of 3)")


def test_a_flow_whose_machine_was_taken_is_launched_again_where_its_deployment_says_so(
    server: Prefect3Server, pool: str, api: Prefect3API, clock: LaterClock
) -> None:
    again = {"env": {"AGENT_RESUBMIT": "running"}}
    run_id = server.create_run(server.create_deployment(pool, job_variables=again))
    claim = launch(api)
    server.set_state(run_id, "RUNNING")
    assert api.record_stops([sighting_of(claim, replace(LOST_START, has_run=True))]) == [Consequence.RESUBMIT]
    clock.seconds = 20
    [run] = poll(api)
    assert (run.id, run.begun_version, run.was_claimed_before) == (run_id, BEGUN, True)


def test_a_deployment_that_allows_no_second_launch_is_heeded_though_one_answer_lacks_it(
    server: Prefect3Server, pool: str, proxy: Proxy
) -> None:
    server.create_run(server.create_deployment(pool, job_variables={"env": {"AGENT_RESUBMIT": "never"}}))
    api = agent_at(proxy.url, pool)
    claim = launch(api)
    proxy.faults.order(Fault("deployments/filter", 200, body=b"[]"))
    assert api.record_stops([sighting_of(claim, LOST_START)]) == [Consequence.FAIL]


@pytest.mark.parametrize("phase", ["PENDING", "RUNNING"])
def test_a_cancelled_run_whose_launch_has_ended_is_confirmed(
    server: Prefect3Server, api: Prefect3API, run_id: str, phase: str
) -> None:
    claim = launch(api)
    if phase == "RUNNING":
        server.set_state(run_id, "RUNNING")
    server.set_state(run_id, "CANCELLING")
    assert api.record_stops([sighting_of(claim)]) == [Consequence.CONFIRM]
    assert (server.state(run_id)["type"], server.state(run_id)["name"]) == ("CANCELLED", "Cancelled")


def test_a_claim_that_was_cancelled_before_its_launch_is_found_and_confirmed(
    server: Prefect3Server, api: Prefect3API, run_id: str
) -> None:
    claim = claim_one(api)
    server.set_state(run_id, "CANCELLING")
    poll(api, [outcome_of(claim, Answer.REFUSED_FOR_NOW, "throttled")])
    assert server.state(run_id)["type"] == "CANCELLING"
    [launched] = api.find_own(PLACE).launched
    assert (launched.key, launched.text, launched.phase) == (claim.key, "", Phase.CANCELLING)
    void = Sighting(run_id, launched.key, "", stop=Stop("Nothing of it is known", has_run=True))
    assert api.record_stops([void]) == [Consequence.CONFIRM]
    assert server.state(run_id)["type"] == "CANCELLED"


def test_an_old_launch_does_not_speak_for_a_newer_claim(
    server: Prefect3Server, api: Prefect3API, run_id: str, clock: LaterClock
) -> None:
    first = launch(api)
    api.record_stops([sighting_of(first, LOST_START)])
    clock.seconds = 20
    second = claim_one(api)
    # The pid is still the old one's, and the new launch is under way.
    assert api.record_stops([sighting_of(first), sighting_of(first, key="forged")]) == [Consequence.NOTHING] * 2
    assert server.state(run_id)["id"] == second.key
    assert api.record_stops([sighting_of(second, pid="c::2")]) == [Consequence.FAIL]


def test_a_vanished_launch_without_a_key_speaks_by_its_pid(
    server: Prefect3Server, api: Prefect3API, run_id: str
) -> None:
    launch(api)
    server.set_state(run_id, "RUNNING")
    gone = Sighting(run_id, None, f"Task {PID}", stop=Stop("It is not known any more", has_run=True))
    other = replace(gone, text="Task c::other")
    assert api.record_stops([other, gone]) == [Consequence.NOTHING, Consequence.FAIL]


@pytest.mark.parametrize("end", ["COMPLETED", "PAUSED", "SCHEDULED"])
def test_a_run_that_is_over_or_waits_is_left_alone(
    server: Prefect3Server, api: Prefect3API, run_id: str, end: str
) -> None:
    claim = launch(api)
    server.set_state(run_id, "RUNNING")
    server.set_state(run_id, end, force=True)
    before = server.state(run_id)["id"]
    stops = [sighting_of(claim), replace(sighting_of(claim), run_id="somebody-elses")]
    assert api.record_stops(stops) == [Consequence.NOTHING] * 2
    assert server.state(run_id)["id"] == before


def test_a_run_that_changes_between_reading_and_writing_is_left_alone(
    server: Prefect3Server, pool: str, deployment: str, proxy: Proxy
) -> None:
    run_id = server.create_run(deployment)
    api = agent_at(proxy.url, pool)
    claim = launch(api)
    row = server.request("POST", "/flow_runs/filter", {"flow_runs": {"id": {"any_": [run_id]}}})
    server.set_state(run_id, "RUNNING")
    server.set_state(run_id, "COMPLETED")
    proxy.faults.order(Fault("POST /api/flow_runs/filter", 200, body=json.dumps(row).encode()))
    assert api.record_stops([sighting_of(claim)]) == [Consequence.NOTHING]
    assert server.state(run_id)["type"] == "COMPLETED"


def test_only_runs_that_ended_long_ago_are_finished(server: Prefect3Server, api: Prefect3API, deployment: str) -> None:
    ended, open_run = (server.create_run(deployment) for _ in range(2))
    server.set_state(ended, "COMPLETED", force=True)
    now = datetime.now(UTC)
    asked = [ended, open_run, "no-id"]
    assert api.find_finished(asked, now + timedelta(seconds=5)) == {ended}
    assert api.find_finished(asked, now - timedelta(hours=1)) == set()


# Health


def test_the_backlog_is_what_is_due_and_held_back_by_nothing(server: Prefect3Server, pool: str) -> None:
    api, now = agent_at(server.url, pool), datetime.now(UTC)
    assert api.health_facts(now).oldest_due is None
    server.create_run(server.create_deployment(pool), in_seconds=60)
    server.create_queue(pool, "paused", is_paused=True)
    server.create_run(server.create_deployment(pool, work_queue_name="paused"), in_seconds=-600)
    assert api.health_facts(now).oldest_due is None
    server.create_run(server.create_deployment(pool), in_seconds=-300)
    oldest = api.health_facts(now).oldest_due
    assert oldest is not None
    assert timedelta(seconds=290) < now - oldest < timedelta(seconds=310)
    server.update_pool(pool, is_paused=True)
    assert api.health_facts(now).oldest_due is None


def test_health_neither_polls_nor_beats(server: Prefect3Server, pool: str, proxy: Proxy) -> None:
    agent_at(proxy.url, pool).health_facts(datetime.now(UTC))
    assert proxy.asked("get_scheduled") == proxy.asked("heartbeat") == 0
    assert server.workers(pool) == []
