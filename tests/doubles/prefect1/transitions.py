"""Run states: every way a flow run or task run gets another state."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from tests.doubles.prefect1.backend import Backend, Call
from tests.doubles.prefect1.states import FINISHED, RUNNING, Document, complete_state
from tests.doubles.prefect1.store import Refused, Row

ENDING = frozenset({"Success", "Failed", "Cached", "TimedOut", "Looped", "Cancelled"})
"""States that set `end_time`."""


def record_state(backend: Backend, table: str, run: Row, document: Document) -> None:
    """Add a state to a run's history and make it the run's present one; nothing guards the transition."""
    now = backend.now()
    written = document.get("start_time")
    history: Row = {
        "version": run["version"] + 1,
        "state": document["type"],
        "timestamp": now,
        "message": document["message"],
        "start_time": datetime.fromisoformat(written) if written else None,
        "serialized_state": document,
    }
    owner = {f"{table}_id": run["id"], "tenant_id": run["tenant_id"]}
    backend.store.insert(f"{table}_state", **owner, **history)
    backend.store.update(
        run,
        version=history["version"],
        state=document["type"],
        state_timestamp=now,
        state_message=document["message"],
        state_start_time=history["start_time"],
        serialized_state=document,
        start_time=run["start_time"] or (now if document["type"] == "Running" else None),
        end_time=now if document["type"] in ENDING else run["end_time"],
    )


def move_flow_run(backend: Backend, run: Row, document: Document) -> None:
    """Give a flow run a state, with what follows from it: cancelled task runs, a heartbeat."""
    if document["type"] == "Cancelled":
        for task_run in backend.store.owned("task_run", "flow_run_id", run["id"]):
            if task_run["state"] not in FINISHED:
                move_task_run(backend, task_run, document)
    record_state(backend, "flow_run", run, document)
    backend.waiting.add(run)
    if document["type"] in RUNNING | {"Submitted"}:
        backend.store.update(run, heartbeat=backend.now())


def move_task_run(backend: Backend, task_run: Row, document: Document) -> None:
    """Give a task run a state; cached inputs of the state before are kept."""
    cached = (task_run["serialized_state"] or {}).get("cached_inputs")
    if cached and not document["cached_inputs"]:
        document = {**document, "cached_inputs": cached}
    record_state(backend, "task_run", task_run, document)
    if document["type"] in RUNNING:
        backend.store.update(task_run, heartbeat=backend.now())


def set_flow_run_states(call: Call, states: list[Mapping[str, Any]]) -> dict[str, Any]:
    """The mutation: each state on its own, and the first refusal, if any, is the answer to all of them."""
    return _each(states, "flow_run_id", lambda wanted: _set_flow_run_state(call, wanted))


def set_task_run_states(call: Call, states: list[Mapping[str, Any]]) -> dict[str, Any]:
    """The same for task runs."""
    return _each(states, "task_run_id", lambda wanted: _set_task_run_state(call, wanted))


def _each(states: list[Mapping[str, Any]], key: str, apply: Any) -> dict[str, Any]:
    refusals = []
    for wanted in states:
        try:
            apply(wanted)
        except Refused as refusal:
            refusals.append(refusal)
    if refusals:
        raise refusals[0]
    return {"states": [{"id": wanted[key], "status": "SUCCESS", "message": None} for wanted in states]}


def _set_flow_run_state(call: Call, wanted: Mapping[str, Any]) -> None:
    run_id = wanted["flow_run_id"]
    document = complete_state(wanted["state"], call.backend.now())
    run = call.existing("flow_run", run_id, f"State update failed for flow run ID {run_id}")
    if document["type"] == "Submitted":
        call.backend.take_submitted_lock(run_id)
    move_flow_run(call.backend, run, document)
    if document["type"] == "Submitted" and call.agent_id and call.store.get("agent", agent_row_id(call)):
        call.store.update(run, agent_id=agent_row_id(call))


def _set_task_run_state(call: Call, wanted: Mapping[str, Any]) -> None:
    run_id = wanted["task_run_id"]
    document = complete_state(wanted["state"], call.backend.now())
    task_run = call.existing("task_run", run_id, f"State update failed for task run ID {run_id}")
    flow_run = call.existing("flow_run", task_run["flow_run_id"], "Invalid flow run ID")
    if document["type"] in RUNNING and flow_run["state"] != "Running":
        raise Refused(
            f"State update failed for task run ID {run_id}: provided a running state but associated flow run "
            f"{flow_run['id']} is not in a running state."
        )
    move_task_run(call.backend, task_run, document)


def agent_row_id(call: Call) -> str:
    """The id that the agent sent. Raises Refused when it is no UUID."""
    try:
        return str(uuid.UUID(call.agent_id))
    except (ValueError, TypeError):
        raise Refused(f'invalid input syntax for type uuid: "{call.agent_id}"') from None


def cancel_flow_run(call: Call, flow_run_id: str, message: str | None = None) -> dict[str, Any]:
    """A run that runs is asked to stop, one that waits is cancelled at once, one that ended stays as it is."""
    run = call.existing("flow_run", flow_run_id, f"Invalid flow run ID: {flow_run_id}.")
    if run["state"] not in FINISHED:
        kind = "Cancelling" if run["state"] in RUNNING else "Cancelled"
        wanted = {"type": kind, "message": message or f"Flow run is {kind.lower()}"}
        move_flow_run(call.backend, run, complete_state(wanted, call.backend.now()))
    return {"state": run["state"]}
