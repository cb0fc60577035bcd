"""What a Prefect 3 API has recorded of one agent: signs of life, a backlog, faults. Nothing here polls or claims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

from chalicelib.flow_runs import Document
from chalicelib.health import HealthFacts
from chalicelib.prefect_api import prefect3_states as states
from chalicelib.prefect_api.prefect3_client import Prefect3Client
from chalicelib.prefect_api.prefect3_launches import due_runs, in_pools
from chalicelib.prefect_api.prefect3_pools import WorkPools

AGENT_FAULT_SECONDS = 900
"""How long a run that crashed by the agent's own fault keeps the agent unhealthy."""


def read_health(client: Prefect3Client, own: WorkPools, pools: Mapping[str, Document], now: datetime) -> HealthFacts:
    """The facts at `now`; `pools` are the ones that this agent serves. Raises PrefectError."""
    beats = [
        states.read_time(row["last_heartbeat_time"])
        for row in _read_of_pools(client, list(pools), "workers")
        if row["name"] == own.agent_name
    ]
    faults = read_faults(client, own, now - timedelta(seconds=AGENT_FAULT_SECONDS))
    return HealthFacts(
        last_polled=max((beat for beat in beats if beat), default=None),
        oldest_due=_read_oldest_due(client, own, pools, now),
        agent_fault=next(iter(faults.values()), None),
    )


def read_faults(client: Prefect3Client, own: WorkPools, since: datetime) -> dict[str, str]:
    """The pools of which runs crashed by this agent's own fault, latest first, with that fault. Raises PrefectError."""
    crashed = {"state": {"name": {"any_": [states.MISCONFIGURED]}}, "end_time": {"after_": since.isoformat()}}
    rows = client.filter_all("flow_runs", {**in_pools(own.names, crashed), "sort": "END_TIME_DESC"})
    faults: dict[str, str] = {}
    for row in rows:
        if states.read_notes(row["state"]).get("agent") == own.agent_name:
            faults.setdefault(row["work_pool_name"], states.message_of(row["state"]))
    return faults


def _read_oldest_due(
    client: Prefect3Client, own: WorkPools, pools: Mapping[str, Document], now: datetime
) -> datetime | None:
    """Since when the first run waits that nothing holds back: no pause, no limit, no retry in its own process."""
    free = [name for name, pool in pools.items() if _is_free(pool)]
    rows = client.filter("flow_runs", due_runs(free, now)) if free else []
    queues = _read_of_pools(client, free, "queues") if rows else []
    served = {queue["id"] for queue in queues if _is_free(queue) and (not own.queues or queue["name"] in own.queues)}
    for row in rows:
        is_retry = (row["empirical_policy"] or {}).get("retry_type") == "in_process"
        if row["work_queue_id"] in served and not is_retry:
            return states.read_time(row["next_scheduled_start_time"])
    return None


def _is_free(pool_or_queue: Document) -> bool:
    return not pool_or_queue["is_paused"] and pool_or_queue["concurrency_limit"] is None


def _read_of_pools(client: Prefect3Client, pools: Sequence[str], kind: str) -> list[Document]:
    def read(pool: str) -> list[dict[str, Any]]:
        return client.filter_all(f"work_pools/{quote(pool, safe='')}/{kind}", {})

    return [row for rows in client.all_of(read, pools) for row in rows]
