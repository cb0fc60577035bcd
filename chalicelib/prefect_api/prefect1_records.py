"""What is written to Prefect 1 for each outcome (pure): which states and log lines, and whether they may be written.

The server has no transition guards: whatever is written wins. So a state is written only where the run was just read to
be as this agent left it; anything else (cancelled, finished, taken over, gone) is left alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from chalicelib.flow_runs import Claim, Document, FlowRun, Place
from chalicelib.outcomes import Answer, Outcome
from chalicelib.prefect_api.documents import RootField
from chalicelib.prefect_api.prefect1_fields import set_flow_run_state, set_task_run_states, write_log
from chalicelib.prefect_api.prefect1_rows import context_of, read_time

SCHEMA_VERSION = "1.4.1"
"""The Prefect release whose state schema these documents follow."""

GIVE_BACK_SECONDS = 35
"""Until a run that was given back may be claimed again: over the 30 s in which the server refuses a second claim."""

CARRIED = ("refused_since", "resubmitted")
"""What the context of a state that waits hands on to the claim: since when it is refused, how often it has failed."""

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
        before = context_of(run.due_task_runs[0].state if run.is_retry else run.state)
        context |= {name: before[name] for name in CARRIED if before.get(name)}
        if not run.is_retry:
            return [set_flow_run_state(alias, run.id, submitted(run.state, message, context))]
        # All of them: one that is left would be taken again, and written over, while the container is at it.
        return set_task_run_states(
            alias, [(task.id, submitted(task.state, message, context)) for task in run.due_task_runs]
        )

    def outcome_fields(self, alias: str, outcome: Outcome, row: Document | None, now: datetime) -> list[RootField]:
        """What to write for one outcome, given its run's present row; nothing when the run is not as we left it."""
        if outcome.answer is Answer.LAUNCHED:
            return [self._log(alias, outcome, "INFO", SIGN_OF_LAUNCH + outcome.text)]
        if outcome.answer is Answer.UNKNOWN:
            again = f"Launch not confirmed, it will be tried again with the same key: {outcome.text}"
            return [self._log(alias, outcome, "WARNING", again)]
        held = held_rows(outcome, row)
        if not held:
            return []
        if outcome.answer is Answer.REFUSED_FOR_NOW:
            return self._defer(alias, outcome, held, now)
        return self._fail(alias, outcome, outcome.text)

    def _defer(self, alias: str, outcome: Outcome, held: Sequence[Document], now: datetime) -> list[RootField]:
        if outcome.run.is_retry and outcome.claim is None:
            return []  # Its task runs are anybody's, and come back by themselves.
        since = read_time(context_of(held[0]["serialized_state"]).get("refused_since")) or now
        if outcome.counts and (now - since).total_seconds() >= self.defer_deadline_seconds:
            minutes = round((now - since).total_seconds() / 60)
            return self._fail(alias, outcome, f"Refused for {minutes} minutes, giving up: {outcome.text}")
        message = f"Given back, to be tried again in {GIVE_BACK_SECONDS} s: {outcome.text}"
        carried = {name: value for name, value in context_of(held[0]["serialized_state"]).items() if name in CARRIED}
        context = {"agent": self.identity.name, **carried}
        context |= {"refused_since": since.isoformat()} if outcome.counts else {}
        state = scheduled(now + timedelta(seconds=GIVE_BACK_SECONDS), message, context)
        fields = self._give_back(alias, outcome.run, {str(row["id"]) for row in held}, state)
        return [*fields, self._log(f"{alias}_log", outcome, "WARNING", message)]

    def _give_back(self, alias: str, run: FlowRun, held_ids: Set[str], state: Document) -> list[RootField]:
        if not run.is_retry:
            return [set_flow_run_state(alias, run.id, state)]
        # A retry keeps its kind and run count: only its time, message and context are new.
        new = {name: state[name] for name in ("start_time", "message", "context")}
        return set_task_run_states(
            alias, [(task.id, {**task.state, **new}) for task in run.due_task_runs if task.id in held_ids]
        )

    def _fail(self, alias: str, outcome: Outcome, reason: str) -> list[RootField]:
        context: dict[str, Any] = {"agent": self.identity.name}
        if outcome.claim is not None:
            context["key"] = outcome.claim.key
        if outcome.agent_fault:
            context["agent_fault"] = True
        return [
            self._log(f"{alias}_log", outcome, "ERROR", reason),
            set_flow_run_state(alias, outcome.run.id, failed(reason, context)),
        ]

    def _log(self, alias: str, outcome: Outcome, level: str, message: str) -> RootField:
        info = {"key": outcome.claim.key} if outcome.claim is not None else {}
        return write_log(alias, outcome.run.id, self.identity.name, level, message, info)


def needs_reading(outcomes: Iterable[Outcome]) -> list[str]:
    """The ids of the runs whose present state decides whether their outcome may be written."""
    changing = {Answer.REFUSED_FOR_GOOD, Answer.REFUSED_FOR_NOW, Answer.IMPOSSIBLE}
    return [outcome.run.id for outcome in outcomes if outcome.answer in changing]


def held_rows(outcome: Outcome, row: Document | None) -> list[Document]:
    """The rows that are still ours to write to, of the run or for a retry of its task runs.

    They carry the claim's very key; of a run that was never claimed it is the row that did not change since.
    """
    if row is None:
        return []
    if outcome.claim is None:
        return [row] if row["version"] == outcome.run.version else []
    claimed = {"Submitted": [row], "Running": row["task_runs"]}.get(row["state"], [])
    return [each for each in claimed if context_of(each["serialized_state"]).get("key") == outcome.claim.key]


def submitted(previous: Document, message: str, context: Document) -> dict[str, Any]:
    """A claim on a flow run or task run that was in the state `previous`."""
    return _state("Submitted", message, context) | {"state": dict(previous)}


def failed(message: str, context: Document) -> dict[str, Any]:
    """The end of a flow run, with the reason."""
    return _state("Failed", message, context)


def cancelled(message: str, context: Document) -> dict[str, Any]:
    """The end of a flow run that somebody wanted to end."""
    return _state("Cancelled", message, context)


def pending(message: str) -> dict[str, Any]:
    """A task run that begins anew with its flow run."""
    return _state("Pending", message, {})


def scheduled(start_time: datetime, message: str, context: Document) -> dict[str, Any]:
    """A flow run or task run that may be taken by anybody from `start_time` on."""
    return _state("Scheduled", message, context) | {"start_time": start_time.isoformat()}


def _state(kind: str, message: str, context: Document) -> dict[str, Any]:
    return {
        "type": kind,
        # PostgreSQL refuses NUL, and with it the whole request.
        "message": message.replace("\x00", ""),
        "context": dict(context),
        "cached_inputs": {},
        "_result": {"type": "NoResultType", "__version__": SCHEMA_VERSION},
        "__version__": SCHEMA_VERSION,
    }
