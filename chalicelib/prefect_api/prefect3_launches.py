"""What Prefect 3 knows of launches (pure): which rows are asked for, and what they say of each launch.

What a run was launched as stands in its infrastructure pid, which it keeps when it is claimed again. Whose launch that
was, and with which key, stands in its latest claim.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import dropwhile
from typing import Any

from chalicelib.flow_runs import Document
from chalicelib.prefect_api.prefect3_states import CLAIM_NAME, handed_on, is_own_claim, read_notes, read_time
from chalicelib.sightings import RESUBMIT_VARIABLE, Launched, Phase, Resubmit, Sighting, Standing

ORPHAN_AGE_SECONDS = 90
"""A claim without a sign of launch is an orphan once it is older than any tick: the function's time-out is 60 s."""

CANCELLED_SECONDS = 3600
"""How long after it was cancelled a run is looked at. What still runs then is a stray."""

PHASES = dict(zip(("PENDING", "RUNNING", "CANCELLING", "CANCELLED"), Phase, strict=True))
OPEN = ("PENDING", "RUNNING", "CANCELLING")
FINAL = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


def in_pools(pools: Iterable[str], flow_runs: Document) -> dict[str, Any]:
    """The filter of the flow runs in some work pools that another filter lets through."""
    return {"work_pools": {"name": {"any_": sorted(pools)}}, "flow_runs": dict(flow_runs)}


def due_runs(pools: Iterable[str], before: datetime) -> dict[str, Any]:
    """The filter of all runs that wait for a time before then, earliest first, whatever holds them back."""
    due = {"state": {"type": {"any_": ["SCHEDULED"]}}, "next_scheduled_start_time": {"before_": before.isoformat()}}
    return {**in_pools(pools, due), "sort": "NEXT_SCHEDULED_START_TIME_ASC"}


def open_runs(pools: Iterable[str]) -> dict[str, Any]:
    """The filter of all runs that somebody has claimed and that are not over."""
    return in_pools(pools, {"state": {"type": {"any_": OPEN}}})


def cancelled_runs(pools: Iterable[str], now: datetime) -> dict[str, Any]:
    """The filter of the runs that were cancelled a while ago."""
    since = (now - timedelta(seconds=CANCELLED_SECONDS)).isoformat()
    return in_pools(pools, {"state": {"type": {"any_": ["CANCELLED"]}}, "end_time": {"after_": since}})


def finished_runs(before: datetime) -> dict[str, Any]:
    """The filter of the runs that had ended before then."""
    return {"flow_runs": {"state": {"type": {"any_": FINAL}}, "end_time": {"before_": before.isoformat()}}}


def possible_ids(texts: Iterable[str]) -> list[str]:
    """Those that are UUIDs: anybody may start a task in the name of something else, and one such fails a filter."""
    return [text for text in texts if re.fullmatch("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", text)]


def pid_of(text: str) -> str:
    """The infrastructure pid in a launch's text: all that follows its first word."""
    return text.partition(" ")[2]


def is_signed(row: Document) -> bool:
    """Whether a claimed run bears the sign of launch: a pid that is not of a time before its claim."""
    pid = row["infrastructure_pid"]
    return bool(pid) and pid != read_notes(row["state"]).get("after")


def is_old(row: Document, now: datetime) -> bool:
    """Whether a claim is older than any tick."""
    return (now - (read_time(row["state"]["timestamp"]) or now)).total_seconds() >= ORPHAN_AGE_SECONDS


def read_launch(row: Document, kind: str, now: datetime, key: str = "") -> Launched:
    """The launch of a run; `kind` is the first word of its text."""
    pid = row["infrastructure_pid"]
    since = read_time(row["state"]["timestamp"]) or now
    return Launched(row["id"], key, PHASES[row["state_type"]], since, f"{kind} {pid}" if pid else "")


def from_claim(history: Iterable[Document], agent_name: str) -> list[Document]:
    """Of a run's states, latest first, its latest claim and all before that; none if it is not this agent's."""
    states = list(dropwhile(lambda state: (state["type"], state["name"]) != ("PENDING", CLAIM_NAME), history))
    return states if states and is_own_claim(states[0], agent_name) else []


def read_standing(row: Document, history: Sequence[Document], deployment: Document, sighting: Sighting) -> Standing:
    """How a run stands, as far as it matters to this sighting; its `key` is the sighting's if that speaks for the run.

    `history` is the run's from our claim back. Of a run that waits for somebody else nothing may be said.
    """
    claim = history[0] if history else None
    phase = PHASES.get(row["state_type"])
    if phase is Phase.WAITING and claim is None:
        phase = None
    notes = read_notes(claim)
    # A run that waits has a claim newer than a pid of an earlier launch; once it runs it may run in what was adopted.
    is_recorded = row["infrastructure_pid"] == pid_of(sighting.text) != ""
    is_stale = phase is Phase.WAITING and row["infrastructure_pid"] == notes.get("after")
    is_claimed = claim is not None and sighting.key == claim["id"]
    # What bears no key of ours may be an official worker's, which this agent's platform need not know.
    is_ours = bool(sighting.key) or claim is not None
    return Standing(
        phase=phase,
        key=with_key(sighting).key if is_claimed or (is_recorded and is_ours and not is_stale) else None,
        resubmitted=int(handed_on(history).get("resubmitted", 0)),
        resubmit=_read_resubmit(row, deployment),
    )


def with_key(sighting: Sighting) -> Sighting:
    """A sighting that has a key: without one its text says which launch it is."""
    return replace(sighting, key=sighting.key or sighting.text)


def _read_resubmit(row: Document, deployment: Document) -> Resubmit:
    if (row["empirical_policy"] or {}).get("retry_type") == "in_process":
        return Resubmit.NEVER  # The server keeps such a run from all pollers, whatever its state.
    texts = [_environment(each).get(RESUBMIT_VARIABLE) for each in (row, deployment)]
    chosen = next((text for text in texts if text is not None), None)
    return next((choice for choice in Resubmit if choice.value == chosen), Resubmit.START)


def _environment(document: Document) -> Mapping[str, Any]:
    env = (document.get("job_variables") or {}).get("env")
    return env if isinstance(env, Mapping) else {}
