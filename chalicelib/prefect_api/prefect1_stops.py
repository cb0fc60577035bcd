"""What is written to Prefect 1 when a launch has ended (pure), given how its run stands at that moment."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from chalicelib.flow_runs import Document
from chalicelib.prefect_api.documents import RootField
from chalicelib.prefect_api.prefect1_fields import set_flow_run_state, set_task_run_states, write_log
from chalicelib.prefect_api.prefect1_records import GIVE_BACK_SECONDS, cancelled, failed, pending, scheduled
from chalicelib.prefect_api.prefect1_rows import key_of, state_before
from chalicelib.sightings import RESUBMIT_BUDGET, Consequence, Sighting, Standing


def stop_fields(
    alias: str,
    agent_name: str,
    sighting: Sighting,
    consequence: Consequence,
    row: Document,
    standing: Standing,
    now: datetime,
) -> list[RootField]:
    """The states and the log line that a consequence is; `row` has the run's open task runs."""
    if consequence is Consequence.NOTHING or sighting.stop is None:
        return []
    context: dict[str, Any] = {"agent": agent_name, "key": sighting.key}
    reason, level = sighting.stop.reason, "ERROR"
    if consequence is Consequence.CONFIRM:
        level, states = "INFO", [set_flow_run_state(alias, row["id"], cancelled(f"Cancelled: {reason}", context))]
    elif consequence is Consequence.RESUBMIT:
        level, number = "WARNING", standing.resubmitted + 1
        reason = f"Launched again ({number} of {RESUBMIT_BUDGET}), as it could not run: {reason}"
        new = scheduled(
            now + timedelta(seconds=GIVE_BACK_SECONDS), reason, {"agent": agent_name, "resubmitted": number}
        )
        states = _set_back(alias, row, sighting, new)
    else:
        running = [task for task in row["open"] if task["state"] == "Running"]
        end = failed(reason, context)
        # The flow run last: whoever is cut off before it finds it as it was.
        states = set_task_run_states(alias, [(task["id"], end) for task in running])
        states.append(set_flow_run_state(alias, row["id"], end))
    info = {"ended": sighting.key}
    return [write_log(f"{alias}_log", row["id"], agent_name, level, reason, info), *states]


def _set_back(alias: str, row: Document, sighting: Sighting, new: Document) -> list[RootField]:
    """Let a run wait for its next claim; a retry that never began waits as the retry that it was."""
    waiting = [task for task in row["open"] if task["state"] == "Submitted" and key_of(task) == sighting.key]
    running = [task for task in row["open"] if task["state"] == "Running"]
    if row["state"] == "Running" and waiting and not running:
        changed = {name: new[name] for name in ("start_time", "message", "context")}
        befores = [(task["id"], {"type": "Scheduled", **state_before(task), **changed}) for task in waiting]
        return set_task_run_states(alias, befores)
    # What the lost machine was at begins anew; nobody would run it otherwise.
    again = set_task_run_states(alias, [(task["id"], pending(new["message"])) for task in running])
    return [*again, set_flow_run_state(alias, row["id"], new)]
