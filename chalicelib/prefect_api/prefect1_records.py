"""What is written to Prefect 1 for each outcome (pure): which states and log lines, and whether they may be written.

The server has no transition guards: whatever is written wins. So a state is written only where the run was just read to
be as this agent left it; anything else (cancelled, finished, taken over, gone) is left alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from chalicelib.flow_runs import Claim, Document, FlowRun, Place
from chalicelib.outcomes import Answer, Outcome
from chalicelib.prefect_api import prefect1_states as states
from chalicelib.prefect_api.documents import RootField
from chalicelib.prefect_api.prefect1_fields import set_flow_run_state, set_task_run_state, write_log
from chalicelib.prefect_api.prefect1_rows import context_of, read_time

GIVE_BACK_SECONDS = 35
"""Until a run that was given back may be claimed again: over the 30 s in which the server refuses a second claim."""

SIGN_OF_LAUNCH = "Submitted for execution: "
"""How the log line begins that says a claim was launched, as with Prefect's own agents; its `info` carries the key."""


@dataclass(frozen=True)
class Identity:
    """Who claims: the agent's registered kind (a class name of Prefect's, which its UI shows), name and labels."""

    kind: str
    name: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recorder:
    """Writes outcomes in the name of one agent; runs refused for now fail after `defer_deadline_seconds`."""

    identity: Identity
    defer_deadline_seconds: float

    def claim_fields(self, alias: str, run: FlowRun, claim: Claim, place: Place, nonce: str) -> list[RootField]:
        """The states that take a run: of the flow run, or for a retry of its due task runs, the claim's first."""
        message = f"Submitted to {place} by agent {self.identity.name!r} as {claim.key}"
        context = {
            "agent": self.identity.name,
            "platform": place.platform,
            "place": place.name,
            "key": claim.key,
            "claim": nonce,
        }
        if not run.is_retry:
            since = context_of(run.state).get("refused_since")
            carried = context | ({"refused_since": since} if since else {})
            return [set_flow_run_state(alias, run.id, states.submitted(run.state, message, carried))]
        return [
            set_task_run_state(f"{alias}_{i}", task.id, states.submitted(task.state, message, context))
            for i, task in enumerate(run.due_task_runs)
        ]

    def outcome_fields(self, alias: str, outcome: Outcome, row: Document | None, now: datetime) -> list[RootField]:
        """What to write for one outcome, given its run's present row; nothing when the run is not as we left it."""
        if outcome.answer is Answer.LAUNCHED:
            return [self._log(alias, outcome, "INFO", SIGN_OF_LAUNCH + outcome.text)]
        if outcome.answer is Answer.UNKNOWN:
            again = f"Launch not confirmed, it will be tried again with the same key: {outcome.text}"
            return [self._log(alias, outcome, "WARNING", again)]
        if not is_as_we_left_it(outcome, row):
            return []
        if outcome.answer is Answer.REFUSED_FOR_NOW:
            return self._defer(alias, outcome, context_of((row or {}).get("serialized_state")), now)
        return self._fail(alias, outcome, outcome.text)

    def _defer(self, alias: str, outcome: Outcome, context: Document, now: datetime) -> list[RootField]:
        since = read_time(context.get("refused_since")) or now
        if (now - since).total_seconds() >= self.defer_deadline_seconds:
            minutes = round((now - since).total_seconds() / 60)
            return self._fail(alias, outcome, f"Refused for {minutes} minutes, giving up: {outcome.text}")
        message = f"Given back, to be tried again in {GIVE_BACK_SECONDS} s: {outcome.text}"
        start_time = now + timedelta(seconds=GIVE_BACK_SECONDS)
        fields = self._give_back(alias, outcome.run, start_time, message, {"refused_since": since.isoformat()})
        return [*fields, self._log(f"{alias}_log", outcome, "WARNING", message)]

    def _give_back(
        self, alias: str, run: FlowRun, start_time: datetime, message: str, context: Mapping[str, Any]
    ) -> list[RootField]:
        marked = {"agent": self.identity.name} | dict(context)
        if not run.is_retry:
            return [set_flow_run_state(alias, run.id, states.scheduled(start_time, message, marked))]
        return [
            # A retry keeps its kind and run count: only its time, message and context are new.
            set_task_run_state(
                f"{alias}_{i}",
                task.id,
                dict(task.state) | {"start_time": start_time.isoformat(), "message": message, "context": marked},
            )
            for i, task in enumerate(run.due_task_runs)
        ]

    def _fail(self, alias: str, outcome: Outcome, reason: str) -> list[RootField]:
        context: dict[str, Any] = {"agent": self.identity.name}
        if outcome.claim is not None:
            context["key"] = outcome.claim.key
        if outcome.agent_fault:
            context["agent_fault"] = True
        return [
            self._log(f"{alias}_log", outcome, "ERROR", reason),
            set_flow_run_state(alias, outcome.run.id, states.failed(reason, context)),
        ]

    def _log(self, alias: str, outcome: Outcome, level: str, message: str) -> RootField:
        info = {"key": outcome.claim.key} if outcome.claim is not None else {}
        return write_log(alias, outcome.run.id, self.identity.name, level, message, info)


def needs_reading(outcomes: Iterable[Outcome]) -> list[str]:
    """The ids of the runs whose present state decides whether their outcome may be written."""
    changing = {Answer.REFUSED_FOR_GOOD, Answer.REFUSED_FOR_NOW, Answer.IMPOSSIBLE}
    return [outcome.run.id for outcome in outcomes if outcome.answer in changing]


def is_as_we_left_it(outcome: Outcome, row: Document | None) -> bool:
    """Whether a run is still ours to write to: claimed with this very key, or not touched since it was read."""
    if row is None:
        return False
    if outcome.claim is None:
        return bool(row["version"] == outcome.run.version)
    return outcome.claim.key in claimed_keys(row)


def claimed_keys(row: Document) -> set[str]:
    """The keys under which a run, or task runs of a Running one, are Submitted now."""
    if row["state"] == "Submitted":
        return {str(context_of(row["serialized_state"]).get("key"))}
    if row["state"] != "Running":
        return set()
    return {str(context_of(task["serialized_state"]).get("key")) for task in row["task_runs"]}


def rows_by_id(rows: Sequence[Document]) -> dict[str, Document]:
    """Rows under their ids."""
    return {str(row["id"]): row for row in rows}
