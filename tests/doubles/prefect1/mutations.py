"""Every mutation by its name in the schema; each takes the call and its input, already checked against the schema."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tests.doubles.prefect1.backend import Call
from tests.doubles.prefect1.registration import (
    archive_flow,
    create_flow,
    create_flow_from_compressed_string,
    create_project,
    create_tenant,
    register_agent,
    register_edges,
    register_tasks,
    set_schedule_active,
)
from tests.doubles.prefect1.runs import create_flow_run, find_task_run, get_runs_in_queue
from tests.doubles.prefect1.store import Row
from tests.doubles.prefect1.transitions import cancel_flow_run, set_flow_run_states, set_task_run_states

Input = Mapping[str, Any]
Mutation = Callable[[Call, Input], dict[str, Any]]


def _write_run_logs(call: Call, wanted: Input) -> dict[str, Any]:
    now = call.backend.now()
    entries = [
        {**entry, "timestamp": entry.get("timestamp") or now, "level": entry.get("level") or "INFO"}
        for entry in wanted["logs"]
    ]
    call.store.insert_all("log", entries)
    return {"success": True}


def _delete(table: str, key: str) -> Mutation:
    return lambda call, wanted: {"success": call.store.delete(table, wanted[key])}


def _update(table: str, values: Callable[[Call, Input], dict[str, Any]], answer: bool | None = None) -> Mutation:
    """Change one row; `answer` is what is said whether there was such a row or not."""

    def mutate(call: Call, wanted: Input) -> dict[str, Any]:
        row = call.store.get(table, wanted[f"{table}_id"])
        if row:
            call.store.update(row, **values(call, wanted))
        return {"success": bool(row) if answer is None else answer}

    return mutate


def _heartbeat(call: Call, wanted: Input) -> dict[str, Any]:
    return {"heartbeat": call.backend.now()}


def _name(call: Call, wanted: Input) -> dict[str, Any]:
    return {"name": wanted["name"]}


def _archive_flow(call: Call, wanted: Input) -> dict[str, Any]:
    flow = call.store.get("flow", wanted["flow_id"])
    if flow:
        archive_flow(call, flow)
    return {"success": bool(flow)}


def _task_run_info(call: Call, wanted: Input) -> Row:
    return find_task_run(call, wanted)


MUTATIONS: Mapping[str, Mutation] = {
    "create_tenant": create_tenant,
    "create_project": create_project,
    "create_flow": create_flow,
    "create_flow_from_compressed_string": create_flow_from_compressed_string,
    "register_tasks": register_tasks,
    "register_edges": register_edges,
    "set_schedule_active": set_schedule_active,
    "archive_flow": _archive_flow,
    "register_agent": register_agent,
    "delete_agent": _delete("agent", "agent_id"),
    "create_agent_config": lambda call, wanted: {"id": call.store.insert("agent_config", **wanted)["id"]},
    "get_runs_in_queue": get_runs_in_queue,
    "create_flow_run": create_flow_run,
    "delete_flow_run": _delete("flow_run", "flow_run_id"),
    "cancel_flow_run": lambda call, wanted: cancel_flow_run(call, wanted["flow_run_id"]),
    "set_flow_run_states": lambda call, wanted: set_flow_run_states(call, wanted["states"]),
    "set_task_run_states": lambda call, wanted: set_task_run_states(call, wanted["states"]),
    "set_flow_run_name": _update("flow_run", _name),
    "set_task_run_name": _update("task_run", _name),
    "get_or_create_task_run": _task_run_info,
    "get_or_create_task_run_info": _task_run_info,
    "update_flow_run_heartbeat": _update("flow_run", _heartbeat, answer=True),
    "update_task_run_heartbeat": _update("task_run", _heartbeat, answer=True),
    "write_run_logs": _write_run_logs,
}
