"""What is due in Prefect 3's work pools, read into the vocabulary together with all that a launch of it needs."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from urllib.parse import quote

from chalicelib.builders.job_configuration import find_references
from chalicelib.errors import PrefectRejected
from chalicelib.flow_runs import Document, FlowRun
from chalicelib.prefect_api.prefect3_client import PAGE_LIMIT, Prefect3Client, PrefectRefusal
from chalicelib.prefect_api.prefect3_launches import due_runs
from chalicelib.prefect_api.prefect3_rows import LED_NAMES, due_time, read_run, with_references
from chalicelib.prefect_api.prefect3_states import NOTED_NAMES

LOGGER = logging.getLogger(__name__)

POLL_LIMIT, LEAST_POLL_LIMIT, POLLED_RUNS = 200, 20, 1000
"""How many due runs are read of each pool at once: the most that a server gives, so that few can hide the others; less
where many pools are polled, as a tick has time for so many runs in all."""

ROUND_SECONDS = 40
"""After this the next tick polls all pools, also those in which nothing waits: to the server a queue, and what is
deployed to it, is not ready once nobody has polled it for 60 s."""

ABSENT = "does not exist: create it, or correct its name in AGENT_WORK_POOLS (--work-pool)"


@dataclass(frozen=True)
class WorkPools:
    """Which work pools an agent serves, in the name of which worker.

    `kinds` has the types of pools that can be launched, each with the first word of its launches' texts. Without
    `queues` all queues are served. `lead_seconds`, by pool, is how long before its time a run is started.
    """

    agent_name: str
    names: tuple[str, ...]
    kinds: Mapping[str, str]
    queues: tuple[str, ...] = ()
    lead_seconds: Mapping[str, float] = field(default_factory=dict)

    def lead(self, pool: str) -> timedelta:
        """How long before its time a run of this pool is started."""
        return timedelta(seconds=self.lead_seconds.get(pool, 0.0))


class PoolReader:
    """Reads work pools and their runs."""

    def __init__(self, client: Prefect3Client, pools: WorkPools) -> None:
        self.client = client
        self.pools = pools
        self._present: frozenset[str] = frozenset()
        self._next_round = datetime.min.replace(tzinfo=UTC)

    def present_types(self) -> frozenset[str]:
        """The types of the pools that are served, as all were read last. Raises PrefectError at the first time."""
        if not self._present:
            self.read_pools()
        return self._present

    def read_pools(self) -> dict[str, dict[str, Any]]:
        """The pools whose type is served, by name. Raises PrefectRejected when there is none."""
        served, problems = self._read_served(self.pools.names)
        self._present = frozenset(pool["type"] for pool in served.values())
        if not served:
            raise PrefectRejected("; ".join(problems))
        return served

    def poll(self, before: datetime) -> list[tuple[str, dict[str, Any]]]:
        """The due runs of all pools, each with the name of its pool; the pools take turns, each in its own order.

        Raises the PrefectError of the first pool when none can be polled.
        """
        asked = self._choose(before)
        limit = max(LEAST_POLL_LIMIT, min(POLL_LIMIT, POLLED_RUNS // (len(asked) or 1)))

        def poll(pool: str) -> list[dict[str, Any]]:
            rows = self._poll(pool, (before + self.pools.lead(pool)).isoformat(), limit)
            return [row for row in rows if row["state_name"] in LED_NAMES or due_time(row) < before]

        answers = self.client.some_of(poll, asked, "A work pool cannot be polled", needs_one=True)
        if len(asked) == len(self.pools.names):
            self._next_round = self.client.transport.clock.now() + timedelta(seconds=ROUND_SECONDS)
        columns = [[(pool, row) for row in rows] for pool, rows in answers]
        return [pair for turn in itertools.zip_longest(*columns) for pair in turn if pair]

    def complete(
        self, rows: Sequence[tuple[str, dict[str, Any]]], pools: Mapping[str, Document] | None = None
    ) -> list[FlowRun]:
        """These runs of served pools with all that a launch needs; what cannot be read now is logged and left out.

        So is, without a word, what has changed its state since. Their `pools`, unless they are given, are read with the
        rest. Raises PrefectRejected when no pool is served.
        """
        noted = [row["id"] for _, row in rows if not row["state"] and row["state_name"] in NOTED_NAMES]
        reads: list[Callable[[], Mapping[str, Document]]] = [
            partial(self.client.by_id, "flow_runs", noted),
            partial(self.client.by_id, "flows", [row["flow_id"] for _, row in rows]),
            partial(self.read_deployments, [row["deployment_id"] for _, row in rows]),
            lambda: pools or self._read_served({pool for pool, _ in rows})[0] or self.read_pools(),
        ]
        again, flows, deployments, served = self.client.all_of(lambda read: read(), reads)
        runs = [
            self._read_run(served[pool], {**row, **again.get(row["id"], {})}, flows, deployments)
            for pool, row in rows
            if pool in served
            and (row["deployment_id"] or "") in deployments
            and again.get(row["id"], row)["state_id"] == row["state_id"]
        ]
        return self._refer([run for run in runs if run])

    def read_deployments(self, ids: Collection[str | None]) -> dict[str, Document]:
        """The deployments with these ids, empty where one is gone; what cannot be read now is logged and left out.

        That a filter does not let one through may also be a matter of rights, or of a reading that lags behind.
        """
        found = self.client.by_id("deployments", ids)
        missing = sorted({each for each in ids if each} - found.keys())
        read = self.client.some_of(
            lambda each: self.client.find(f"/deployments/{each}"), missing, "A deployment cannot be read"
        )
        return {"": {}, **found, **{each: deployment or {} for each, deployment in read}}

    def _choose(self, before: datetime) -> Sequence[str]:
        """The pools to poll: those in which something waits, whatever holds it back; now and then all."""
        names = self.pools.names
        if len(names) < 2 or self.client.transport.clock.now() >= self._next_round:
            return names
        latest = before + max(self.pools.lead(name) for name in names)
        rows = self.client.filter("flow_runs", due_runs(names, latest))
        waiting = {row["work_pool_name"] for row in rows}
        return [name for name in names if name in waiting] if len(rows) < PAGE_LIMIT else names

    def _read_served(self, names: Collection[str]) -> tuple[dict[str, dict[str, Any]], list[str]]:
        """Those of these pools whose type is served, by name, and what is wrong with the others, which is logged."""
        found = self.client.filter_all("work_pools", {"work_pools": {"name": {"any_": sorted(names)}}})
        types = ", ".join(sorted(self.pools.kinds))
        problems = dict.fromkeys(names, ABSENT)
        problems |= {
            pool["name"]: f"is of type {pool['type']}, and this agent launches {types} alone" for pool in found
        }
        served = {pool["name"]: pool for pool in found if pool["type"] in self.pools.kinds}
        lines = [f"Work pool {name} {problem}" for name, problem in problems.items() if name not in served]
        for line in lines:
            LOGGER.error(line)
        return served, lines

    def _poll(self, pool: str, before: str, limit: int) -> list[dict[str, Any]]:
        body: dict[str, Any] = {"scheduled_before": before, "limit": limit}
        if self.pools.queues:
            body["work_queue_names"] = list(self.pools.queues)
        path = f"/work_pools/{quote(pool, safe='')}"
        try:
            rows = self.client.send("POST", f"{path}/get_scheduled_flow_runs", body)
        except PrefectRefusal as error:
            if error.status != 404:
                raise
            if not self.pools.queues:
                raise PrefectRejected(f"Work pool {pool} {ABSENT}") from error
            # A queue that this pool does not have spoils the question for all others.
            queues = {row["name"] for row in self.client.filter_all(f"{path[1:]}/queues", {})}
            body["work_queue_names"] = sorted(queues.intersection(self.pools.queues))
            if not body["work_queue_names"]:
                raise
            rows = self.client.send("POST", f"{path}/get_scheduled_flow_runs", body)
        return [row["flow_run"] for row in rows]

    def _read_run(
        self, pool: Document, row: Document, flows: Mapping[str, Document], deployments: Mapping[str, Document]
    ) -> FlowRun | None:
        try:
            return read_run(pool, row, flows, deployments, self.pools.lead(pool["name"]))
        except (KeyError, TypeError, ValueError) as error:
            LOGGER.warning("Flow run %s is left out, as it has an unknown shape: %r", row.get("id"), error)
            return None

    def _refer(self, runs: Sequence[FlowRun]) -> list[FlowRun]:
        """The runs with the blocks and variables that they name; twice, because blocks may name variables."""
        known: dict[str, Any] = {}
        unknown: set[str] = set()
        for _ in range(2):
            wanted = {run.id: find_references(run.job) for run in runs if run.job}
            new = sorted(set().union(*wanted.values()) - known.keys() - unknown)
            read = dict(self.client.some_of(self._read_reference, new, "A block or variable cannot be read"))
            known |= {name: value[0] for name, value in read.items() if value}
            unknown |= set(new) - read.keys()
            runs = [with_references(run, known, wanted[run.id]) for run in runs]
        return [run for run in runs if not wanted[run.id] & unknown]

    def _read_reference(self, name: str) -> tuple[Any] | None:
        """What a block holds or a variable is, in a tuple; None when it does not exist, or is refused."""
        path, column = reference_path(name)
        try:
            document = self.client.find(path)
        except PrefectRefusal as refusal:
            LOGGER.error("%s is not for this agent to read: %s", name, refusal)
            return None
        return (document[column],) if document else None


def reference_path(name: str) -> tuple[str, str]:
    """Where the API has the block or variable that `find_references` names so, and the field with its value."""
    if name.startswith("prefect.variables."):
        return f"/variables/name/{quote(name.split('.', 2)[2], safe='')}", "value"
    if name.startswith("prefect.blocks."):
        slug, block = (quote(part, safe="") for part in name.split(".", 3)[2:])
        return f"/block_types/slug/{slug}/block_documents/name/{block}?include_secrets=true", "data"
    return f"/block_documents/{name.partition(':')[2]}?include_secrets=true", "data"
