"""The root fields that this agent sends to Prefect 1 (pure).

Two type families live in one schema: table queries take `uuid` and `timestamptz`, mutations take `UUID!` and `JSON!`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import accumulate, groupby
from typing import Any

from chalicelib.flow_runs import Document
from chalicelib.prefect_api.documents import RootField

RETRY_PATIENCE_SECONDS = 3
"""How long a due task run is left to its own flow-run process, which retries it in place if it still lives."""

QUEUE_LIMIT = 25
"""Runs that the queue names at most in one answer."""

LIKELY_LIMIT = 30
"""A few more rows than the queue has: what runs already and is due for a retry is named last there."""

STATES_LIMIT = 50
"""States of task runs in one root field: its states are carried out at once, root fields one after the other."""

STATES_BYTES = 1_000_000
"""How much of them one root field takes, but for the last: one state has 1 MB at most, and a request 5 MB."""

RETRYABLE_STATES = ["Scheduled", "Retrying", "Resume", "Paused", "Queued"]

RUN_COLUMNS = """id name version state serialized_state run_config
      flow { id name version storage core_version }
      states(where: {state: {_eq: "Submitted"}}, order_by: {version: asc}, limit: 2) { id }
      begun: states(
        where: {state: {_nin: ["Scheduled", "Submitted", "Queued"]}}, order_by: {version: desc}, limit: 1
      ) { version }"""
"""What a launch depends on. Two Submitted states are enough to tell a first claim from a later one."""


def tenants() -> RootField:
    """The tenants that this token may see."""
    return RootField("tenants", "tenant { id }")


def token_tenant() -> RootField:
    """The tenant of the token; Prefect Cloud has this field, Prefect Server refuses it as unknown."""
    return RootField("auth", "auth_info { tenant_id }")


def register_agent(kind: str, name: str, labels: Sequence[str], tenant_id: str) -> RootField:
    """Idempotent: the same values answer the same id."""
    given = {"type": kind, "name": name, "labels": list(labels), "tenant_id": tenant_id}
    return RootField("agent", "register_agent(input: $agent) { id }", {"agent": ("register_agent_input!", given)})


def runs_in_queue(tenant_id: str, labels: Sequence[str], before: datetime) -> RootField:
    """The ids of at most 25 runs that are ready; asking reserves nothing."""
    given = {"tenant_id": tenant_id, "labels": list(labels), "before": before.isoformat()}
    return RootField(
        "queue", "get_runs_in_queue(input: $queue) { flow_run_ids }", {"queue": ("get_runs_in_queue_input!", given)}
    )


def launchable_runs(run_ids: Sequence[str], retries_due_before: datetime) -> RootField:
    """Those of `run_ids` that nobody has taken: Scheduled, or Running with due task runs and no claim on any."""
    due = "{state: {_in: $retryable}, state_start_time: {_lte: $due}}"
    text = f"""flow_run(where: {{
      id: {{_in: $ids}},
      _or: [
        {{state: {{_eq: "Scheduled"}}}},
        {{state: {{_eq: "Running"}}, task_runs: {due}, _not: {{task_runs: {{state: {{_eq: "Submitted"}}}}}}}}
      ]
    }}) {{
      {RUN_COLUMNS}
      task_runs(where: {due}) {{ id version serialized_state }}
    }}"""
    variables = {
        "ids": ("[uuid!]", list(run_ids)),
        "retryable": ("[String!]", RETRYABLE_STATES),
        "due": ("timestamptz", retries_due_before.isoformat()),
    }
    return RootField("runs", text, variables)


def present_states(run_ids: Sequence[str]) -> RootField:
    """The states of some runs, and of their task runs that are Submitted."""
    text = """flow_run(where: {id: {_in: $ids}}) {
      id version state serialized_state
      task_runs(where: {state: {_eq: "Submitted"}}) { id serialized_state }
    }"""
    return RootField("runs", text, {"ids": ("[uuid!]", list(run_ids))})


def latest_poll(tenant_id: str, name: str, core_version: str) -> RootField:
    """When an agent of this name and version last looked into the queue."""
    mine = "tenant_id: {_eq: $tenant}, name: {_eq: $name}, core_version: {_eq: $core}, last_queried: {_is_null: false}"
    return RootField(
        "agents",
        f"agent(where: {{{mine}}}, order_by: {{last_queried: desc}}, limit: 1) {{ last_queried }}",
        {"tenant": ("uuid", tenant_id), "name": ("String", name), "core": ("String", core_version)},
    )


def oldest_due(tenant_id: str, labels: Sequence[str]) -> RootField:
    """The Scheduled run of these labels that is due first, by the rule of the queue.

    All of a run's labels must be the agent's; runs without labels are for agents without.
    """
    where, variables = _served(tenant_id, labels)
    return RootField(
        "due",
        f"flow_run(where: {{{where}}}, order_by: {{state_start_time: asc}}, limit: 1) {{ state_start_time }}",
        variables,
    )


def likely_runs(tenant_id: str, labels: Sequence[str], before: datetime) -> RootField:
    """The Scheduled runs that the queue will name first, by its own rules and order, with what a launch depends on."""
    where, variables = _served(tenant_id, labels)
    variables["before"] = ("timestamptz", before.isoformat())
    where += ", state_start_time: {_lte: $before}"
    text = f"""flow_run(where: {{{where}}}, order_by: {{state_start_time: asc}}, limit: {LIKELY_LIMIT}) {{
      {RUN_COLUMNS}
    }}"""
    return RootField("runs", text, variables)


def _served(tenant_id: str, labels: Sequence[str]) -> tuple[str, dict[str, tuple[str, Any]]]:
    served = "{labels: {_eq: $labels}}"
    variables: dict[str, tuple[str, Any]] = {"tenant": ("uuid", tenant_id), "labels": ("jsonb", list(labels))}
    if labels:
        served = "{labels: {_contained_in: $labels}}, {_not: {labels: {_eq: $none}}}"
        variables["none"] = ("jsonb", [])
    return f'tenant_id: {{_eq: $tenant}}, state: {{_eq: "Scheduled"}}, _and: [{served}]', variables


def latest_agent_fault(tenant_id: str, name: str, since: datetime) -> RootField:
    """The last run that failed since then because this agent itself is misconfigured."""
    where = """tenant_id: {_eq: $tenant}, state: {_eq: "Failed"}, state_timestamp: {_gt: $since},
      serialized_state: {_contains: $fault}"""
    return RootField(
        "faults",
        f"""flow_run(where: {{{where}}}, order_by: {{state_timestamp: desc}}, limit: 1) {{
      state_message state_timestamp
    }}""",
        {
            "tenant": ("uuid", tenant_id),
            "since": ("timestamptz", since.isoformat()),
            "fault": ("jsonb", {"context": {"agent": name, "agent_fault": True}}),
        },
    )


def set_flow_run_state(alias: str, run_id: str, state: Document) -> RootField:
    """Put a flow run into a state; the server's only guard is a 30 s lock on Submitted."""
    text = f"""set_flow_run_states(input: {{states: [{{flow_run_id: ${alias}_id, state: ${alias}_state}}]}}) {{
      states {{ id status message }}
    }}"""
    return RootField(alias, text, {f"{alias}_id": ("UUID!", run_id), f"{alias}_state": ("JSON!", state)})


def set_task_run_states(alias: str, states: Sequence[tuple[str, Document]]) -> list[RootField]:
    """Put task runs, by their ids, into states. The first has a field and so a reply of its own, `{alias}_0`."""
    sizes = [max(len(json.dumps(state)), STATES_BYTES // STATES_LIMIT) for _, state in states]
    ends = accumulate([STATES_BYTES, *sizes[1:]])
    parts = groupby(zip(states, ends, strict=False), lambda pair: (pair[1] - 1) // STATES_BYTES)
    return [_set_task_run_states(f"{alias}_{i}", [pair for pair, _ in part]) for i, (_, part) in enumerate(parts)]


def write_log(alias: str, run_id: str, name: str, level: str, message: str, info: Mapping[str, Any]) -> RootField:
    """One line in a flow run's log; a field for each run, because one unknown run loses all lines of its field."""
    text = message.replace("\x00", "")
    line = {"flow_run_id": run_id, "name": name, "level": level, "message": text, "info": dict(info)}
    given = {f"{alias}_line": ("write_run_log_input!", line)}
    return RootField(alias, f"write_run_logs(input: {{logs: [${alias}_line]}}) {{ success }}", given)


def _set_task_run_states(alias: str, states: Sequence[tuple[str, Document]]) -> RootField:
    text = f"set_task_run_states(input: ${alias}_states) {{ states {{ id status message }} }}"
    given = {"states": [{"task_run_id": task_run_id, "state": state} for task_run_id, state in states]}
    return RootField(alias, text, {f"{alias}_states": ("set_task_run_states_input!", given)})
