"""What Prefect 1 knows of our launches and what is written when one has ended, against the double of the server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.flow_runs import Claim, Document, Place
from chalicelib.outcomes import Answer, Outcome
from chalicelib.prefect_api.prefect1 import WRITES_LIMIT, Prefect1API
from chalicelib.prefect_api.prefect1_fields import write_log
from chalicelib.prefect_api.prefect1_launches import (
    CANCELLED_SECONDS,
    ORPHAN_AGE_SECONDS,
    PAGE_LIMIT,
    read_own,
    read_resubmit,
    read_standing,
)
from chalicelib.prefect_api.prefect1_records import GIVE_BACK_SECONDS
from chalicelib.prefect_api.prefect1_rows import read_runs
from chalicelib.sightings import RESUBMIT_BUDGET, Consequence, Launched, Phase, Resubmit, Sighting, Stop
from tests.doubles.clock import TurnedClock
from tests.doubles.prefect1 import Prefect1Server
from tests.prefect1_agents import make_api

PLACE = Place("ecs", "flows")
FAILED = Stop("Task arn:1 has stopped: exit code 1", has_run=True)
NO_ROOM = Stop("Capacity is unavailable", has_run=False, passes=True)
TAKEN = Stop("Your Spot Task was interrupted", has_run=True, passes=True)
OLD_ENOUGH = ORPHAN_AGE_SECONDS + 1
ODD_INFOS = [[1], {}, {"key": None}, {"key": 7}, {"key": "x"}, {"key": "²"}, {"key": 5000 * "9"}, {"key": {"key": 1}}]
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
LONG_AGO = "2026-11-20T11:00:00+00:00"
NAMES = ["key", "context", "state", "start_time", "resubmitted", "refused_since", "env", "type"]
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.sampled_from(["²", LONG_AGO])
    | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=12,
)
"""What anybody may have written: in states, run configs and logs."""


class World:
    """A server, its time, and one agent of ours."""

    def __init__(self, server: Prefect1Server, clock: TurnedClock) -> None:
        self.server = server
        self.clock = clock
        self.api = make_api(server, clock)
        self.launches = 0

    def add_run(self, **env: str) -> str:
        return self.server.add_flow_run(run_config={"type": "ECSRun", "env": env or None})

    def claim(self, api: Prefect1API | None = None, place: Place = PLACE) -> Claim:
        """Claim the one run that is due, without a launch."""
        api = api or self.api
        (claim,) = api.claim(api.record_and_poll([], self.clock.now()), place)
        return claim

    def launch(self, api: Prefect1API | None = None, place: Place = PLACE) -> Claim:
        """Claim the one run that is due, and record its launch."""
        claim = self.claim(api, place)
        self.sign(claim, api)
        return claim

    def sign(self, claim: Claim, api: Prefect1API | None = None) -> None:
        self.launches += 1
        outcome = Outcome(claim.run, Answer.LAUNCHED, f"Task arn:{self.launches}", claim)
        (api or self.api).record_and_poll([outcome], self.clock.now())

    def set(self, run_id: str, kind: str, **more: Any) -> None:
        self.server.set_state(run_id, {"type": kind, **more})

    def restart(self, run_id: str) -> None:
        """As a user does who wants the run once more."""
        self.clock.turn(40)
        self.set(run_id, "Scheduled", start_time=self.clock.now().isoformat())

    def add_task(self, run_id: str, kind: str = "Running", **more: Any) -> str:
        return self.server.add_task_run(run_id, state={"type": kind, **more})

    def add_due_retry(self, run_id: str, run_count: int = 2) -> str:
        due = (self.clock.now() - timedelta(seconds=5)).isoformat()
        return self.add_task(run_id, "Retrying", start_time=due, run_count=run_count)

    def launched(self, api: Prefect1API | None = None, place: Place = PLACE) -> list[Launched]:
        return list((api or self.api).find_own(place).launched)

    def stop(self, claim: Claim, stop: Stop | None = FAILED) -> Consequence:
        (consequence,) = self.api.record_stops([Sighting(claim.run.id, claim.key, "Task", stop=stop)])
        return consequence

    def state(self, run_id: str) -> str:
        return str(self.server.flow_run(run_id)["state"])

    def task_state(self, task_run_id: str) -> dict[str, Any]:
        state: dict[str, Any] = self.server.task_run(task_run_id)["serialized_state"]
        return state

    def turn_to_next_claim(self) -> None:
        self.clock.turn(GIVE_BACK_SECONDS + 1)

    def lines(self, run_id: str) -> list[tuple[str, str]]:
        """The run's log without the signs of launch."""
        lines = [(line["level"], line["message"]) for line in self.server.logs(run_id)]
        return [line for line in lines if not line[1].startswith("Submitted for execution")]


@pytest.fixture
def world() -> Iterator[World]:
    clock = TurnedClock()
    with Prefect1Server(clock=clock) as server:
        yield World(server, clock)


# How far a launch has come


def test_a_signed_claim_waits_and_says_what_was_launched(world: World) -> None:
    run_id = world.add_run()
    claim = world.launch()
    since = world.clock.now()
    world.clock.turn(OLD_ENOUGH)
    assert world.launched() == [Launched(run_id, claim.key, Phase.WAITING, since, "Task arn:1")]


def test_a_claim_without_a_sign_is_no_launch(world: World) -> None:
    world.add_run()
    world.claim()
    world.clock.turn(OLD_ENOUGH)
    own = world.api.find_own(PLACE)
    assert (len(own.orphans), own.launched) == (1, ())


@pytest.mark.parametrize(
    ("state", "phase"), [("Running", Phase.RUNNING), ("Cancelling", Phase.CANCELLING), ("Cancelled", Phase.CANCELLED)]
)
def test_a_run_that_has_begun_is_told_by_its_phase_since_it_entered_it(world: World, state: str, phase: Phase) -> None:
    run_id = world.add_run()
    claim = world.launch()
    world.clock.turn(10)
    world.set(run_id, state)
    assert world.launched() == [Launched(run_id, claim.key, phase, world.clock.now(), "Task arn:1")]


@pytest.mark.parametrize("state", ["Success", "Failed", "Scheduled", "Paused"])
def test_a_run_that_is_over_or_waits_for_somebody_is_not_told(world: World, state: str) -> None:
    run_id = world.add_run()
    world.launch()
    world.set(run_id, state)
    world.clock.turn(OLD_ENOUGH)
    assert world.launched() == []


def test_a_run_is_looked_at_for_an_hour_after_it_was_cancelled(world: World) -> None:
    run_id = world.add_run()
    world.launch()
    world.server.cancel(run_id)
    assert world.state(run_id) == "Cancelled"
    world.clock.turn(CANCELLED_SECONDS - 1)
    assert [launch.phase for launch in world.launched()] == [Phase.CANCELLED]
    world.clock.turn(1)
    assert world.launched() == []


def test_a_run_that_was_cancelled_before_its_launch_was_recorded_is_told_without_a_text(world: World) -> None:
    run_id = world.add_run()
    claim = world.claim()
    world.server.cancel(run_id)
    assert world.launched() == [Launched(run_id, claim.key, Phase.CANCELLED, world.clock.now(), "")]


def test_a_claimed_retry_waits_with_its_own_key_and_its_run_is_told_once(world: World) -> None:
    run_id = world.add_run()
    world.launch()
    world.set(run_id, "Running")
    world.add_due_retry(run_id)
    world.add_due_retry(run_id)
    retry = world.launch()
    world.clock.turn(OLD_ENOUGH)
    (launch,) = world.launched()
    assert (launch.key, launch.phase, launch.text) == (retry.key, Phase.WAITING, "Task arn:2")


def test_more_launches_than_a_page_are_all_found(world: World) -> None:
    count = PAGE_LIMIT + 20
    for _ in range(count):
        world.add_run()
    for _ in range(-(-count // 25)):
        claims = world.api.claim(world.api.record_and_poll([], world.clock.now()), PLACE)
        outcomes = [Outcome(claim.run, Answer.LAUNCHED, f"Task {claim.key}", claim) for claim in claims]
        world.api.record_and_poll(outcomes, world.clock.now())
        for claim in claims[::2]:
            world.set(claim.run.id, "Running")
    world.clock.turn(OLD_ENOUGH)
    world.server.forget_requests()
    launched = world.launched()
    assert len(world.server.requests) == 1, "neither those that wait nor those that run fill a page"
    for launch in launched:
        world.set(launch.run_id, "Running")
    world.server.forget_requests()
    launched = world.launched()
    assert len(world.server.requests) == 2
    assert len({launch.run_id for launch in launched}) == len(launched) == count
    assert all(launch.text == f"Task {launch.key}" for launch in launched)


# Whose launch it is


def test_launches_of_another_agent_or_for_another_place_are_not_ours(world: World) -> None:
    run_id = world.add_run()
    world.launch()
    another = make_api(world.server, world.clock, name="another")
    for state in ("Submitted", "Running"):
        world.clock.turn(OLD_ENOUGH)
        assert len(world.launched()) == 1
        assert world.launched(another) == []
        assert world.launched(place=Place("ecs", "elsewhere")) == []
        world.set(run_id, "Running") if state == "Submitted" else None


@pytest.mark.parametrize("state", ["Running", "Cancelling", "Cancelled"])
@pytest.mark.parametrize(("name", "place"), [("another", PLACE), ("lambda", Place("ecs", "elsewhere"))])
def test_a_run_that_another_agent_has_launched_since_is_not_ours_any_more(
    world: World, name: str, place: Place, state: str
) -> None:
    run_id = world.add_run()
    world.launch()
    world.restart(run_id)
    other = make_api(world.server, world.clock, name=name)
    claim = world.launch(other, place)
    world.set(run_id, state)
    assert world.launched() == []
    assert [launch.key for launch in world.launched(other, place)] == [claim.key]


def test_a_run_whose_retry_another_agent_has_launched_is_not_ours_any_more(world: World) -> None:
    run_id = world.add_run()
    ours = world.launch()
    world.set(run_id, "Running")
    task_run = world.add_due_retry(run_id)
    world.clock.turn(5)
    other = make_api(world.server, world.clock, name="another")
    theirs = world.launch(other)
    world.server.set_task_state(task_run, {"type": "Running"})
    assert world.launched() == []
    assert [launch.key for launch in world.launched(other)] == [theirs.key]
    assert world.stop(ours) is Consequence.NOTHING


def official_launch(world: World, run_id: str) -> None:
    """What Prefect's own agent writes of a launch: a state and a line in the log, neither with a key."""
    world.set(run_id, "Submitted", message="Submitted for execution")
    official_sign(world, run_id)


def official_sign(world: World, run_id: str) -> None:
    field = write_log("line", run_id, "official", "INFO", "Submitted for execution: Task arn:theirs", {})
    kind, line = field.variables["line_line"]
    without_info = {name: value for name, value in line.items() if name != "info"}
    sign = replace(field, variables={"line_line": (kind, without_info)})
    assert world.api.client.mutate([sign])["line"].problem is None


def test_a_run_that_prefects_own_agent_has_launched_since_is_not_ours_any_more(world: World) -> None:
    run_id = world.add_run()
    ours = world.launch()
    world.restart(run_id)
    official_launch(world, run_id)
    world.set(run_id, "Running")
    assert world.launched() == []
    assert world.stop(ours) is Consequence.NOTHING
    assert world.state(run_id) == "Running"


def test_a_run_whose_retry_prefects_own_agent_has_launched_is_not_ours_any_more(world: World) -> None:
    run_id = world.add_run()
    ours = world.launch()
    world.set(run_id, "Running")
    world.clock.turn(60)
    world.add_task(run_id, "Submitted")
    official_sign(world, run_id)
    assert world.launched() == []
    assert world.stop(ours) is Consequence.NOTHING


def test_no_key_at_all_speaks_for_a_run_that_has_none(world: World) -> None:
    run_id = world.add_run()
    official_launch(world, run_id)
    world.set(run_id, "Running")
    sightings = [Sighting(run_id, key, "Task", stop=FAILED) for key in (None, "", "None", f"{run_id}-1")]
    assert world.api.record_stops(sightings) == [Consequence.NOTHING] * 4
    assert world.state(run_id) == "Running"


def test_after_a_new_claim_the_old_key_does_not_speak(world: World) -> None:
    run_id = world.add_run()
    first = world.launch()
    world.restart(run_id)
    second = world.launch()
    for state in ("Submitted", "Running"):
        assert world.stop(first) is Consequence.NOTHING
        assert world.state(run_id) == state
        world.set(run_id, "Running")
    assert world.stop(second) is Consequence.FAIL


def test_a_claim_that_somebody_has_claimed_over_does_not_speak(world: World) -> None:
    run_id = world.add_run()
    claim = world.launch()
    world.clock.turn(40)
    world.set(run_id, "Submitted", context={"agent": "another", "key": f"{run_id}-{claim.run.version + 1}"})
    world.set(run_id, "Running")
    assert world.stop(claim) is Consequence.NOTHING


def test_a_claim_that_is_not_yet_signed_speaks_already(world: World) -> None:
    run_id = world.add_run()
    world.launch()
    world.restart(run_id)
    second = world.claim()
    world.set(run_id, "Running")
    assert world.stop(second) is Consequence.FAIL


def test_once_a_retry_runs_its_launch_speaks_and_the_first_does_not(world: World) -> None:
    run_id = world.add_run()
    first = world.launch()
    world.set(run_id, "Running")
    task_run = world.add_due_retry(run_id)
    world.clock.turn(5)
    retry = world.launch()
    world.server.set_task_state(task_run, {"type": "Running"})
    assert [(launch.key, launch.text) for launch in world.launched()] == [(retry.key, "Task arn:2")]
    assert world.stop(first) is Consequence.NOTHING
    assert world.stop(retry) is Consequence.FAIL


def test_while_a_claimed_retry_waits_the_first_launch_does_not_speak(world: World) -> None:
    run_id = world.add_run()
    first = world.launch()
    world.set(run_id, "Running")
    world.add_due_retry(run_id)
    retry = world.claim()
    assert world.stop(first) is Consequence.NOTHING
    assert world.stop(retry) is Consequence.FAIL


@pytest.mark.parametrize("info", ODD_INFOS)
def test_a_log_line_of_anybodys_breaks_nothing(world: World, info: Any) -> None:
    run_id = world.add_run()
    world.launch()
    world.set(run_id, "Running")
    world.clock.turn(1)
    field = write_log("odd", run_id, "anybody", "INFO", "Submitted for execution: x", {})
    kind, line = field.variables["odd_line"]
    assert world.api.client.mutate([replace(field, variables={"odd_line": (kind, {**line, "info": info})})])
    assert len(world.launched()) <= 1
    world.api.record_stops([Sighting(run_id, "another-key", "Task", stop=FAILED)])
    assert world.state(run_id) == "Running"


def test_a_run_config_of_any_shape_costs_the_others_nothing(world: World) -> None:
    odd = world.server.add_flow_run(run_config={"type": "ECSRun", "env": ["a"]})
    first, run_id = world.launch(), world.add_run()
    second = world.launch()
    for each in (odd, run_id):
        world.set(each, "Running")
    assert {launch.run_id for launch in world.launched()} == {odd, run_id}
    world.api.record_stops([Sighting(claim.run.id, claim.key, "Task", stop=FAILED) for claim in (first, second)])
    assert world.state(run_id) == "Failed"


def a_row(run_id: str, kind: str, state: Any, run_config: Any = None, info: Any = None, text: str = "") -> Document:
    """A flow run with all that is asked of one; what anybody may write of it is given."""
    claim = {"id": run_id, "version": 3, "serialized_state": state}
    task_run = {**claim, "state": "Submitted", "state_timestamp": LONG_AGO}
    return {
        **task_run,
        "name": run_id,
        "state": kind,
        "run_config": run_config,
        "flow": {"id": "flow", "name": "a flow", "version": 1, "core_version": "1.4.1", "storage": {}},
        "begun": [],
        "submissions": [claim],
        "states": [claim],
        "retries": [{"states": [claim]}],
        "open": [task_run] if kind == "Running" else [],
        "task_runs": [task_run] if kind == "Running" else [],
        "logs": [{"info": info, "message": text}],
    }


def a_task_row(run_id: str, state: Any, run_config: Any = None, info: Any = None, text: str = "") -> Document:
    row = a_row(run_id, "Running", {}, run_config, info, text)
    return {
        "id": f"{run_id}-task",
        "version": 2,
        "serialized_state": state,
        "state_timestamp": LONG_AGO,
        "flow_run": row,
    }


@given(JSON, JSON, JSON, st.text())
def test_one_row_of_whatever_shape_does_not_hide_the_others(state: Any, run_config: Any, info: Any, text: str) -> None:
    odd, claimed = (state, run_config, info, text), {"type": "Submitted", "context": {"key": "good-3"}}
    own = read_own(
        {
            "claims": [a_row("odd", "Submitted", *odd), a_row("good", "Submitted", claimed)],
            "retries": [a_task_row("odd", *odd), a_task_row("good", claimed)],
            "begun": [
                a_row("odd", "Running", *odd),
                {**a_row("good", "Running", claimed, info={"key": "good-3"}), "open": []},
            ],
        },
        "tenant",
        NOW,
    )
    assert [claim.run.id for claim in own.orphans].count("good") == 2
    assert [launch.key for launch in own.launched if launch.run_id == "good"] == ["good-3"]
    for kind in ("Scheduled", "Running"):
        runs = read_runs([a_row("odd", kind, *odd), a_row("good", kind, claimed)], "tenant", NOW)
        assert "good" in {run.id for run in runs}


@given(JSON, JSON, JSON, st.text())
def test_how_a_run_stands_is_read_of_whatever_anybody_has_written(
    state: Any, run_config: Any, info: Any, text: str
) -> None:
    for kind in ("Submitted", "Running", "Success"):
        read_standing(a_row("odd", kind, state, run_config, info, text))


def test_a_row_that_is_left_out_is_told(caplog: pytest.LogCaptureFixture) -> None:
    assert read_runs([a_row("odd", "Scheduled", "what?")], "tenant", NOW) == []
    assert "Flow run odd is left out, as it has an unknown shape" in caplog.text


# What is written


@pytest.mark.parametrize("state", ["Submitted", "Running"])
def test_a_launch_that_failed_fails_its_run_with_the_reason_in_state_and_log(world: World, state: str) -> None:
    run_id = world.add_run()
    claim = world.launch()
    if state == "Running":
        world.set(run_id, state)
    assert world.stop(claim) is Consequence.FAIL
    row = world.server.flow_run(run_id)
    assert (row["state"], row["state_message"]) == ("Failed", FAILED.reason)
    assert row["serialized_state"]["context"] == {"agent": "lambda", "key": claim.key}
    assert world.lines(run_id) == [("ERROR", FAILED.reason)]


def test_the_running_task_runs_fail_with_their_run_and_the_others_stay(world: World) -> None:
    run_id = world.add_run()
    claim = world.launch()
    world.set(run_id, "Running")
    running, done, pending = (world.add_task(run_id, kind) for kind in ("Running", "Success", "Pending"))
    world.stop(claim)
    assert [world.task_state(each)["type"] for each in (running, done, pending)] == ["Failed", "Success", "Pending"]
    assert world.task_state(running)["message"] == FAILED.reason


def test_a_nul_in_a_reason_does_not_cost_the_record(world: World) -> None:
    run_id = world.add_run()
    assert world.stop(world.launch(), Stop("bad\x00 words", has_run=True)) is Consequence.FAIL
    assert world.server.flow_run(run_id)["state_message"] == "bad words"


def test_the_same_end_told_twice_is_written_once(world: World) -> None:
    run_id = world.add_run()
    claim = world.launch()
    assert [world.stop(claim), world.stop(claim)] == [Consequence.FAIL, Consequence.NOTHING]
    assert len(world.lines(run_id)) == 1
    assert [state["state"] for state in world.server.states(run_id)].count("Failed") == 1


def test_a_cancelling_run_is_confirmed_when_its_launch_has_ended(world: World) -> None:
    run_id = world.add_run()
    claim = world.launch()
    world.set(run_id, "Running")
    task_run = world.add_task(run_id)
    world.server.cancel(run_id)
    assert world.state(run_id) == "Cancelling"
    assert world.stop(claim, TAKEN) is Consequence.CONFIRM
    assert (world.state(run_id), world.task_state(task_run)["type"]) == ("Cancelled", "Cancelled")
    assert world.server.flow_run(run_id)["state_message"] == f"Cancelled: {TAKEN.reason}"
    assert world.lines(run_id) == [("INFO", TAKEN.reason)]


def test_a_launch_that_could_not_start_is_made_again_later_with_the_reason(world: World) -> None:
    run_id = world.add_run()
    claim = world.launch()
    assert world.stop(claim, NO_ROOM) is Consequence.RESUBMIT
    row = world.server.flow_run(run_id)
    message = f"Launched again (1 of {RESUBMIT_BUDGET}), as it could not run: {NO_ROOM.reason}"
    assert (row["state"], row["state_message"]) == ("Scheduled", message)
    assert row["serialized_state"]["context"] == {"agent": "lambda", "resubmitted": 1}
    assert row["state_start_time"] == world.clock.now() + timedelta(seconds=GIVE_BACK_SECONDS)
    assert world.lines(run_id) == [("WARNING", message)]
    world.turn_to_next_claim()
    assert world.claim().key != claim.key


def test_a_launch_that_never_starts_is_made_again_as_often_as_the_budget_says_and_then_fails(world: World) -> None:
    run_id = world.add_run()
    consequences = []
    for _ in range(RESUBMIT_BUDGET + 1):
        consequences.append(world.stop(world.launch(), NO_ROOM))
        world.turn_to_next_claim()
    assert consequences == [Consequence.RESUBMIT] * RESUBMIT_BUDGET + [Consequence.FAIL]
    assert world.state(run_id) == "Failed"


def test_the_budget_is_kept_through_a_refusal_of_the_platform(world: World) -> None:
    world.add_run()
    for _ in range(RESUBMIT_BUDGET):
        assert world.stop(world.launch(), NO_ROOM) is Consequence.RESUBMIT
        world.turn_to_next_claim()
    claim = world.claim()
    world.api.record_and_poll([Outcome(claim.run, Answer.REFUSED_FOR_NOW, "throttled", claim)], world.clock.now())
    world.turn_to_next_claim()
    assert world.stop(world.launch(), NO_ROOM) is Consequence.FAIL


def test_a_users_own_restart_begins_a_new_budget(world: World) -> None:
    run_id = world.add_run()
    for _ in range(RESUBMIT_BUDGET):
        world.stop(world.launch(), NO_ROOM)
        world.turn_to_next_claim()
    world.stop(world.launch(), NO_ROOM)
    assert world.state(run_id) == "Failed"
    world.restart(run_id)
    assert world.stop(world.launch(), NO_ROOM) is Consequence.RESUBMIT
    assert world.server.flow_run(run_id)["serialized_state"]["context"]["resubmitted"] == 1


def test_a_run_that_says_never_fails_at_once(world: World) -> None:
    run_id = world.add_run(AGENT_RESUBMIT="never")
    assert world.stop(world.launch(), NO_ROOM) is Consequence.FAIL
    assert world.state(run_id) == "Failed"


def test_a_flow_whose_machine_was_taken_away_fails_unless_its_run_says_otherwise(world: World) -> None:
    run_id = world.add_run()
    claim = world.launch()
    world.set(run_id, "Running")
    assert world.stop(claim, TAKEN) is Consequence.FAIL


def test_a_flow_whose_machine_was_taken_away_begins_again_where_its_run_says_so(world: World) -> None:
    run_id = world.add_run(AGENT_RESUBMIT="running")
    consequences = []
    for _ in range(RESUBMIT_BUDGET + 1):
        claim = world.launch()
        world.set(run_id, "Running")
        running, done = world.add_task(run_id), world.add_task(run_id, "Success")
        consequences.append(world.stop(claim, TAKEN))
        if consequences[-1] is Consequence.RESUBMIT:
            assert world.state(run_id) == "Scheduled"
            assert [world.task_state(each)["type"] for each in (running, done)] == ["Pending", "Success"]
        world.turn_to_next_claim()
    assert consequences == [Consequence.RESUBMIT] * RESUBMIT_BUDGET + [Consequence.FAIL]
    assert world.state(run_id) == "Failed"


def test_a_retry_that_could_not_start_waits_as_the_retry_that_it_was(world: World) -> None:
    run_id = world.add_run()
    world.launch()
    world.set(run_id, "Running")
    task_run = world.add_due_retry(run_id, run_count=2)
    consequences = []
    for number in range(1, RESUBMIT_BUDGET + 1):
        consequences.append(world.stop(world.launch(), NO_ROOM))
        state = world.task_state(task_run)
        assert (state["type"], state["run_count"], state["context"]["resubmitted"]) == ("Retrying", 2, number)
        assert state["start_time"] == (world.clock.now() + timedelta(seconds=GIVE_BACK_SECONDS)).isoformat()
        assert NO_ROOM.reason in state["message"]
        assert world.state(run_id) == "Running"
        world.turn_to_next_claim()
        world.clock.turn(5)
    consequences.append(world.stop(world.launch(), NO_ROOM))
    assert consequences == [Consequence.RESUBMIT] * RESUBMIT_BUDGET + [Consequence.FAIL]
    assert world.state(run_id) == "Failed"


def test_only_the_task_runs_of_the_launch_wait_again(world: World) -> None:
    run_id = world.add_run()
    world.launch()
    world.set(run_id, "Running")
    ours = world.add_due_retry(run_id)
    retry = world.launch()
    theirs = world.add_task(run_id, "Submitted")
    assert world.stop(retry, NO_ROOM) is Consequence.RESUBMIT
    assert [world.task_state(each)["type"] for each in (ours, theirs)] == ["Retrying", "Submitted"]


@pytest.mark.parametrize("kind", ["Retrying", "Paused", "Scheduled"])
def test_a_run_of_which_some_waits_is_left_to_come_back(world: World, kind: str) -> None:
    run_id = world.add_run()
    claim = world.launch()
    world.set(run_id, "Running")
    later = (world.clock.now() + timedelta(hours=1)).isoformat()
    waiting, running = world.add_task(run_id, kind, start_time=later), world.add_task(run_id)
    assert world.stop(claim) is Consequence.NOTHING
    assert [world.task_state(each)["type"] for each in (waiting, running)] == [kind, "Running"]
    assert (world.state(run_id), world.lines(run_id)) == ("Running", [])


@pytest.mark.parametrize("state", ["Success", "Failed", "Cancelled", "Paused", "Scheduled", "Resume"])
def test_a_run_that_moved_on_is_left_alone(world: World, state: str) -> None:
    run_id = world.add_run()
    claim = world.launch()
    world.set(run_id, state)
    assert world.stop(claim) is Consequence.NOTHING
    assert (world.state(run_id), world.lines(run_id)) == (state, [])


def test_a_flow_that_ended_well_is_left_alone_while_it_runs_and_fails_while_it_waits(world: World) -> None:
    well = Stop("exit code 0", has_run=True, went_well=True)
    run_id = world.add_run()
    claim = world.launch()
    world.set(run_id, "Running")
    assert world.stop(claim, well) is Consequence.NOTHING
    world.set(run_id, "Success")
    world.add_run()
    assert world.stop(world.launch(), well) is Consequence.FAIL


def test_a_run_that_was_deleted_does_not_cost_the_others_their_record(world: World) -> None:
    world.add_run()
    gone = world.launch()
    world.add_run()
    there = world.launch()
    world.server.delete_flow_run(gone.run.id)
    sightings = [Sighting(claim.run.id, claim.key, "Task", stop=FAILED) for claim in (gone, there)]
    assert world.api.record_stops(sightings) == [Consequence.NOTHING, Consequence.FAIL]
    assert world.state(there.run.id) == "Failed"


def test_any_number_of_ends_is_two_requests_and_without_consequence_one(world: World) -> None:
    claims = []
    for _ in range(3):
        world.add_run()
        claims.append(world.launch())
    sightings = [Sighting(claim.run.id, claim.key, "Task", stop=FAILED) for claim in claims]
    world.server.forget_requests()
    world.api.record_stops(sightings)
    assert len(world.server.requests) == 2
    world.server.forget_requests()
    world.api.record_stops(sightings)
    assert len(world.server.requests) == 1


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("never", Resubmit.NEVER),
        ("start", Resubmit.START),
        ("running", Resubmit.RUNNING),
        (None, Resubmit.START),
        ("", Resubmit.START),
        ("Never ", Resubmit.START),
        (7, Resubmit.START),
    ],
)
def test_what_a_run_says_of_being_launched_again_is_read(text: object, choice: Resubmit) -> None:
    assert read_resubmit(text) is choice


# What is on its way, and what is over


@pytest.mark.parametrize("is_retry", [False, True])
def test_what_is_on_its_way_is_not_taken_for_dead_while_it_is_refreshed(world: World, is_retry: bool) -> None:
    run_id = world.add_run()
    world.launch()
    if is_retry:
        world.set(run_id, "Running")
        world.add_due_retry(run_id)
        world.launch()
    state = world.state(run_id)
    for _ in range(20):
        world.clock.turn(60)
        assert world.api.record_stops([], [Sighting(run_id, None, "Task")]) == []
        assert world.server.run_lazarus() == 0
    assert world.state(run_id) == state
    world.clock.turn(601)
    assert world.server.run_lazarus() == 1, "what nobody refreshes is revived"


def test_a_refresh_of_a_run_that_is_gone_does_not_cost_the_others_theirs(world: World) -> None:
    gone, there = world.add_run(), world.add_run()
    claims = world.api.claim(world.api.record_and_poll([], world.clock.now()), PLACE)
    assert len(claims) == 2
    world.server.delete_flow_run(gone)
    world.clock.turn(300)
    assert world.api.record_stops([], [Sighting(each, None, "Task") for each in (gone, there)]) == []
    assert world.server.flow_run(there)["heartbeat"] == world.clock.now()


def test_only_what_was_over_before_then_is_finished(world: World) -> None:
    ids = {state: world.add_run() for state in ("Success", "Failed", "Cancelled", "Skipped", "Running", "Scheduled")}
    for state, run_id in ids.items():
        world.set(run_id, state)
    then = world.clock.now()
    world.clock.turn(1)
    late = world.add_run()
    world.set(late, "Success")
    over = {ids[state] for state in ("Success", "Failed", "Cancelled", "Skipped")}
    assert world.api.find_finished([*ids.values(), late], then) == set()
    assert world.api.find_finished([*ids.values(), late], world.clock.now()) == over
    assert world.api.find_finished(list(ids.values())[:1], world.clock.now()) == {ids["Success"]}


def test_what_was_started_under_a_name_that_is_no_run_costs_the_others_nothing(world: World) -> None:
    run_id = world.add_run()
    claim = world.launch()
    known = Sighting(run_id, claim.key, "Task", stop=FAILED)
    others = [Sighting(name, f"{name}-1", "Task", stop=FAILED) for name in ("manual-test", "")]
    assert world.api.record_stops([*others, known]) == [Consequence.NOTHING, Consequence.NOTHING, Consequence.FAIL]
    assert world.state(run_id) == "Failed"
    world.clock.turn(1)
    assert world.api.find_finished(["manual-test", "", run_id], world.clock.now()) == {run_id}


@pytest.mark.parametrize(
    ("env", "runs", "consequence"),
    [
        ({}, False, Consequence.RESUBMIT),
        ({}, True, Consequence.FAIL),
        ({"AGENT_RESUBMIT": "running"}, True, Consequence.RESUBMIT),
    ],
)
def test_a_retry_in_which_something_runs_has_begun_though_some_of_it_still_waits(
    world: World, env: dict[str, str], runs: bool, consequence: Consequence
) -> None:
    run_id = world.add_run(**env)
    world.launch()
    world.set(run_id, "Running")
    world.add_due_retry(run_id)
    retry = world.launch()
    if runs:
        world.add_task(run_id, "Running")
    assert world.stop(retry, TAKEN) is consequence


def test_a_run_that_dies_while_some_of_its_claimed_retry_waits_fails_though_more_of_it_waits_for_later(
    world: World,
) -> None:
    run_id = world.add_run()
    world.launch()
    world.set(run_id, "Running")
    started, _ = world.add_due_retry(run_id), world.add_due_retry(run_id)
    later = world.add_task(run_id, "Retrying", start_time=(world.clock.now() + timedelta(hours=1)).isoformat())
    retry = world.launch()
    world.server.set_task_state(started, {"type": "Running"})
    assert world.stop(retry) is Consequence.FAIL
    assert (world.state(run_id), world.task_state(started)["type"]) == ("Failed", "Failed")
    assert world.task_state(later)["type"] == "Retrying"


def test_more_writes_than_one_request_takes_go_in_several_and_all_arrive(world: World) -> None:
    run_id = world.add_run()
    claim = world.launch()
    waiting = [world.add_run() for _ in range(WRITES_LIMIT + 1)]
    world.clock.turn(300)
    world.server.forget_requests()
    assert world.api.record_stops(
        [Sighting(run_id, claim.key, "Task", stop=FAILED)], [Sighting(each, None, "Task") for each in waiting]
    ) == [Consequence.FAIL]
    reading = 1
    assert len(world.server.requests) == reading + 2
    assert {world.server.flow_run(each)["heartbeat"] for each in waiting} == {world.clock.now()}
    assert (world.state(run_id), world.lines(run_id)) == ("Failed", [("ERROR", FAILED.reason)])
