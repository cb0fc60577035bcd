"""Rows of Prefect 1's tables, read into the vocabulary (pure)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypeVar

from chalicelib.flow_runs import Claim, Document, Flow, FlowRun, TaskRun

LOGGER = logging.getLogger(__name__)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Read = TypeVar("Read")


def read_time(text: Any) -> datetime | None:
    """A timestamp in UTC; one without an offset is UTC by the server's own rule. None where that is no timestamp."""
    try:
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (OverflowError, TypeError, ValueError):
        return None


def read_each(rows: Iterable[Document], read: Callable[[Document], Read | None]) -> list[Read]:
    """What `read` makes of each row, where it makes something of it.

    A row that has not the promised shape is logged and left out. Much in a row anybody may have written.
    """
    found = []
    for row in rows:
        try:
            found.append(read(row))
        except Exception as error:
            run_id = row.get("flow_run", row).get("id")
            LOGGER.warning("Flow run %s is left out, as it has an unknown shape: %r", run_id, error)
    return [each for each in found if each is not None]


def read_runs(rows: Iterable[Mapping[str, Any]], tenant_id: str, now: datetime) -> list[FlowRun]:
    """Flow runs out of rows with `RUN_COLUMNS` and their due task runs, earliest start first.

    A run without a start time may start `now`.
    """
    runs = read_each(rows, lambda row: _read_run(row, tenant_id, now))
    return sorted(runs, key=lambda run: (run.start_time, run.id))


def read_orphans(
    claims: Iterable[Mapping[str, Any]], retries: Iterable[Mapping[str, Any]], tenant_id: str, now: datetime
) -> list[Claim]:
    """Those of our claims whose run's log has no sign of launch with the claim's own key, oldest first.

    `claims` are rows of Submitted flow runs, `retries` of Submitted task runs with their Running `flow_run`.
    """
    unsigned = [row for row in claims if not has_key(row["logs"], key_of(row))]
    orphans = read_each(unsigned, lambda row: _read_claim(row, tenant_id, now))
    by_claim: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in retries:
        if not has_key(row["flow_run"]["logs"], key_of(row)):
            by_claim.setdefault((row["flow_run"]["id"], key_of(row)), []).append(row)
    claimed = [{**rows[0], "claimed": rows} for rows in by_claim.values()]
    orphans += read_each(claimed, lambda row: _read_retry_claim(row["claimed"], tenant_id, now))
    return sorted(orphans, key=lambda claim: claim.claimed_at)


def member(document: object, name: str) -> Document:
    """The JSON object that a document has under this name; empty where either is none."""
    found = document.get(name) if isinstance(document, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def context_of(state: Document | None) -> Document:
    """The `context` that a state document carries; empty when there is none."""
    return member(state, "context")


def state_before(row: Document) -> Document:
    """The state that a flow run or task run had before it was claimed; empty where that is not told."""
    return member(row["serialized_state"], "state")


def has_key(logs: Iterable[Mapping[str, Any]], key: str) -> bool:
    """Whether one of these signs of launch bears the key."""
    # Anybody may write a log, so nothing is taken for granted of its `info`.
    return any(line["info"].get("key") == key for line in logs if isinstance(line["info"], Mapping))


def key_of(row: Mapping[str, Any]) -> str:
    """The launch key of a claimed flow run or task run."""
    return str(context_of(row["serialized_state"]).get("key"))


def _read_claim(row: Mapping[str, Any], tenant_id: str, now: datetime) -> Claim:
    run = _read_run({**row, "task_runs": []}, tenant_id, now)
    # Nobody knows whether it was launched, so whoever launches it again looks for a living task first.
    before_claim = replace(run, state=state_before(row), was_claimed_before=True)
    return Claim(before_claim, key_of(row), read_time(row["state_timestamp"]) or now)


def _read_retry_claim(rows: Sequence[Mapping[str, Any]], tenant_id: str, now: datetime) -> Claim:
    # What is given back later is the state that each task run had before it was claimed.
    task_runs = [{**row, "serialized_state": state_before(row)} for row in rows]
    run = _read_run({**rows[0]["flow_run"], "task_runs": task_runs}, tenant_id, now)
    return Claim(run, key_of(rows[0]), read_time(rows[0]["state_timestamp"]) or now)


def _read_run(row: Mapping[str, Any], tenant_id: str, now: datetime) -> FlowRun:
    state = row["serialized_state"] or {}
    # Task runs matter for a Running flow run alone: the process of a Scheduled one runs its due tasks by itself.
    task_runs = row["task_runs"] if row["state"] == "Running" else []
    return FlowRun(
        id=row["id"],
        name=row["name"] or row["id"],
        version=row["version"],
        start_time=(read_time(state.get("start_time")) if not task_runs else None) or now,
        flow=_read_flow(row["flow"]),
        state=state,
        run_config=row["run_config"],
        due_task_runs=_read_due(task_runs),
        tenant_id=tenant_id,
        was_claimed_before=len(row["states"]) > (1 if row["state"] == "Submitted" else 0),
        begun_version=row["begun"][0]["version"] if row["begun"] else 0,
    )


def _read_due(rows: Iterable[Mapping[str, Any]]) -> tuple[TaskRun, ...]:
    task_runs = [TaskRun(row["id"], row["version"], row["serialized_state"] or {}) for row in rows]
    return tuple(sorted(task_runs, key=lambda task: (read_time(task.state.get("start_time")) or EPOCH, task.id)))


def _read_flow(row: Mapping[str, Any]) -> Flow:
    return Flow(row["id"], row["name"], row["version"], row["core_version"], row["storage"] or {})
