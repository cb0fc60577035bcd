"""Prefect 3's work pools (servers of one's own and Cloud) behind the PrefectAPI port.

A tick with nothing to do is one request, and now and then a poll of each pool. What is due is polled, then completed by
all that it takes to launch it, read at the same time, then claimed by fifty. Each launch is a pid to write, and all are
one bulk of logs.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from chalicelib.errors import PrefectRejected, shorten
from chalicelib.flow_runs import Claim, Document, FlowRun, Place
from chalicelib.health import HealthFacts
from chalicelib.outcomes import Outcome
from chalicelib.ports import Clock
from chalicelib.prefect_api import prefect3_launches as launches
from chalicelib.prefect_api import prefect3_states as states
from chalicelib.prefect_api.prefect3_client import BULK_LIMIT, Prefect3Client, Proposal
from chalicelib.prefect_api.prefect3_health import read_faults, read_health
from chalicelib.prefect_api.prefect3_pools import PoolReader, WorkPools
from chalicelib.prefect_api.prefect3_records import RunRecords
from chalicelib.prefect_api.prefect3_rows import has_lost_deployment
from chalicelib.sightings import Consequence, Launched, Own, Sighting, consequence_of

LOGGER = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 60
"""What the server is told of how often it hears from us: a worker is shown offline after three times that."""

FAULT_PAUSE_SECONDS = 120
"""How long after its own fault nothing of a pool is claimed: one run in two minutes shows whether it is in order."""


class Prefect3API:
    """One agent's view of a Prefect 3 API."""

    def __init__(
        self, client: Prefect3Client, pools: WorkPools, clock: Clock, defer_deadline_seconds: float = 3600.0
    ) -> None:
        self.client = client
        self.pools = pools
        self.clock = clock
        self.reader = PoolReader(client, pools)
        self.records = RunRecords(client, pools.agent_name, clock, defer_deadline_seconds)
        self._is_known = ".prefect.cloud" in client.transport.base_url

    def sign_in(self) -> None:
        """One request, once: whether this is a server of Prefect 3. Raises PrefectError."""
        if self._is_known:
            return
        url = self.client.transport.base_url
        version = self.client.find("/admin/version")
        if not isinstance(version, str):
            raise PrefectRejected(f"{url} is not the API of a Prefect 3 server; PREFECT_API_URL must end in /api")
        if version.split(".")[0] != "3":
            raise PrefectRejected(
                f"{url} is a Prefect {shorten(version, 20)} server; work pools are served of Prefect 3 alone"
            )
        self._is_known = True

    def record_and_poll(self, outcomes: Sequence[Outcome], before: datetime) -> list[FlowRun]:
        """See the port."""
        self.sign_in()
        if outcomes:
            self.records.record(outcomes)
        due = self.reader.poll(before)
        if not due:
            return []
        with ThreadPoolExecutor(1) as thread:
            paused = thread.submit(self._read_paused_pools)
            runs = self.reader.complete(due)
        return [run for run in runs if run.pool_name not in paused.result()]

    def claim(self, runs: Sequence[FlowRun], place: Place) -> list[Claim]:
        """See the port. A claim whose reply was lost is told by its transition id when it is sent again."""
        now, send_until = self.clock.now(), self.records.latest_write()
        lost = {run.id for run in runs if has_lost_deployment(run)}
        keys: dict[str, str] = {}
        for proposal, results in self._propose([run for run in runs if run.id not in lost], place, send_until):
            for run_id, result in results.items():
                if _is_ours(result, proposal):
                    keys[run_id] = str(result["state"]["id"])
                elif "Deployment not found" in str(result["details"]):
                    lost.add(run_id)
        self._cancel([run for run in runs if run.id in lost], "SCHEDULED", send_until)
        return [Claim(run, keys[run.id], now) for run in runs if run.id in keys]

    def find_own(self, _: Place) -> Own:
        """See the port. It also lets the server know that this agent lives."""
        self.sign_in()
        now, pools = self.clock.now(), self.reader.read_pools()
        with ThreadPoolExecutor(1) as thread:
            beat = thread.submit(self._beat, list(pools))
            # What is cancelled in between is found twice rather than never.
            rows = self.client.filter_all("flow_runs", launches.open_runs(pools))
            rows += self.client.filter_all("flow_runs", launches.cancelled_runs(pools, now))
        beat.result()
        claimed = [row for row in rows if self._is_own_claim(row) and launches.is_old(row, now)]
        signed = [row for row in claimed if launches.is_signed(row)]
        begun = [row for row in rows if row["state_type"] != "PENDING" and self._is_served(row)]
        silent = [row for row in begun if not row["infrastructure_pid"] and row["state_type"] != "CANCELLED"]
        keys = {row["id"]: str(row["state_id"]) for row in signed}
        keys |= {run_id: str(history[0]["id"]) for run_id, history in self._read_claims(silent).items() if history}
        known = [row for row in (*signed, *begun) if row["infrastructure_pid"] or row["id"] in keys]
        orphans = [row for row in claimed if not launches.is_signed(row)]
        return Own(
            tuple(self._read_orphans(orphans, pools)),
            tuple(self._read_launch(row, pools, keys.get(row["id"], "")) for row in known),
        )

    def record_stops(self, stops: Sequence[Sighting], alive: Sequence[Sighting] = ()) -> list[Consequence]:
        """See the port. Of what is alive, a pid is written where none stands yet."""
        self.sign_in()
        send_until = self.records.latest_write()
        asked = launches.possible_ids(sighting.run_id for sighting in (*stops, *alive))
        rows = self.client.by_id("flow_runs", asked)
        # Of a run that waits it would be the sign of a claim that somebody else has just made.
        begun = {key for key, row in rows.items() if row["state_type"] in ("RUNNING", "CANCELLING")}
        unsigned = [each for each in alive if each.run_id in begun and not rows[each.run_id]["infrastructure_pid"]]
        self.records.write_pids([(sighting.run_id, sighting.text) for sighting in unsigned])
        stopped = {sighting.run_id for sighting in stops}
        open_rows = {key: row for key, row in rows.items() if key in stopped and row["state_type"] in launches.OPEN}
        claims = self._read_claims(list(open_rows.values()))
        deployments = self._read_deployments(stops, open_rows)

        def heed(sighting: Sighting) -> Consequence:
            row = open_rows.get(sighting.run_id)
            if row is None or sighting.stop is None:
                return Consequence.NOTHING
            deployment = deployments.get(row["deployment_id"], {})
            standing = launches.read_standing(row, claims[row["id"]], deployment, sighting)
            consequence = consequence_of(launches.with_key(sighting), standing)
            if consequence is Consequence.NOTHING:
                return consequence
            return self.records.conclude(row, sighting.stop, consequence, standing, send_until)

        return self.client.all_of(heed, stops)

    def find_finished(self, run_ids: Sequence[str], before: datetime) -> set[str]:
        """See the port."""
        finished = launches.finished_runs(before)
        return set(self.client.by_id("flow_runs", launches.possible_ids(run_ids), finished))

    def health_facts(self, now: datetime) -> HealthFacts:
        """What this API has recorded of the agent, read without a poll and without a heartbeat."""
        self.sign_in()
        return read_health(self.client, self.pools, self.reader.read_pools(), now)

    def _propose(
        self, runs: Sequence[FlowRun], place: Place, send_until: datetime
    ) -> list[tuple[Proposal, dict[str, Document]]]:
        """The claims as they were sent, runs with the same notes together, each with its results by run."""
        sign = f"{states.claim_sign(self.pools.agent_name)} for {place}"
        by_message: dict[str, list[str]] = {}
        for run in runs:
            notes = states.claim_notes(run.job.flow_run if run.job else {}, run.state)
            by_message.setdefault(states.with_notes(sign, notes), []).append(run.id)
        proposals = [
            Proposal(run_ids[i : i + BULK_LIMIT], states.pending(message, str(uuid4())), ("SCHEDULED", "PENDING"))
            for message, run_ids in by_message.items()
            for i in range(0, len(run_ids), BULK_LIMIT)
        ]
        return self.client.some_of(
            lambda each: self.client.propose(each, send_until),
            proposals,
            "Some flow runs are not claimed, or are found again by recovery",
            needs_one=True,
        )

    def _cancel(self, runs: Sequence[FlowRun], present: str, send_until: datetime) -> None:
        """End runs whose deployment is gone, as the official worker does."""

        def cancel(run: FlowRun) -> None:
            deployment_id = run.job.flow_run["deployment_id"] if run.job else None
            state = states.cancelled(f"Deployment {deployment_id} no longer exists, cancelled run")
            self.client.propose(Proposal([run.id], state, (present,)), send_until)

        self.client.some_of(cancel, runs, "A flow run without its deployment is not cancelled")

    def _read_paused_pools(self) -> set[str]:
        """The pools in which a fault of the agent's own is too fresh to claim anything."""
        faults = read_faults(self.client, self.pools, self.clock.now() - timedelta(seconds=FAULT_PAUSE_SECONDS))
        for pool, reason in faults.items():
            LOGGER.error("Nothing of work pool %s is claimed for now, because of: %s", pool, reason)
        return set(faults)

    def _beat(self, pools: Sequence[str]) -> None:
        body = {"name": self.pools.agent_name, "heartbeat_interval_seconds": HEARTBEAT_SECONDS}

        def beat(pool: str) -> None:
            self.client.send("POST", f"/work_pools/{quote(pool, safe='')}/workers/heartbeat", body)

        self.client.some_of(beat, pools, "A work pool does not know that this agent lives")

    def _read_claims(self, rows: Sequence[Document]) -> dict[str, list[Document]]:
        """The history of each of these runs from its latest claim back where that is ours. Raises PrefectError."""

        def read(row: Document) -> list[Document]:
            return launches.from_claim(self.client.history(row["id"]), self.pools.agent_name)

        return dict(zip((row["id"] for row in rows), self.client.all_of(read, rows), strict=True))

    def _read_deployments(self, stops: Sequence[Sighting], rows: Mapping[str, Document]) -> dict[str, Document]:
        """The deployments of the runs of which it matters whether they may be launched again."""
        passing = [each.run_id for each in stops if each.stop and each.stop.passes and each.run_id in rows]
        return self.reader.read_deployments([rows[run_id]["deployment_id"] for run_id in passing])

    def _read_orphans(self, rows: Sequence[dict[str, Any]], pools: Mapping[str, Document]) -> list[Claim]:
        runs = self.reader.complete([(row["work_pool_name"], row) for row in rows], pools)
        self._cancel([run for run in runs if has_lost_deployment(run)], "PENDING", self.records.latest_write())
        now, kept = self.clock.now(), [run for run in runs if not has_lost_deployment(run)]
        claims = [Claim(run, str(run.state["id"]), states.read_time(run.state["timestamp"]) or now) for run in kept]
        return sorted(claims, key=lambda claim: claim.claimed_at)

    def _read_launch(self, row: Document, pools: Mapping[str, Document], key: str) -> Launched:
        return launches.read_launch(row, self.pools.kinds[pools[row["work_pool_name"]]["type"]], self.clock.now(), key)

    def _is_own_claim(self, row: Document) -> bool:
        return states.is_own_claim(row["state"], self.pools.agent_name)

    def _is_served(self, row: Document) -> bool:
        return not self.pools.queues or row["work_queue_name"] in self.pools.queues


def _is_ours(result: Document, proposal: Proposal) -> bool:
    """Whether a claim was accepted, now or when it was sent before and its reply was lost."""
    if not result["state"] or result["status"] == "ACCEPT":
        return bool(result["state"])
    details = result["state"].get("state_details") or {}
    transition_id = proposal.state["state_details"]["transition_id"]
    return bool(result["status"] == "REJECT" and details.get("transition_id") == transition_id)
