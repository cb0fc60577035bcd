"""Flow runs and task runs: made, queued, looked after and deleted."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from tests.doubles.prefect1.backend import Backend, Call
from tests.doubles.prefect1.states import RUNNING, SCHEDULED, complete_state
from tests.doubles.prefect1.store import Refused, Row
from tests.doubles.prefect1.transitions import agent_row_id, move_flow_run

QUEUE_LIMIT = 25
"""How many runs the queue answers at most; it looks at three times as many, of whatever labels."""
HEARTBEAT_LIMIT_SECONDS = 600.0
RESURRECTION_LIMIT = 3
NEW_TASK_RUN = {"type": "Pending", "message": "Task run created"}


def create_flow_run(call: Call, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Schedule a run of a flow; the same idempotency key and flow is the same run."""
    flow = _flow_to_run(call, wanted)
    key = wanted.get("idempotency_key")
    for run in call.store.owned("flow_run", "flow_id", flow["id"]) if key else []:
        if run["idempotency_key"] == key:
            return {"id": run["id"]}
    group = call.existing("flow_group", flow["flow_group_id"], "Invalid flow group ID.")
    start = wanted.get("scheduled_start_time") or call.backend.now()
    run = call.store.insert(
        "flow_run",
        tenant_id=flow["tenant_id"],
        flow_id=flow["id"],
        labels=sorted(_labels(wanted, group, flow)),
        run_config=wanted.get("run_config") or group["run_config"] or flow["run_config"],
        parameters=_parameters(wanted, group, flow),
        context=wanted.get("context") or {},
        scheduled_start_time=start,
        name=wanted.get("flow_run_name") or f"curious-run-{len(call.store.tables['flow_run']) + 1}",
        idempotency_key=key,
    )
    for task in call.store.owned("task", "flow_id", flow["id"]):
        create_task_run(call, run, task)
    scheduled = {"type": "Scheduled", "message": "Flow run scheduled.", "start_time": start.isoformat()}
    move_flow_run(call.backend, run, complete_state(scheduled, call.backend.now()))
    return {"id": run["id"]}


def _flow_to_run(call: Call, wanted: Mapping[str, Any]) -> Row:
    flow_id, group = wanted.get("flow_id"), wanted.get("version_group_id")
    if not (flow_id or group):
        raise Refused("A flow id or version group ID must be provided.")
    if flow_id:
        flow = call.existing("flow", flow_id, f"Flow {flow_id} not found")
    else:
        living = [row for row in call.store.rows("flow") if row["version_group_id"] == group and not row["archived"]]
        if not living:
            raise Refused(f"Version group {group} has no unarchived flows.")
        flow = max(living, key=lambda row: row["version"])
    if flow["archived"]:
        raise Refused(f"Flow {flow['id']} is archived.")
    return flow


def _labels(wanted: Mapping[str, Any], group: Row, flow: Row) -> list[str]:
    if wanted.get("labels") is not None:
        return list(wanted["labels"])
    if wanted.get("run_config") is not None:
        return wanted["run_config"].get("labels") or []
    if group["labels"] is not None:
        return list(group["labels"])
    sources = (group["run_config"], flow["run_config"], flow["environment"])
    return next((source.get("labels") or [] for source in sources if source is not None), [])


def _parameters(wanted: Mapping[str, Any], group: Row, flow: Row) -> dict[str, Any]:
    defaults = {each["name"]: each["default"] for each in flow["parameters"] if each.get("default")}
    given = {**defaults, **group["default_parameters"], **(wanted.get("parameters") or {})}
    missing = {each["name"] for each in flow["parameters"] if each.get("required")} - set(given)
    if missing:
        raise Refused(f"Required parameters were not supplied: {missing}")
    return given


def create_task_run(call: Call, flow_run: Row, task: Row, map_index: int = -1) -> Row:
    """A task run that waits."""
    now = call.backend.now()
    task_run = call.store.insert(
        "task_run",
        tenant_id=flow_run["tenant_id"],
        flow_run_id=flow_run["id"],
        task_id=task["id"],
        map_index=map_index,
        cache_key=task["cache_key"],
        state="Pending",
        state_message=NEW_TASK_RUN["message"],
        state_timestamp=now,
        serialized_state=NEW_TASK_RUN,
    )
    call.store.insert(
        "task_run_state",
        tenant_id=flow_run["tenant_id"],
        task_run_id=task_run["id"],
        version=0,
        state="Pending",
        message=NEW_TASK_RUN["message"],
        timestamp=now,
        serialized_state=NEW_TASK_RUN,
    )
    return task_run


def find_task_run(call: Call, wanted: Mapping[str, Any]) -> Row:
    """The task run of a flow run's task, made when it is not there yet, as mapped tasks need."""
    index = -1 if wanted.get("map_index") is None else wanted["map_index"]
    for task_run in call.store.owned("task_run", "flow_run_id", wanted["flow_run_id"]):
        if (task_run["task_id"], task_run["map_index"]) == (wanted["task_id"], index):
            return task_run
    task = call.existing("task", wanted["task_id"], "Invalid task ID")
    return create_task_run(
        call, call.existing("flow_run", wanted["flow_run_id"], "Foreign key violation."), task, index
    )


def get_runs_in_queue(call: Call, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The ids of the oldest runs that are due and whose labels this agent has. Nothing is reserved."""
    labels = wanted.get("labels", [])
    if labels is None:
        raise Refused("'NoneType' object has no attribute 'sort'")
    before = wanted.get("before") or call.backend.now()
    oldest = _oldest_ready(call.backend, wanted["tenant_id"], before)
    mine = [run["id"] for run in oldest if set(run["labels"]) <= set(labels) and bool(run["labels"]) == bool(labels)]
    if call.agent_id:
        agent = call.store.get("agent", agent_row_id(call))
        if agent:
            call.store.update(agent, last_queried=call.backend.now())
    return {"flow_run_ids": mine[:QUEUE_LIMIT]}


def _oldest_ready(backend: Backend, tenant_id: str, before: datetime) -> list[Row]:
    """The runs that the queue looks at; those that run and have a task to retry have no start time and come last."""
    limit = 3 * QUEUE_LIMIT
    oldest = backend.waiting.first(tenant_id, limit, before)
    if len(oldest) < limit:
        oldest += backend.store.shuffled(
            run
            for run in backend.store.rows("flow_run")
            if run["state"] == "Running" and run["tenant_id"] == tenant_id and _retries(backend, run, before)
        )
    return oldest[:limit]


def _retries(backend: Backend, run: Row, before: datetime) -> bool:
    return any(_is_due(task_run, before) for task_run in backend.store.owned("task_run", "flow_run_id", run["id"]))


def _is_due(run: Row, before: datetime) -> bool:
    start = run["state_start_time"]
    return run["state"] in SCHEDULED and start is not None and start <= before


def run_lazarus(backend: Backend) -> int:
    """Reschedule what was submitted or running and went silent; how many runs that were."""
    silent_since = backend.now() - timedelta(seconds=HEARTBEAT_LIMIT_SECONDS)
    silent = [run for run in backend.store.rows("flow_run") if _is_dead(backend, run, silent_since)]
    for run in silent:
        attempt = run["times_resurrected"] + 1
        if attempt <= RESURRECTION_LIMIT:
            wanted = {"type": "Scheduled", "message": "Rescheduled by a Lazarus process."}
            note = f"{wanted['message']} This is attempt {attempt}."
            backend.store.update(run, times_resurrected=attempt)
        else:
            note = (
                f"A Lazarus process attempted to reschedule this run {RESURRECTION_LIMIT} times without success. "
                "Marking as failed."
            )
            wanted = {"type": "Failed", "message": note}
        move_flow_run(backend, run, complete_state(wanted, backend.now()))
        level = "INFO" if wanted["type"] == "Scheduled" else "ERROR"
        entry = {"flow_run_id": run["id"], "timestamp": backend.now(), "message": note, "level": level}
        backend.store.insert("log", name="prefect-server.Lazarus.FlowRun", **entry)
    return sum(run["state"] == "Scheduled" for run in silent)


def _is_dead(backend: Backend, run: Row, silent_since: datetime) -> bool:
    if run["state"] not in ("Running", "Submitted") or run["heartbeat"] is None or run["heartbeat"] > silent_since:
        return False
    task_runs = backend.store.owned("task_run", "flow_run_id", run["id"])
    if any(task_run["state"] in (SCHEDULED - {"Queued"}) | RUNNING for task_run in task_runs):
        return False
    flow = backend.store.get("flow", run["flow_id"]) or {}
    group = backend.store.get("flow_group", flow.get("flow_group_id")) or {"settings": {}}
    return all(group["settings"].get(name) is not False for name in ("heartbeat_enabled", "lazarus_enabled"))
