"""States of Prefect 3 as this agent writes and reads them (pure).

A state of Prefect 3 carries nothing of our own but a name and a message, so the message may end in a JSON object with
notes: `after` is the infrastructure pid that a run had before it was claimed, `refused_since` (ISO time) and
`resubmitted` (a number) are handed on from claim to claim, `agent` says whose fault it was.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from chalicelib.flow_runs import Document
from chalicelib.outcomes import Answer, Outcome

CLAIM_NAME = "Pending"
"""The server accepts a PENDING of another name over somebody else's."""

GIVEN_BACK = "AwaitingCapacity"
RESUBMITTED = "AwaitingRetry"
MISCONFIGURED = "AgentMisconfigured"
NOTED_NAMES = frozenset({CLAIM_NAME, GIVEN_BACK, RESUBMITTED})
"""Of which states the message may have notes that go from state to state."""

WAITS_FOR_SLOT = "AwaitingConcurrencySlot"
"""What the server makes of a run that is claimed while its deployment runs as much as it may: without our notes."""

SILENT_NAMES = frozenset({CLAIM_NAME, WAITS_FOR_SLOT})
"""States that may lack the notes of the state before them."""

GIVE_BACK_SECONDS = 15
"""Until a run that was given back may be claimed again."""

CARRIED = ("refused_since", "resubmitted")
"""The notes that go from state to state while a run waits."""


def read_time(text: str | None) -> datetime | None:
    """A timestamp of the API in UTC; None stays None."""
    return datetime.fromisoformat(text).astimezone(UTC) if text else None


def with_notes(text: str, notes: Document) -> str:
    """`text` with notes that `split_notes` reads back; also without notes nothing in `text` is taken for some."""
    text = text.replace("\x00", "").rstrip()
    return f"{text} {json.dumps(dict(notes))}" if notes or text.endswith("}") else text


def split_notes(message: str | None) -> tuple[str, dict[str, Any]]:
    """The text of a message and its notes, which are its shortest end that is a JSON object."""
    text = message or ""
    begin = len(text) if text.endswith("}") else 0
    while (begin := text.rfind(" {", 0, begin)) >= 0:
        try:
            notes = json.loads(text[begin + 1 :])
        except (ValueError, RecursionError):
            continue
        return (text[:begin], notes) if isinstance(notes, dict) else (text, {})
    return text, {}


def read_notes(state: Document | None) -> dict[str, Any]:
    """The notes of a state, as far as they have the promised shape."""
    kinds = {"after": str, "refused_since": str, "resubmitted": int, "agent": str}
    _, notes = split_notes((state or {}).get("message"))
    return {name: value for name, value in notes.items() if name in kinds and isinstance(value, kinds[name])}


def claim_sign(agent_name: str) -> str:
    """How the message of every claim of this agent begins."""
    return f"Claimed by agent {json.dumps(agent_name, ensure_ascii=False)}"


def is_own_claim(state: Document | None, agent_name: str) -> bool:
    """Whether a state is a claim of this agent's, and nothing that somebody made of it."""
    if not state or (state["type"], state["name"]) != ("PENDING", CLAIM_NAME):
        return False
    return (state["message"] or "").startswith(claim_sign(agent_name))


def handed_on(history: Iterable[Document]) -> dict[str, Any]:
    """The notes that go on from the first of these states, latest first.

    Those of a wait for a slot, and of a claim made on it, are the notes of what the run was before it began to wait.
    """
    for state in history:
        notes = read_notes(state) if state["name"] in NOTED_NAMES else {}
        found = {name: notes[name] for name in CARRIED if name in notes}
        if found or state["name"] not in SILENT_NAMES:
            return found
    return {}


def claim_notes(row: Document, state: Document) -> dict[str, Any]:
    """What the claim on a run that stands like this is to note."""
    return handed_on([state]) | ({"after": row["infrastructure_pid"]} if row.get("infrastructure_pid") else {})


def pending(message: str, transition_id: str) -> dict[str, Any]:
    """A claim; proposed again with one `transition_id` it is the same claim."""
    return {**_state("PENDING", CLAIM_NAME, message), "state_details": {"transition_id": transition_id}}


def crashed(reason: str, misconfigured_agent: str = "") -> dict[str, Any]:
    """The end of a run, with the reason; told apart where it is the agent's own fault."""
    if misconfigured_agent:
        return _state("CRASHED", MISCONFIGURED, with_notes(reason, {"agent": misconfigured_agent}))
    return _state("CRASHED", "Crashed", reason)


def cancelled(reason: str) -> dict[str, Any]:
    """The end of a run that somebody wanted to end."""
    return _state("CANCELLED", "Cancelled", reason)


def scheduled(name: str, message: str, now: datetime) -> dict[str, Any]:
    """A run that anybody may take GIVE_BACK_SECONDS from now."""
    begin = now + timedelta(seconds=GIVE_BACK_SECONDS)
    return {**_state("SCHEDULED", name, message), "state_details": {"scheduled_time": begin.isoformat()}}


def outcome_state(
    outcome: Outcome, notes: Document, agent_name: str, deadline_seconds: float, now: datetime
) -> dict[str, Any]:
    """What a run becomes that was not launched; `notes` are those that go on from the state that it is in."""
    if outcome.answer is not Answer.REFUSED_FOR_NOW:
        return crashed(outcome.text, agent_name if outcome.agent_fault else "")
    since = _since(notes.get("refused_since"), now)
    if outcome.counts and (now - since).total_seconds() >= deadline_seconds:
        minutes = round((now - since).total_seconds() / 60)
        return crashed(f"Refused for {minutes} minutes, giving up: {outcome.text}")
    counted = {"refused_since": since.isoformat()} if outcome.counts else {}
    message = f"Given back, to be tried again in {GIVE_BACK_SECONDS} s: {outcome.text}"
    return scheduled(GIVEN_BACK, with_notes(message, {**notes, **counted}), now)


def log_line(run_id: str, agent_name: str, level: int, message: str, now: datetime) -> dict[str, Any]:
    """One entry of a run's log, as the bulk of logs takes it; `level` is Python's."""
    name = f"prefect.agent.{agent_name}"
    text = message.replace("\x00", "")
    return {"name": name, "level": level, "message": text, "timestamp": now.isoformat(), "flow_run_id": run_id}


def _since(text: str | None, now: datetime) -> datetime:
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        return now
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _state(kind: str, name: str, message: str) -> dict[str, Any]:
    return {"type": kind, "name": name, "message": message.replace("\x00", "")}


def message_of(state: Mapping[str, Any]) -> str:
    """A state's message without its notes."""
    return split_notes(state["message"])[0]
