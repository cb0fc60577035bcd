"""Rows of Prefect 3's API, read into the vocabulary of this project (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from chalicelib.flow_runs import BEGUN, Document, Flow, FlowRun, WorkPoolJob
from chalicelib.prefect_api.prefect3_states import WAITS_FOR_SLOT, read_time

UNCLAIMED_NAMES = frozenset({"Scheduled", "Late", WAITS_FOR_SLOT})
"""States that a run is in before anybody has launched it, unless it has an infrastructure pid."""

LED_NAMES = frozenset({"Scheduled", "Late"})
"""States in which a run may be started before its time. In all others it waits because something has said so."""


def with_references(run: FlowRun, known: Document, wanted: Iterable[str]) -> FlowRun:
    """The run with what it names of these blocks and variables."""
    references = {name: known[name] for name in wanted if name in known}
    return replace(run, job=replace(run.job, references=references)) if run.job else run


def read_run(
    pool: Document, row: Document, flows: Mapping[str, Document], deployments: Mapping[str, Document], lead: timedelta
) -> FlowRun:
    """A run as the API has it, as a FlowRun; a flow or deployment that is not among the given ones is gone."""
    state = row["state"] or {"id": row["state_id"], "type": row["state_type"], "name": row["state_name"]}
    due = due_time({**row, "state": state})
    is_fresh = row["state_name"] in UNCLAIMED_NAMES and not row["infrastructure_pid"]
    return FlowRun(
        id=row["id"],
        name=row["name"],
        version=UUID(row["state_id"]).int,
        start_time=due - lead if row["state_name"] in LED_NAMES else due,
        flow=Flow(row["flow_id"], str(flows.get(row["flow_id"], {}).get("name", ""))),
        state=state,
        was_claimed_before=not is_fresh,
        begun_version=BEGUN if row["run_count"] else 0,
        job=WorkPoolJob(pool, row, deployments.get(row["deployment_id"] or "", {})),
    )


def due_time(row: Document) -> datetime:
    """When the run of this row may start."""
    scheduled = ((row["state"] or {}).get("state_details") or {}).get("scheduled_time")
    texts = (row["next_scheduled_start_time"], scheduled, row["expected_start_time"], row["created"])
    return next(moment for text in texts if (moment := read_time(text)))


def has_lost_deployment(run: FlowRun) -> bool:
    """Whether the deployment of a run was deleted."""
    return run.job is not None and bool(run.job.flow_run["deployment_id"]) and not run.job.deployment
