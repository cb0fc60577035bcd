"""What goes on at a Prefect 1 API, for the eyes of an operator (pure): the queries, and how their rows are read."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from chalicelib.flow_runs import Document
from chalicelib.prefect_api.documents import RootField
from chalicelib.prefect_api.prefect1_launches import SIGNS
from chalicelib.prefect_api.prefect1_records import SIGN_OF_LAUNCH

ROWS_LIMIT = 500
"""How many rows an operator is told of."""


def recent_claims(tenant_id: str, name: str, since: datetime) -> RootField:
    """The flow runs that the agent `name` has claimed since then, themselves or a retry of theirs, newest first."""
    claimed = "{serialized_state: {_contains: $mine}, timestamp: {_gt: $since}}"
    text = f"""flow_run(where: {{
      tenant_id: {{_eq: $tenant}}, _or: [{{states: {claimed}}}, {{task_runs: {{states: {claimed}}}}}]
    }}, order_by: {{state_timestamp: desc}}, limit: {ROWS_LIMIT}) {{
      id name state state_message state_timestamp {SIGNS}
    }}"""
    variables = {
        "tenant": ("uuid", tenant_id),
        "mine": ("jsonb", {"context": {"agent": name}}),
        "since": ("timestamptz", since.isoformat()),
        "sign": ("String", f"{SIGN_OF_LAUNCH}%"),
    }
    return RootField("recent", text, variables)


def due_labels(tenant_id: str, now: datetime) -> RootField:
    """The labels of the flow runs that are due, of whatever labels, in the order in which the queue looks at them."""
    where = 'tenant_id: {_eq: $tenant}, state: {_eq: "Scheduled"}, state_start_time: {_lte: $now}'
    text = f"flow_run(where: {{{where}}}, order_by: {{state_start_time: asc}}, limit: {ROWS_LIMIT}) {{ labels }}"
    return RootField("due", text, {"tenant": ("uuid", tenant_id), "now": ("timestamptz", now.isoformat())})


def polling_agents(tenant_id: str, since: datetime) -> RootField:
    """The agents that have looked into the queue since then."""
    text = "agent(where: {tenant_id: {_eq: $tenant}, last_queried: {_gt: $since}}) { name type labels }"
    return RootField("polling", text, {"tenant": ("uuid", tenant_id), "since": ("timestamptz", since.isoformat())})


def gets(agent_labels: Iterable[str], run_labels: Iterable[str]) -> bool:
    """Whether the queue gives a run of these labels to an agent of those."""
    agents, runs = set(agent_labels), set(run_labels)
    return runs <= agents and bool(runs) == bool(agents)


def launch_text(row: Document) -> str:
    """What a row of `recent_claims` was launched as (`Task arn:...`); "" without a sign of launch."""
    return str(row["logs"][0]["message"]).removeprefix(SIGN_OF_LAUNCH) if row["logs"] else ""
