"""What Prefect 1 knows of this agent's launches (pure): the queries, and how their rows are read.

The rows of a run tell on which launch it stands: a claim that waits says so itself; of one that runs it is the latest
claim on the flow run, or the latest sign of launch when that belongs to a later retry.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from chalicelib.flow_runs import Document, claimed_version
from chalicelib.prefect_api.documents import RootField
from chalicelib.prefect_api.prefect1_fields import RETRYABLE_STATES, RUN_COLUMNS
from chalicelib.prefect_api.prefect1_records import SIGN_OF_LAUNCH
from chalicelib.prefect_api.prefect1_rows import context_of, has_key, key_of, member, read_each, read_orphans, read_time
from chalicelib.sightings import RESUBMIT_VARIABLE, Launched, Own, Phase, Resubmit, Standing

PAGE_LIMIT = 500
"""How many of this agent's claims are read in one request, oldest first."""

ORPHAN_AGE_SECONDS = 90
"""A claim without a sign of launch is an orphan once it is older than any tick: the function's time-out is 60 s."""

CANCELLED_SECONDS = 3600
"""How long after it was cancelled a run is looked at. What still runs then is a stray."""

SIGNS = """logs(
        where: {message: {_like: $sign}, _not: {name: {_like: "prefect.%"}}}, order_by: {timestamp: desc}, limit: 5
      ) { info message }"""
"""The latest signs of launch. Flows log under names of Prefect's own, and may write what looks like a sign."""

STANDING_COLUMNS = f"""id version state state_timestamp serialized_state run_config
      submissions: states(where: {{state: {{_eq: "Submitted"}}}}, order_by: {{version: desc}}, limit: 1) {{
        version serialized_state
      }}
      open: task_runs(where: {{state: {{_in: $open}}}}) {{ id version state serialized_state state_timestamp }}
      {SIGNS}"""

CLAIMED = 'state: {_eq: "Submitted"}, serialized_state: {_contains: $mine}'
"""That a state, or what is in it, is a claim of this agent's."""

PHASES = dict(zip(("Submitted", "Running", "Cancelling", "Cancelled"), Phase, strict=True))


def own_launches(tenant_id: str, context: Document, now: datetime, offset: int = 0) -> list[RootField]:
    """This agent's claims whose state carries `context`: runs and task runs that wait, runs that run or were cancelled.

    Each comes with its signs of launch, latest first; waiting ones are at least ORPHAN_AGE_SECONDS old.
    """
    waiting = f"{CLAIMED}, state_timestamp: {{_lt: $before}}"
    # Claims of one moment would change places between two pages without the id.
    order = f"order_by: [{{state_timestamp: asc}}, {{id: asc}}], limit: {PAGE_LIMIT}, offset: {offset}"
    variables = {
        "tenant": ("uuid", tenant_id),
        "before": ("timestamptz", (now - timedelta(seconds=ORPHAN_AGE_SECONDS)).isoformat()),
        "mine": ("jsonb", {"context": dict(context)}),
        **_sign(),
    }
    recent = {"recent": ("timestamptz", (now - timedelta(seconds=CANCELLED_SECONDS)).isoformat())}
    runs = f"""flow_run(where: {{tenant_id: {{_eq: $tenant}}, {waiting}}}, {order}) {{
      {RUN_COLUMNS} state_timestamp {SIGNS}
    }}"""
    task_runs = f"""task_run(where: {{
      tenant_id: {{_eq: $tenant}}, {waiting}, flow_run: {{state: {{_eq: "Running"}}}}
    }}, {order}) {{
      id version serialized_state state_timestamp flow_run {{ {RUN_COLUMNS} {SIGNS} }}
    }}"""
    return [
        RootField("claims", runs, variables),
        RootField("retries", task_runs, variables),
        RootField("begun", _begun(order), {**variables, **recent, "open": ("[String!]", ["Submitted"])}),
    ]


def _begun(order: str) -> str:
    claims = f"states(where: {{{CLAIMED}}}, order_by: {{version: desc}}, limit: 5) {{ serialized_state }}"
    return f"""flow_run(where: {{
      tenant_id: {{_eq: $tenant}},
      _and: [
        {{_or: [
          {{state: {{_in: ["Running", "Cancelling"]}}}},
          {{state: {{_eq: "Cancelled"}}, state_timestamp: {{_gt: $recent}}}}
        ]}},
        {{_or: [{{states: {{{CLAIMED}}}}}, {{task_runs: {{states: {{{CLAIMED}}}}}}}]}}
      ]
    }}, {order}) {{
      {STANDING_COLUMNS}
      {claims} retries: task_runs(where: {{states: {{{CLAIMED}}}}}) {{ {claims} }}
    }}"""


def standings(run_ids: Sequence[str]) -> RootField:
    """How some runs stand now, with their task runs that have begun or wait."""
    variables = {"ids": ("[uuid!]", list(run_ids)), "open": ("[String!]", ["Submitted", "Running", *RETRYABLE_STATES])}
    text = f"flow_run(where: {{id: {{_in: $ids}}}}) {{ {STANDING_COLUMNS} }}"
    return RootField("standings", text, {**variables, **_sign()})


def finished_runs(run_ids: Sequence[str], before: datetime) -> RootField:
    """Those of some runs that had ended before then."""
    where = (
        'id: {_in: $ids}, state: {_in: ["Success", "Failed", "Cancelled", "Skipped"]}, state_timestamp: {_lt: $before}'
    )
    variables = {"ids": ("[uuid!]", list(run_ids)), "before": ("timestamptz", before.isoformat())}
    return RootField("finished", f"flow_run(where: {{{where}}}) {{ id }}", variables)


def possible_ids(texts: Iterable[str]) -> list[str]:
    """Those that are UUIDs: anybody may start a task in the name of something else, and one such fails a query."""
    return [text for text in texts if re.fullmatch("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", text)]


def refresh_heartbeat(alias: str, run_id: str) -> RootField:
    """Let the server believe that a run is looked after, for the ten minutes that its Lazarus waits."""
    given = {f"{alias}_run": ("update_flow_run_heartbeat_input!", {"flow_run_id": run_id})}
    return RootField(alias, f"update_flow_run_heartbeat(input: ${alias}_run) {{ success }}", given)


def read_own(rows: Mapping[str, Sequence[Document]], tenant_id: str, now: datetime) -> Own:
    """The answers to `own_launches`."""
    orphans = read_orphans(rows["claims"], rows["retries"], tenant_id, now)
    waiting = read_each([*rows["claims"], *rows["retries"]], lambda row: _read_waiting(row, now))
    launched = {(launch.run_id, launch.key): launch for launch in waiting}
    return Own(tuple(orphans), (*launched.values(), *read_each(rows["begun"], lambda row: _read_begun(row, now))))


def read_standing(row: Document) -> Standing:
    """How a run stands, out of a row with STANDING_COLUMNS."""
    claimed, phase = _claimed(row), PHASES.get(row["state"])
    context = _standing_context(row, claimed)
    env = member(row["run_config"], "env")
    return Standing(
        phase=Phase.WAITING if claimed and phase is Phase.RUNNING and not _runs_tasks(row) else phase,
        key=_standing_key(row, context),
        resubmitted=count if isinstance(count := context.get("resubmitted"), int) else 0,
        resubmit=read_resubmit(env.get(RESUBMIT_VARIABLE)),
        # No agent takes a run of which a task run is claimed, whatever else of it waits for a retry.
        comes_back=not claimed and any(task["state"] in RETRYABLE_STATES for task in row["open"]),
    )


def read_resubmit(text: object) -> Resubmit:
    """The choice that a run's AGENT_RESUBMIT is; without one, what failed before the flow began is launched again."""
    return next((choice for choice in Resubmit if choice.value == text), Resubmit.START)


def _sign() -> dict[str, tuple[str, Any]]:
    return {"sign": ("String", f"{SIGN_OF_LAUNCH}%")}


def _read_waiting(claim: Document, now: datetime) -> Launched | None:
    """The launch of a claim on a flow run or on a task run of it; None while there is no sign of it."""
    run, key = claim.get("flow_run", claim), key_of(claim)
    if not has_key(run["logs"], key):
        return None
    since = read_time(claim["state_timestamp"]) or now
    return Launched(run["id"], key, Phase.WAITING, since, _text(run["logs"], key))


def _read_begun(row: Document, now: datetime) -> Launched | None:
    """The launch that a run stands on, if it is ours; None while a claimed retry waits, which speaks for itself."""
    standing = read_standing(row)
    claims = (*row["states"], *(claim for task in row["retries"] for claim in task["states"]))
    if standing.phase in (None, Phase.WAITING) or not standing.key:
        return None
    if standing.key not in {key_of(claim) for claim in claims}:
        return None
    since = read_time(row["state_timestamp"]) or now
    return Launched(row["id"], standing.key, PHASES[row["state"]], since, _text(row["logs"], standing.key))


def _runs_tasks(row: Document) -> bool:
    return any(task["state"] == "Running" for task in row["open"])


def _claimed(row: Document) -> Sequence[Document]:
    return [
        task for task in row["open"] if task["state"] == "Submitted" and context_of(task["serialized_state"]).get("key")
    ]


def _standing_context(row: Document, claimed: Sequence[Document]) -> Document:
    own = [row] if row["state"] == "Submitted" else []
    return next((context_of(each["serialized_state"]) for each in (*own, *claimed, *row["submissions"])), {})


def _standing_key(row: Document, context: Document) -> str | None:
    key = context.get("key")
    if row["state"] != "Submitted" and not _claimed(row) and row["logs"]:
        info = row["logs"][0]["info"]
        latest = info.get("key") if isinstance(info, Mapping) else None
        if not latest:
            # Prefect's own agents sign without a key: what they have launched is not ours.
            return None
        submitted = max((submission["version"] for submission in row["submissions"]), default=0)
        # A claim raises the version by one.
        if claimed_version(str(latest), row["id"]) + 1 >= submitted:
            return str(latest)
    return str(key) if key else None


def _text(logs: Iterable[Document], key: str) -> str:
    for line in logs:
        if has_key([line], key):
            return str(line["message"]).removeprefix(SIGN_OF_LAUNCH)
    return ""
