"""States of Prefect 3 and their notes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.flow_runs import Claim, Flow, FlowRun
from chalicelib.outcomes import Answer, Outcome
from chalicelib.prefect_api.prefect3_states import (
    claim_notes,
    claim_sign,
    handed_on,
    is_own_claim,
    outcome_state,
    read_notes,
    split_notes,
    with_notes,
)

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
RUN = FlowRun("run", "run", 1, NOW, Flow("flow", "flow"))
JSON_LIKE = st.text(st.sampled_from('a {}[]":,\\1\n') | st.characters(codec="utf-8"))


@given(JSON_LIKE, st.dictionaries(JSON_LIKE, JSON_LIKE | st.integers()))
def test_whatever_stands_before_notes_they_are_read_back(text: str, notes: dict[str, Any]) -> None:
    message = with_notes(text, notes)
    assert "\x00" not in message
    assert split_notes(message) == (text.replace("\x00", "").rstrip(), notes)


@given(JSON_LIKE, JSON_LIKE)
def test_no_reason_of_somebody_elses_passes_for_notes(reason: str, agent: str) -> None:
    forged = with_notes(reason + ' {"resubmitted": 2}', {})
    assert read_notes({"message": forged}) == {}
    state = {"type": "PENDING", "name": "Pending", "message": claim_sign(agent) + " for ecs:c"}
    assert is_own_claim(state, agent)
    assert not is_own_claim(state, agent + "x")


def test_notes_of_another_shape_are_no_notes() -> None:
    message = with_notes("Claimed", {"after": 1, "resubmitted": "2", "refused_since": None, "x": 1})
    assert read_notes({"message": message}) == {}
    assert read_notes(None) == read_notes({"message": None}) == {}
    assert split_notes("Claimed " + "[" * 100_000 + " {}") == ("Claimed " + "[" * 100_000, {})


@pytest.mark.parametrize(
    ("name", "message"), [("Submitting", None), ("Pending", None), ("Pending", "Claimed by agent")]
)
def test_a_pending_of_an_official_worker_is_no_claim_of_ours(name: str, message: str | None) -> None:
    state = {"type": "PENDING", "name": name, "message": message}
    assert not is_own_claim(state, "agent")
    assert not is_own_claim(None, "agent")


def test_a_claim_hands_on_what_waits_and_notes_the_pid_from_before() -> None:
    notes = {"refused_since": "x", "resubmitted": 1, "agent": "a", "after": "p"}
    waiting = {"name": "AwaitingCapacity", "message": with_notes("Given back", notes)}
    assert claim_notes({"infrastructure_pid": None}, waiting) == {"refused_since": "x", "resubmitted": 1}
    assert claim_notes({"infrastructure_pid": "c::t"}, {"name": "Scheduled"}) == {"after": "c::t"}


NOTED = {"resubmitted": 2}


@pytest.mark.parametrize(
    ("names", "notes"),
    [
        (["AwaitingRetry"], NOTED),
        (["AwaitingConcurrencySlot", "AwaitingConcurrencySlot", "AwaitingRetry"], NOTED),
        (["Pending", "AwaitingConcurrencySlot", "AwaitingCapacity"], NOTED),
        (["Pending", "AwaitingConcurrencySlot", "Pending"], NOTED),
        (["AwaitingConcurrencySlot", "Scheduled", "AwaitingRetry"], {}),
        (["AwaitingRetry", "AwaitingRetry"], {}),
        (["AwaitingConcurrencySlot", "Crashed"], {}),
        (["Pending", "AwaitingConcurrencySlot"], {}),
    ],
)
def test_notes_outlast_waits_for_a_slot_and_nothing_else(names: list[str], notes: dict[str, Any]) -> None:
    # Only the earliest state has any.
    history = [{"name": name, "message": None} for name in names]
    history[-1]["message"] = with_notes("Text", NOTED) if names[-1] != "AwaitingConcurrencySlot" else None
    assert handed_on(history) == notes


@given(st.sampled_from([Answer.REFUSED_FOR_GOOD, Answer.REFUSED_FOR_NOW, Answer.IMPOSSIBLE]), st.booleans(), JSON_LIKE)
def test_every_state_that_is_written_can_be_read_again_with_its_reason(answer: Answer, counts: bool, text: str) -> None:
    outcome = Outcome(RUN, answer, text, Claim(RUN, "key", NOW), counts=counts)
    state = outcome_state(outcome, {}, "agent", 60.0, NOW)
    assert state["type"] == ("SCHEDULED" if answer is Answer.REFUSED_FOR_NOW else "CRASHED")
    assert text.replace("\x00", "").rstrip() in state["message"]


@given(st.integers(0, 200))
def test_a_run_is_given_back_until_its_deadline_and_not_longer(age_seconds: int) -> None:
    since = NOW - timedelta(seconds=age_seconds)
    notes = {"refused_since": since.isoformat(), "resubmitted": 2}
    state = outcome_state(Outcome(RUN, Answer.REFUSED_FOR_NOW, "throttled"), notes, "agent", 100.0, NOW)
    assert state["type"] == ("CRASHED" if age_seconds >= 100 else "SCHEDULED")
    if state["type"] == "SCHEDULED":
        assert read_notes(state) == notes
        assert state["state_details"]["scheduled_time"] == (NOW + timedelta(seconds=15)).isoformat()


def test_an_unreadable_time_of_refusal_begins_anew() -> None:
    notes = {"refused_since": "yesterday"}
    state = outcome_state(Outcome(RUN, Answer.REFUSED_FOR_NOW, "throttled"), notes, "agent", 100.0, NOW)
    assert read_notes(state) == {"refused_since": NOW.isoformat()}
