"""The runs that wait for their time: the index that lets the server find the oldest without reading all."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from datetime import datetime

from tests.doubles.prefect1.states import SCHEDULED
from tests.doubles.prefect1.store import Row, Store

Entry = tuple[datetime, float, str, int]
"""Start time, a number that decides between equal ones, the run's id, and its version when it began to wait."""


class WaitingRuns:
    """Flow runs of each tenant by start time. What has moved on is dropped when it is met."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._entries: dict[str, list[Entry]] = {}

    def add(self, run: Row) -> None:
        """Remember a run that has just got its state."""
        if run["state"] in SCHEDULED and run["state_start_time"] is not None:
            heapq.heappush(self._entries.setdefault(run["tenant_id"], []), self._entry(run))

    def first(
        self, tenant_id: str, limit: int, before: datetime | None = None, fits: Callable[[Row], bool] | None = None
    ) -> list[Row]:
        """At most so many that fit and are due by then, oldest first; equal ones in an order nobody may rely on."""
        entries = self._entries.get(tenant_id, [])
        met: list[Row] = []
        found: list[Row] = []
        while entries and len(found) < limit and (before is None or entries[0][0] <= before):
            _, _, run_id, version = heapq.heappop(entries)
            run = self._store.get("flow_run", run_id)
            if run and run["version"] == version and run["state"] in SCHEDULED:
                met.append(run)
                found += [run] if fits is None or fits(run) else []
        for run in met:
            heapq.heappush(entries, self._entry(run))
        return found

    def _entry(self, run: Row) -> Entry:
        return run["state_start_time"], self._store.random.random(), run["id"], run["version"]
