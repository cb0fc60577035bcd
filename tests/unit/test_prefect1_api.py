"""Our Prefect 1 client against the double of the server: what it asks, what it writes, what it makes of trouble."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from chalicelib.clock import SystemClock
from chalicelib.errors import PrefectRejected, PrefectUnauthorized, PrefectUnreachable
from chalicelib.flow_runs import Claim, FlowRun, Place
from chalicelib.outcomes import Answer, Outcome
from chalicelib.prefect_api.documents import RootField
from chalicelib.prefect_api.portions import Portions
from chalicelib.prefect_api.prefect1 import FAULT_PAUSE_SECONDS, Prefect1API
from chalicelib.prefect_api.prefect1_fields import STATES_LIMIT, write_log
from chalicelib.prefect_api.prefect1_launches import ORPHAN_AGE_SECONDS
from chalicelib.sightings import Sighting, Stop
from tests.doubles.clock import TurnedClock
from tests.doubles.prefect1 import Prefect1Server
from tests.prefect1_agents import make_api

PLACE = Place("ecs", "flows")
NOBODY = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


@pytest.fixture
def server(clock: TurnedClock) -> Iterator[Prefect1Server]:
    with Prefect1Server(clock=clock) as double:
        yield double


@pytest.fixture
def api(server: Prefect1Server, clock: TurnedClock) -> Prefect1API:
    return make_api(server, clock)


def fields_of(server: Prefect1Server) -> list[tuple[str, ...]]:
    return [request.field_names for request in server.requests]


def soon(clock: TurnedClock) -> datetime:
    return clock.now() + timedelta(seconds=8)


def poll(api: Prefect1API) -> list[FlowRun]:
    return api.record_and_poll([], api.clock.now() + timedelta(seconds=8))


def claim_all(api: Prefect1API) -> list[Claim]:
    return api.claim(poll(api), PLACE)


def record(api: Prefect1API, claim: Claim, answer: Answer, text: str, agent_fault: bool = False) -> None:
    api.record_and_poll([Outcome(claim.run, answer, text, claim, agent_fault)], api.clock.now())


# Signing in


def test_signing_in_costs_two_requests_and_later_polls_one(server: Prefect1Server, api: Prefect1API) -> None:
    poll(api)
    poll(api)
    assert fields_of(server) == [("tenant",), ("register_agent",), ("get_runs_in_queue",), ("get_runs_in_queue",)]


def test_a_tenant_from_the_settings_is_not_asked_for(server: Prefect1Server, clock: TurnedClock) -> None:
    poll(make_api(server, clock, tenant_id=server.tenant_id))
    assert fields_of(server) == [("register_agent",), ("get_runs_in_queue",)]


def test_two_containers_of_one_agent_are_one_agent_to_the_server(server: Prefect1Server, clock: TurnedClock) -> None:
    poll(make_api(server, clock, labels=["b", "a"]))
    poll(make_api(server, clock, labels=["a", "b"]))
    assert [agent["name"] for agent in server.agents()] == ["lambda"]
    assert server.agents()[0]["last_queried"] == clock.now()


def test_a_server_without_a_tenant_says_how_to_make_one(clock: TurnedClock) -> None:
    with Prefect1Server(clock=clock, tenant=False) as server, pytest.raises(PrefectRejected, match="create-tenant"):
        poll(make_api(server, clock))


def test_on_cloud_the_tenant_follows_from_the_key(clock: TurnedClock) -> None:
    tenant = "11111111-2222-3333-4444-555555555555"
    with Prefect1Server(clock=clock, cloud=True, api_keys={"key": tenant}) as server:
        api = make_api(server, clock, key="key", backend="cloud")
        poll(api)
        assert api.tenant_id == tenant
        assert fields_of(server) == [("auth_info",), ("register_agent",), ("get_runs_in_queue",)]
        assert server.requests[-1].headers["X-PREFECT-TENANT-ID"] == tenant


def test_on_cloud_an_older_runner_token_has_the_tenant_that_it_sees(clock: TurnedClock) -> None:
    tenant = "11111111-2222-3333-4444-555555555555"
    with Prefect1Server(clock=clock, cloud=True, runner_tokens={"runner": tenant}) as server:
        api = make_api(server, clock, key="runner", backend="cloud")
        poll(api)
        assert api.tenant_id == tenant


def test_a_wrong_key_is_unauthorized_and_the_message_does_not_show_it(clock: TurnedClock) -> None:
    with Prefect1Server(clock=clock, cloud=True) as server:
        with pytest.raises(PrefectUnauthorized, match="PREFECT__CLOUD__API_KEY") as caught:
            poll(make_api(server, clock, key="wrong-key", backend="cloud"))
        assert "wrong-key" not in str(caught.value)


# Polling


def test_only_runs_whose_labels_are_all_ours_are_found(server: Prefect1Server, clock: TurnedClock) -> None:
    ours = server.add_flow_run(labels=["dev"])
    server.add_flow_run(labels=["dev", "gpu"])
    server.add_flow_run()
    assert [run.id for run in poll(make_api(server, clock, labels=["dev", "eu"]))] == [ours]


def test_without_labels_only_runs_without_labels_are_found(server: Prefect1Server, api: Prefect1API) -> None:
    server.add_flow_run(labels=["dev"])
    plain = server.add_flow_run()
    assert [run.id for run in poll(api)] == [plain]


def test_a_run_that_is_due_soon_is_found_with_its_start_time(
    server: Prefect1Server, api: Prefect1API, clock: TurnedClock
) -> None:
    start = clock.now() + timedelta(seconds=5)
    run_id = server.add_flow_run(start_time=start)
    server.add_flow_run(start_time=clock.now() + timedelta(seconds=40))
    assert [(run.id, run.start_time) for run in poll(api)] == [(run_id, start)]


def test_a_retry_is_found_once_its_process_has_had_its_chance(
    server: Prefect1Server, api: Prefect1API, clock: TurnedClock
) -> None:
    run_id = server.add_flow_run(state={"type": "Running"})
    server.add_task_run(run_id, state={"type": "Retrying", "start_time": clock.now().isoformat(), "run_count": 1})
    assert poll(api) == []
    clock.turn(4)
    assert [(run.id, run.is_retry) for run in poll(api)] == [(run_id, True)]


# Claiming


def test_a_claim_is_submitted_and_identifies_the_deployment(server: Prefect1Server, api: Prefect1API) -> None:
    run_id = server.add_flow_run()
    (claim,) = claim_all(api)
    row = server.flow_run(run_id)
    assert row["state"] == "Submitted"
    context = row["serialized_state"]["context"]
    assert {name: context[name] for name in ("agent", "platform", "place", "key")} == {
        "agent": "lambda",
        "platform": "ecs",
        "place": "flows",
        "key": claim.key,
    }
    assert all(word in row["state_message"] for word in ("lambda", "ecs:flows", claim.key))
    assert row["agent_id"] == server.agents()[0]["id"]


def test_all_claims_of_a_page_are_one_request(server: Prefect1Server, api: Prefect1API) -> None:
    for _ in range(25):
        server.add_flow_run()
    runs = poll(api)
    server.forget_requests()
    assert len(api.claim(runs, PLACE)) == 25
    assert fields_of(server) == [("set_flow_run_states",) * 25]


def test_of_two_agents_one_gets_the_run(server: Prefect1Server, clock: TurnedClock) -> None:
    server.add_flow_run()
    one, other = make_api(server, clock), make_api(server, clock)
    runs, same_runs = poll(one), poll(other)
    assert len(one.claim(runs, PLACE)) == 1
    assert other.claim(same_runs, PLACE) == []


def test_a_claim_whose_reply_was_lost_is_read_back_and_kept(server: Prefect1Server, api: Prefect1API) -> None:
    run_id = server.add_flow_run()
    runs = poll(api)
    server.faults.add(when="set_flow_run_states", then="cut_after")
    assert [claim.run.id for claim in api.claim(runs, PLACE)] == [run_id]


def test_a_claim_that_never_reached_the_server_is_made_again(server: Prefect1Server, api: Prefect1API) -> None:
    server.add_flow_run()
    runs = poll(api)
    server.faults.add(when="set_flow_run_states", then="cut_before")
    assert len(api.claim(runs, PLACE)) == 1


def test_a_refused_claim_does_not_cost_the_others_theirs(server: Prefect1Server, api: Prefect1API) -> None:
    gone, there = server.add_flow_run(), server.add_flow_run()
    runs = poll(api)
    server.delete_flow_run(gone)
    assert [claim.run.id for claim in api.claim(runs, PLACE)] == [there]


def test_the_claim_of_a_retry_is_its_task_runs_and_leaves_the_flow_run_running(
    server: Prefect1Server, api: Prefect1API, clock: TurnedClock
) -> None:
    run_id = server.add_flow_run(state={"type": "Running"})
    due = (clock.now() - timedelta(seconds=5)).isoformat()
    task_run = server.add_task_run(run_id, state={"type": "Retrying", "start_time": due, "run_count": 1})
    (claim,) = claim_all(api)
    assert server.flow_run(run_id)["state"] == "Running"
    assert server.task_run(task_run)["state"] == "Submitted"
    assert server.task_run(task_run)["serialized_state"]["context"]["key"] == claim.key
    assert poll(api) == [], "a Running run with a Submitted task run is taken"


def test_the_next_claim_of_a_run_has_another_key(server: Prefect1Server, api: Prefect1API, clock: TurnedClock) -> None:
    server.add_flow_run()
    (first,) = claim_all(api)
    record(api, first, Answer.REFUSED_FOR_NOW, "throttled")
    clock.turn(36)
    (second,) = claim_all(api)
    assert first.run.id == second.run.id
    assert first.key != second.key


BIG = 100_000


def a_retry_of_many(server: Prefect1Server, clock: TurnedClock, count: int, size: int) -> tuple[str, list[str]]:
    """A mapped task whose children wait for a retry that is due, each with a message of some size."""
    run_id = server.add_flow_run(state={"type": "Running"})
    due = (clock.now() - timedelta(seconds=5)).isoformat()
    state = {"type": "Retrying", "start_time": due, "run_count": 1, "message": size * "x"}
    return run_id, [server.add_task_run(run_id, state=state) for _ in range(count)]


def test_a_retry_that_is_too_big_for_one_request_is_claimed_and_given_back_beside_the_others(
    server: Prefect1Server, api: Prefect1API, clock: TurnedClock
) -> None:
    retried, task_runs = a_retry_of_many(server, clock, 60, BIG)
    other = server.add_flow_run()
    claims = claim_all(api)
    assert {claim.run.id for claim in claims} == {retried, other}
    states = [server.task_run(each)["serialized_state"] for each in task_runs]
    assert {(state["type"], state["context"]["key"]) for state in states} == {
        ("Submitted", claim.key) for claim in claims if claim.run.id == retried
    }
    api.record_and_poll([Outcome(each.run, Answer.REFUSED_FOR_NOW, "throttled", each) for each in claims], soon(clock))
    assert {server.task_run(each)["state"] for each in task_runs} == {"Retrying"}
    assert server.flow_run(other)["state"] == "Scheduled"


def test_a_retry_of_many_task_runs_is_claimed_in_few_root_fields(
    server: Prefect1Server, api: Prefect1API, clock: TurnedClock
) -> None:
    _, task_runs = a_retry_of_many(server, clock, 2 * STATES_LIMIT + 1, 0)
    (claim,) = claim_all(api)
    assert fields_of(server)[-1] == 3 * ("set_task_run_states",)
    assert {server.task_run(each)["state"] for each in task_runs} == {"Submitted"}
    assert [task.id for task in claim.run.due_task_runs] == sorted(task_runs)


def test_the_claim_of_a_retry_stands_though_one_of_its_task_runs_is_gone(
    server: Prefect1Server, api: Prefect1API, clock: TurnedClock
) -> None:
    retried, _ = a_retry_of_many(server, clock, 4, 0)
    (run,) = poll(api)
    *others, last = run.due_task_runs
    gone = replace(run, due_task_runs=(*others, replace(last, id=NOBODY)))
    assert [claim.run.id for claim in api.claim([gone], PLACE)] == [retried]
    assert [server.task_run(each.id)["state"] for each in others] == 3 * ["Submitted"]


def test_runs_whose_states_are_together_too_big_for_one_request_are_all_claimed(
    server: Prefect1Server, api: Prefect1API
) -> None:
    run_ids = {server.add_flow_run(state={"type": "Scheduled", "message": 5 * BIG * "x"}) for _ in range(12)}
    assert {claim.run.id for claim in claim_all(api)} == run_ids


def test_what_concerns_one_run_stays_in_one_request_unless_that_alone_is_too_big(
    server: Prefect1Server, api: Prefect1API
) -> None:
    run_id = server.add_flow_run()

    def lines(*aliases: str, size: int) -> list[RootField]:
        return [write_log(alias, run_id, "we", "INFO", size * "x", {}) for alias in aliases]

    fields = [
        *lines("r0", size=15 * BIG),
        *lines("r1_0", "r1_1", size=8 * BIG),
        *lines("r2_0", "r2_1", "r2_2", "r2_3", size=15 * BIG),
    ]
    replies = api.client.mutate(fields)
    assert [reply.problem for reply in replies.values()] == 7 * [None]
    together = sorted(sorted(name.removesuffix("_line") for name in each.variables) for each in server.requests)
    assert together == [["r0"], ["r1_0", "r1_1"], ["r2_0", "r2_1"], ["r2_2", "r2_3"]]


# Recording


def test_a_launch_is_logged_with_its_identification_and_key(server: Prefect1Server, api: Prefect1API) -> None:
    run_id = server.add_flow_run()
    (claim,) = claim_all(api)
    record(api, claim, Answer.LAUNCHED, "Task arn:1")
    (line,) = server.logs(run_id)
    assert (line["level"], line["message"], line["name"]) == ("INFO", "Submitted for execution: Task arn:1", "lambda")
    assert line["info"] == {"key": claim.key}


def test_outcomes_and_the_next_poll_are_one_request(server: Prefect1Server, api: Prefect1API) -> None:
    for _ in range(3):
        server.add_flow_run()
    claims = claim_all(api)
    server.forget_requests()
    api.record_and_poll([Outcome(claim.run, Answer.LAUNCHED, "Task", claim) for claim in claims], api.clock.now())
    assert fields_of(server) == [("write_run_logs",) * 3 + ("get_runs_in_queue",)]


def test_a_refusal_for_good_is_failed_with_the_reason_in_state_and_log(
    server: Prefect1Server, api: Prefect1API
) -> None:
    run_id = server.add_flow_run()
    (claim,) = claim_all(api)
    record(api, claim, Answer.REFUSED_FOR_GOOD, "no such\x00 image")
    assert (server.flow_run(run_id)["state"], server.flow_run(run_id)["state_message"]) == ("Failed", "no such image")
    assert [(line["level"], line["message"]) for line in server.logs(run_id)] == [("ERROR", "no such image")]


def test_a_refusal_for_now_gives_the_run_back_after_the_lock_with_the_reason(
    server: Prefect1Server, api: Prefect1API, clock: TurnedClock
) -> None:
    run_id = server.add_flow_run()
    (claim,) = claim_all(api)
    record(api, claim, Answer.REFUSED_FOR_NOW, "throttled")
    row = server.flow_run(run_id)
    assert row["state"] == "Scheduled"
    assert "throttled" in row["state_message"]
    assert row["state_start_time"] - clock.now() > timedelta(seconds=31)
    clock.turn(36)
    assert len(claim_all(api)) == 1


def test_a_run_that_could_not_be_looked_up_waits_its_turn_without_ever_being_claimed(
    server: Prefect1Server, api: Prefect1API, clock: TurnedClock
) -> None:
    run_id = server.add_flow_run()
    api.record_and_poll([Outcome(run, Answer.REFUSED_FOR_NOW, "S3 is away") for run in poll(api)], clock.now())
    assert [state["state"] for state in server.states(run_id)] == ["Scheduled", "Scheduled"]
    assert "S3 is away" in server.flow_run(run_id)["state_message"]
    assert poll(api) == []
    clock.turn(36)
    assert len(poll(api)) == 1


def test_a_run_that_is_refused_for_longer_than_the_deadline_fails_with_that_reason(
    server: Prefect1Server, clock: TurnedClock
) -> None:
    api = make_api(server, clock, defer_deadline_seconds=100)
    run_id = server.add_flow_run()
    for _ in range(4):
        for claim in claim_all(api):
            record(api, claim, Answer.REFUSED_FOR_NOW, "no capacity")
        clock.turn(36)
    assert server.flow_run(run_id)["state"] == "Failed"
    assert "no capacity" in server.flow_run(run_id)["state_message"]


def test_a_retry_that_is_refused_for_now_keeps_its_kind_and_count(
    server: Prefect1Server, api: Prefect1API, clock: TurnedClock
) -> None:
    run_id = server.add_flow_run(state={"type": "Running"})
    due = (clock.now() - timedelta(seconds=5)).isoformat()
    task_run = server.add_task_run(run_id, state={"type": "Retrying", "start_time": due, "run_count": 2})
    (claim,) = claim_all(api)
    record(api, claim, Answer.REFUSED_FOR_NOW, "throttled")
    state = server.task_run(task_run)["serialized_state"]
    assert (state["type"], state["run_count"]) == ("Retrying", 2)
    assert server.flow_run(run_id)["state"] == "Running"
    clock.turn(40)
    assert len(claim_all(api)) == 1


@pytest.mark.parametrize("answer", [Answer.REFUSED_FOR_GOOD, Answer.REFUSED_FOR_NOW])
@pytest.mark.parametrize("state", ["Cancelled", "Success", "Running"])
def test_a_run_that_moved_on_is_left_alone(
    server: Prefect1Server, api: Prefect1API, answer: Answer, state: str
) -> None:
    run_id = server.add_flow_run()
    (claim,) = claim_all(api)
    server.set_state(run_id, {"type": state})
    record(api, claim, answer, "whatever")
    assert server.flow_run(run_id)["state"] == state
    assert server.logs(run_id) == []


def test_a_run_that_cannot_be_built_fails_unless_somebody_took_it_meanwhile(
    server: Prefect1Server, api: Prefect1API
) -> None:
    untouched, taken = server.add_flow_run(), server.add_flow_run()
    outcomes = [Outcome(run, Answer.IMPOSSIBLE, "a DockerRun") for run in poll(api)]
    server.set_state(taken, {"type": "Submitted"})
    api.record_and_poll(outcomes, api.clock.now())
    assert server.flow_run(untouched)["state"] == "Failed"
    assert server.flow_run(taken)["state"] == "Submitted"


def test_a_run_that_was_deleted_does_not_cost_the_others_their_record(server: Prefect1Server, api: Prefect1API) -> None:
    ids = [server.add_flow_run() for _ in range(3)]
    claims = claim_all(api)
    server.delete_flow_run(ids[1])
    api.record_and_poll([Outcome(claim.run, Answer.LAUNCHED, "Task", claim) for claim in claims], api.clock.now())
    assert [len(server.logs(run_id)) for run_id in (ids[0], ids[2])] == [1, 1]


# Trouble


@pytest.mark.parametrize("then", ["status", "api_error", "cut_before", "cut_after"])
def test_transient_trouble_is_overcome(server: Prefect1Server, api: Prefect1API, then: Any) -> None:
    run_id = server.add_flow_run()
    poll(api)
    server.faults.add(when="get_runs_in_queue", then=then, times=2)
    assert [run.id for run in poll(api)] == [run_id]


def test_retry_after_is_honoured(server: Prefect1Server, api: Prefect1API, clock: TurnedClock) -> None:
    poll(api)
    server.faults.add(then="status", status=429, headers={"Retry-After": "7"})
    begun = clock.now()
    poll(api)
    assert (clock.now() - begun).total_seconds() == 7


def test_an_api_that_asks_for_a_long_pause_is_away(server: Prefect1Server, api: Prefect1API) -> None:
    server.faults.add(then="status", status=429, headers={"Retry-After": "600"}, times=None)
    with pytest.raises(PrefectUnreachable, match="600"):
        poll(api)


@pytest.mark.parametrize("then", ["status", "api_error", "cut_before"])
def test_an_api_that_stays_away_is_unreachable(server: Prefect1Server, api: Prefect1API, then: Any) -> None:
    server.faults.add(then=then, times=None)
    with pytest.raises(PrefectUnreachable):
        poll(api)


def test_an_api_that_answers_html_is_said_to_be_the_wrong_address(server: Prefect1Server, api: Prefect1API) -> None:
    server.faults.add(then="html", times=None)
    with pytest.raises(PrefectUnreachable, match="PREFECT__CLOUD__API"):
        poll(api)


def test_a_claim_of_which_nothing_is_heard_again_raises(server: Prefect1Server, api: Prefect1API) -> None:
    server.add_flow_run()
    runs = poll(api)
    server.faults.add(when="set_flow_run_states", then="cut_after", times=None)
    with pytest.raises(PrefectUnreachable):
        api.claim(runs, PLACE)


# Orphans


def test_a_claim_without_a_sign_of_launch_is_an_orphan_once_it_is_older_than_any_tick(
    server: Prefect1Server, api: Prefect1API, clock: TurnedClock
) -> None:
    run_id = server.add_flow_run()
    (claim,) = claim_all(api)
    clock.turn(ORPHAN_AGE_SECONDS - 1)
    assert api.find_own(PLACE).orphans == ()
    clock.turn(2)
    (orphan,) = api.find_own(PLACE).orphans
    assert (orphan.run.id, orphan.key) == (run_id, claim.key)
    assert orphan.run.flow == claim.run.flow
    assert orphan.run.run_config == claim.run.run_config


def test_a_recorded_launch_is_no_orphan(server: Prefect1Server, api: Prefect1API, clock: TurnedClock) -> None:
    server.add_flow_run()
    (claim,) = claim_all(api)
    record(api, claim, Answer.LAUNCHED, "Task arn:1")
    clock.turn(ORPHAN_AGE_SECONDS + 1)
    assert api.find_own(PLACE).orphans == ()


def test_the_sign_of_an_earlier_launch_does_not_stand_for_a_later_claim(
    server: Prefect1Server, api: Prefect1API, clock: TurnedClock
) -> None:
    run_id = server.add_flow_run()
    (first,) = claim_all(api)
    record(api, first, Answer.LAUNCHED, "Task arn:1")
    clock.turn(60)
    server.set_state(run_id, {"type": "Scheduled", "start_time": clock.now().isoformat()})
    (second,) = claim_all(api)
    assert second.run.was_claimed_before
    clock.turn(ORPHAN_AGE_SECONDS + 1)
    assert [orphan.key for orphan in api.find_own(PLACE).orphans] == [second.key]


def test_claims_of_another_agent_or_for_another_place_are_not_ours(
    server: Prefect1Server, api: Prefect1API, clock: TurnedClock
) -> None:
    server.add_flow_run()
    claim_all(api)
    clock.turn(ORPHAN_AGE_SECONDS + 1)
    assert make_api(server, clock, name="another").find_own(PLACE).orphans == ()
    assert api.find_own(Place("ecs", "another-cluster")).orphans == ()


def test_an_orphaned_retry_is_found_with_the_states_its_task_runs_had(
    server: Prefect1Server, api: Prefect1API, clock: TurnedClock
) -> None:
    run_id = server.add_flow_run(state={"type": "Running"})
    due = (clock.now() - timedelta(seconds=5)).isoformat()
    server.add_task_run(run_id, state={"type": "Retrying", "start_time": due, "run_count": 2})
    (claim,) = claim_all(api)
    clock.turn(ORPHAN_AGE_SECONDS + 1)
    (orphan,) = api.find_own(PLACE).orphans
    assert orphan.key == claim.key
    assert [task.state["type"] for task in orphan.run.due_task_runs] == ["Retrying"]


# Health


def test_health_is_read_in_one_request_without_polling_or_registering(
    server: Prefect1Server, clock: TurnedClock
) -> None:
    facts = make_api(server, clock, tenant_id=server.tenant_id).health_facts(clock.now())
    assert fields_of(server) == [("agent", "flow_run", "flow_run")]
    assert facts.last_polled is None
    assert server.agents() == []


def test_health_knows_the_latest_poll_and_the_oldest_due_run_of_our_labels(
    server: Prefect1Server, clock: TurnedClock
) -> None:
    api = make_api(server, clock, labels=["dev"])
    poll(api)
    polled = clock.now()
    clock.turn(30)
    server.add_flow_run(labels=["other"], start_time=polled - timedelta(hours=1))
    server.add_flow_run(start_time=polled - timedelta(hours=1))
    server.add_flow_run(labels=["dev"], start_time=polled)
    facts = api.health_facts(clock.now())
    assert (facts.last_polled, facts.oldest_due) == (polled, polled)


def test_the_poll_of_an_official_agent_of_the_same_name_is_not_ours(server: Prefect1Server, clock: TurnedClock) -> None:
    official = make_api(server, clock)
    official.client.transport.headers["X-PREFECT-CORE-VERSION"] = "1.4.1"
    poll(official)
    assert make_api(server, clock).health_facts(clock.now()).last_polled is None


def test_a_run_that_failed_by_the_agents_own_fault_is_in_the_health_facts(
    server: Prefect1Server, api: Prefect1API, clock: TurnedClock
) -> None:
    server.add_flow_run()
    (claim,) = claim_all(api)
    record(api, claim, Answer.REFUSED_FOR_GOOD, "not allowed to run tasks", agent_fault=True)
    assert api.health_facts(clock.now()).agent_fault == "not allowed to run tasks"
    clock.turn(3600)
    assert api.health_facts(clock.now()).agent_fault is None


def test_after_a_fault_of_its_own_the_agent_finds_nothing_for_a_while(
    server: Prefect1Server, api: Prefect1API, clock: TurnedClock
) -> None:
    server.add_flow_run()
    (claim,) = claim_all(api)
    record(api, claim, Answer.REFUSED_FOR_GOOD, "not allowed to run tasks", agent_fault=True)
    server.add_flow_run()
    assert poll(api) == []
    clock.turn(FAULT_PAUSE_SECONDS + 1)
    assert len(poll(api)) == 1


# What is written must not be late


def test_a_claim_is_not_sent_again_when_its_reading_has_grown_old(
    server: Prefect1Server, api: Prefect1API, clock: TurnedClock
) -> None:
    run_id = server.add_flow_run()
    runs = poll(api)
    server.faults.add(when="set_flow_run_states", then="status", status=503, headers={"Retry-After": "9"})
    with pytest.raises(PrefectUnreachable):
        api.claim(runs, PLACE)
    assert server.flow_run(run_id)["state"] == "Scheduled"


def test_a_claim_that_did_not_count_is_given_back_for_as_long_as_it_takes(
    server: Prefect1Server, clock: TurnedClock
) -> None:
    api = make_api(server, clock, defer_deadline_seconds=60)
    run_id = server.add_flow_run()
    for _ in range(4):
        outcomes = [
            Outcome(claim.run, Answer.REFUSED_FOR_NOW, "not allowed", claim, counts=False) for claim in claim_all(api)
        ]
        api.record_and_poll(outcomes, clock.now())
        clock.turn(36)
    assert server.flow_run(run_id)["state"] == "Scheduled"


def a_retry_of_two(server: Prefect1Server, clock: TurnedClock) -> tuple[str, list[str]]:
    run_id = server.add_flow_run(state={"type": "Running"})
    due = (clock.now() - timedelta(seconds=5)).isoformat()
    state = {"type": "Retrying", "start_time": due, "run_count": 1}
    return run_id, [server.add_task_run(run_id, state=state) for _ in range(2)]


def test_a_retry_that_is_given_back_leaves_alone_the_task_run_that_has_finished_meanwhile(
    server: Prefect1Server, api: Prefect1API, clock: TurnedClock
) -> None:
    _, task_runs = a_retry_of_two(server, clock)
    (claim,) = claim_all(api)
    server.set_task_state(task_runs[1], {"type": "Success"})
    record(api, claim, Answer.REFUSED_FOR_NOW, "throttled")
    assert [server.task_run(each)["state"] for each in task_runs] == ["Retrying", "Success"]


def test_a_retry_that_is_refused_for_longer_than_the_deadline_fails(server: Prefect1Server, clock: TurnedClock) -> None:
    api = make_api(server, clock, defer_deadline_seconds=100)
    run_id, _ = a_retry_of_two(server, clock)
    for _ in range(5):
        for claim in claim_all(api):
            record(api, claim, Answer.REFUSED_FOR_NOW, "no capacity")
        clock.turn(40)
    assert server.flow_run(run_id)["state"] == "Failed"


def test_a_running_run_of_which_one_task_run_is_claimed_is_taken_though_another_is_due(
    server: Prefect1Server, api: Prefect1API, clock: TurnedClock
) -> None:
    _, task_runs = a_retry_of_two(server, clock)
    server.set_task_state(task_runs[0], {"type": "Submitted"})
    assert poll(api) == []


def test_a_dispute_that_cannot_be_read_does_not_cost_the_undisputed_claims(
    server: Prefect1Server, api: Prefect1API, clock: TurnedClock
) -> None:
    contested, free = server.add_flow_run(), server.add_flow_run()
    runs, rival = poll(api), make_api(server, clock)
    rival.claim([run for run in poll(rival) if run.id == contested], PLACE)
    server.faults.add(when="flow_run", then="api_error", times=None)
    assert [claim.run.id for claim in api.claim(runs, PLACE)] == [free]


def test_a_log_line_of_anybodys_does_not_stop_recovery(
    server: Prefect1Server, api: Prefect1API, clock: TurnedClock
) -> None:
    run_id = server.add_flow_run()
    claim_all(api)
    field = write_log("odd", run_id, "anybody", "INFO", "Submitted for execution: x", {})
    variable = field.variables["odd_line"]
    odd = replace(field, variables={"odd_line": (variable[0], {**variable[1], "info": [1]})})
    assert api.client.mutate([odd])["odd"].problem is None
    clock.turn(ORPHAN_AGE_SECONDS + 1)
    assert [claim.run.id for claim in api.find_own(PLACE).orphans] == [run_id]


@pytest.mark.parametrize("odd", ["yesterday", 7, [1], {}, True, "0001-01-01T00:00:00+23:59"])
def test_whatever_a_state_says_of_an_earlier_refusal_does_not_stop_the_record_of_the_others(
    server: Prefect1Server, api: Prefect1API, odd: Any
) -> None:
    run_ids = [server.add_flow_run(state={"type": "Scheduled", "context": {"refused_since": odd}})]
    run_ids.append(server.add_flow_run())
    outcomes = [Outcome(claim.run, Answer.REFUSED_FOR_NOW, "no room", claim) for claim in claim_all(api)]
    api.record_and_poll(outcomes, api.clock.now())
    for run_id in run_ids:
        state = server.flow_run(run_id)["serialized_state"]
        assert (state["type"], state["context"]["refused_since"]) == ("Scheduled", api.clock.now().isoformat())


# In a backlog


def make_due(server: Prefect1Server, clock: TurnedClock, count: int) -> list[str]:
    """Runs that are due one after the other."""
    run_ids = []
    for _ in range(count):
        clock.turn(0.001)
        run_ids.append(server.add_flow_run())
    clock.turn(1)
    return run_ids


def test_in_a_backlog_the_runs_are_read_while_the_queue_is_asked(
    server: Prefect1Server, clock: TurnedClock, api: Prefect1API
) -> None:
    run_ids = make_due(server, clock, 85)
    claimed = [claim.run.id for _ in range(2) for claim in claim_all(api)]
    server.forget_requests()
    assert claimed + [run.id for run in poll(api)] == run_ids[:75]
    assert sorted(fields_of(server)) == [("flow_run", "flow_run"), ("get_runs_in_queue",)]


def test_what_is_read_in_a_backlog_is_what_would_have_been_read_of_the_queue(
    server: Prefect1Server, clock: TurnedClock, api: Prefect1API
) -> None:
    make_due(server, clock, 40)
    alone = [poll(api) for _ in range(2)][-1]
    assert poll(api) == alone
    assert [names for names in fields_of(server) if "flow_run" in names] == [("flow_run", "flow_run")] * 3


def test_a_full_answer_that_is_the_last_one_costs_no_more(
    server: Prefect1Server, clock: TurnedClock, api: Prefect1API
) -> None:
    make_due(server, clock, 25)
    claim_all(api)
    server.forget_requests()
    assert poll(api) == []
    assert fields_of(server) == [("get_runs_in_queue",)]


def test_a_run_that_was_not_expected_from_the_queue_is_read_after_it(
    server: Prefect1Server, clock: TurnedClock, api: Prefect1API
) -> None:
    make_due(server, clock, 20)
    retried = []
    for _ in range(5):
        run_id = server.add_flow_run(state={"type": "Running"})
        due = (clock.now() - timedelta(seconds=10)).isoformat()
        server.add_task_run(run_id, {"type": "Retrying", "start_time": due, "run_count": 2})
        retried.append(run_id)
    alone = [poll(api) for _ in range(2)][-1]
    server.forget_requests()
    again = poll(api)
    assert again == alone
    assert {run.id for run in again if run.is_retry} == set(retried)
    assert sorted(fields_of(server)) == [("flow_run", "flow_run"), ("flow_run", "flow_run"), ("get_runs_in_queue",)]


def test_what_was_read_long_before_the_queue_answered_is_read_again(
    server: Prefect1Server, clock: TurnedClock, api: Prefect1API
) -> None:
    run_ids = make_due(server, clock, 40)
    for _ in range(2):
        poll(api)
    server.faults.add("status", "get_runs_in_queue", status=503, headers={"Retry-After": "5"})
    server.set_state(run_ids[0], {"type": "Scheduled", "start_time": clock.now().isoformat(), "message": "anew"})
    server.forget_requests()
    assert len(poll(api)) == 25
    assert [names for names in fields_of(server) if "flow_run" in names] == [("flow_run", "flow_run")] * 2


@pytest.mark.parametrize("then", ["status", "cut_before", "api_error"])
def test_in_a_backlog_a_reading_that_fails_is_made_up_for_after_the_queue(
    server: Prefect1Server, clock: TurnedClock, api: Prefect1API, then: Any, caplog: pytest.LogCaptureFixture
) -> None:
    run_ids = make_due(server, clock, 85)
    for _ in range(2):
        claim_all(api)
    server.faults.add(then, lambda request: "$before" in request.query and "flow_run" in request.field_names, None)
    for _ in range(2):
        assert [run.id for run in poll(api)] == run_ids[50:75]
    assert "Nothing could be read beside the queue" in caplog.text


def test_an_agents_own_fault_pauses_a_backlog_too(server: Prefect1Server, clock: TurnedClock, api: Prefect1API) -> None:
    make_due(server, clock, 90)
    claims = [claim_all(api) for _ in range(2)][-1]
    record(api, claims[0], Answer.REFUSED_FOR_GOOD, "AccessDenied", agent_fault=True)
    assert poll(api) == []


# A server that takes its time for each field

SLOWLY = 0.02
"""So that 25 fields take twice the time from which on a mutation is divided."""


class KnownSlowness(Portions):
    """What an agent has learnt of such a server. What this machine takes besides is not learnt: it may be busy."""

    def __init__(self) -> None:
        super().__init__()
        field = RootField("r0", "hello")
        super().learn([[field]], 0.0)
        super().learn([[field] * 25], 24 * SLOWLY)

    def learn(self, portions: Sequence[Sequence[RootField]], seconds: float) -> None:
        pass


@pytest.fixture
def slow() -> Iterator[Prefect1Server]:
    with Prefect1Server(field_seconds=SLOWLY) as double:
        yield double


@pytest.fixture
def dividing(slow: Prefect1Server) -> Prefect1API:
    """An agent that knows how slow the server is."""
    api = make_api(slow, SystemClock())
    api.client.portions = KnownSlowness()
    return api


def claims_of(server: Prefect1Server) -> list[int]:
    """How many claims came in each request."""
    names = [names.count("set_flow_run_states") for names in fields_of(server)]
    return [count for count in names if count]


def test_a_slow_servers_claims_travel_in_several_requests_at_once(clock: TurnedClock) -> None:
    with Prefect1Server(clock=clock, field_seconds=SLOWLY, sleep=clock.sleep) as slow:
        run_ids = [slow.add_flow_run() for _ in range(50)]
        api = make_api(slow, clock)
        first, second = claim_all(api), claim_all(api)
    assert {claim.run.id for claim in (*first, *second)} == set(run_ids)
    undivided, *divided = claims_of(slow)
    assert undivided == 25
    assert sum(divided) == 25
    assert 1 < len(divided) <= 8


def test_of_claims_in_several_requests_those_without_an_answer_are_nobodys_yet(
    slow: Prefect1Server, dividing: Prefect1API, caplog: pytest.LogCaptureFixture
) -> None:
    run_ids = [slow.add_flow_run() for _ in range(25)]
    due = poll(dividing)
    lost = due[0].id
    slow.faults.add("cut_after", lambda request: lost in str(request.variables), times=None)
    claims = dividing.claim(due, PLACE)
    claimed = {claim.run.id for claim in claims}
    assert lost not in claimed
    assert 10 < len(claimed) < 25
    assert "A part of a request has no answer" in caplog.text
    assert {str(slow.flow_run(run_id)["state"]) for run_id in run_ids} == {"Submitted"}


def test_claims_in_several_requests_that_are_all_lost_are_one_trouble(
    slow: Prefect1Server, dividing: Prefect1API
) -> None:
    for _ in range(25):
        slow.add_flow_run()
    due = poll(dividing)
    slow.faults.add("status", "set_flow_run_states", times=None, status=503)
    with pytest.raises(PrefectUnreachable):
        dividing.claim(due, PLACE)
    assert len(claims_of(slow)) > 4


def test_a_refusal_of_one_request_leaves_none_of_the_others_under_way(
    slow: Prefect1Server, dividing: Prefect1API
) -> None:
    for _ in range(25):
        slow.add_flow_run()
    due = poll(dividing)
    first = due[0].id
    slow.faults.add("status", lambda request: first in str(request.variables), status=401)
    with pytest.raises(PrefectUnauthorized):
        dividing.claim(due, PLACE)
    states = [slow.flow_run(run.id)["state"] for run in due]
    time.sleep(10 * SLOWLY)
    assert [slow.flow_run(run.id)["state"] for run in due] == states


def test_a_lost_request_leaves_no_run_half_ended(slow: Prefect1Server, dividing: Prefect1API) -> None:
    """A run is set back last of what is written of it, so that who is cut off before finds it as it was."""
    config = {"type": "ECSRun", "env": {"AGENT_RESUBMIT": "running"}}
    for _ in range(25):
        slow.add_flow_run(run_config=config)
    claims = claim_all(dividing)
    dividing.record_and_poll(
        [Outcome(claim.run, Answer.LAUNCHED, "Task x", claim) for claim in claims], dividing.clock.now()
    )
    tasks: dict[str, list[str]] = {}
    for claim in claims:
        slow.set_state(claim.run.id, {"type": "Running"})
        tasks[claim.run.id] = [slow.add_task_run(claim.run.id, {"type": "Running"}) for _ in range(4)]
    stop = Stop("spot", has_run=True, passes=True)
    stops = [Sighting(claim.run.id, claim.key, "Task x", stop=stop) for claim in claims]
    lost = tasks[claims[4].run.id][2]
    slow.faults.add("cut_before", lambda request: lost in str(request.variables), times=None)
    with pytest.raises(PrefectUnreachable):
        dividing.record_stops(stops)
    half = [
        run_id
        for run_id, task_ids in tasks.items()
        if slow.flow_run(run_id)["state"] == "Scheduled"
        and any(slow.task_run(task_id)["state"] == "Running" for task_id in task_ids)
    ]
    assert half == []
    assert any(slow.flow_run(run_id)["state"] == "Scheduled" for run_id in tasks)
