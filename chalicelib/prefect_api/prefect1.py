"""Prefect 1 (Server and Cloud) behind the PrefectAPI port.

A tick with nothing to do is one request, one with up to 25 due runs is four: the queue, the runs' metadata, all claims,
and all outcomes together with the next look into the queue.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from chalicelib.errors import PrefectError, PrefectRejected, PrefectUnauthorized, PrefectUnreachable
from chalicelib.flow_runs import Claim, Document, FlowRun, Place, launch_key
from chalicelib.health import HealthFacts
from chalicelib.outcomes import Outcome
from chalicelib.ports import Clock
from chalicelib.prefect_api import prefect1_fields as fields
from chalicelib.prefect_api import prefect1_launches as launches
from chalicelib.prefect_api.documents import RootField
from chalicelib.prefect_api.graphql import FieldReply, GraphQLClient
from chalicelib.prefect_api.prefect1_records import Recorder, needs_reading
from chalicelib.prefect_api.prefect1_rows import context_of, read_runs, read_time
from chalicelib.prefect_api.prefect1_stops import stop_fields
from chalicelib.sightings import Consequence, Launched, Own, Sighting, Standing, consequence_of

LOGGER = logging.getLogger(__name__)

CORE_VERSION = "1.4.1+lambda"
"""Sent as our Prefect version. Constant, because the server takes an agent of another version for another agent."""

CLAIM_LOCK_TEXT = "already been submitted"
"""The server refuses a second Submitted within 30 s in these words, also when our own reply to the first was lost."""


AGENT_FAULT_SECONDS = 900
"""How long a run that failed by the agent's own fault keeps the agent unhealthy."""

WRITE_PATIENCE_SECONDS = 5.0
"""How long a request that sets states may be sent again: what its reading said may not hold any longer."""

FAULT_PAUSE_SECONDS = 120
"""How long after such a run nothing is claimed: one run in two minutes shows whether the agent is in order again."""


class Prefect1API:
    """One agent's view of a Prefect 1 API. `backend` is `server` or `cloud`; `tenant_id` is asked for when empty."""

    def __init__(
        self, client: GraphQLClient, recorder: Recorder, clock: Clock, backend: str, tenant_id: str = ""
    ) -> None:
        self.client = client
        self.recorder = recorder
        self.identity = recorder.identity
        self.clock = clock
        self.backend = backend
        self.tenant_id = tenant_id
        self._is_registered = False
        client.transport.headers["X-PREFECT-CORE-VERSION"] = CORE_VERSION

    def record_and_poll(self, outcomes: Sequence[Outcome], before: datetime) -> list[FlowRun]:
        """See the port. Without outcomes and without due runs this is one request."""
        self._sign_in()
        send_until = self._latest_write() if outcomes else None
        writes = self._writes(outcomes)
        queue = fields.runs_in_queue(self.tenant_id, self.identity.labels, before)
        replies = self.client.mutate([*writes, queue], send_until)
        self._report_problems(replies, writes)
        run_ids = _required(replies["queue"])["flow_run_ids"]
        return self._read_launchable(run_ids) if run_ids else []

    def claim(self, runs: Sequence[FlowRun], place: Place) -> list[Claim]:
        """See the port. A refusal by the lock may be the echo of our own claim, its reply lost: it is read back."""
        nonce, now = str(uuid4()), self.clock.now()
        claims = {f"r{i}": Claim(run, launch_key(run), now) for i, run in enumerate(runs)}
        replies = self.client.mutate(
            [
                root_field
                for alias, claim in claims.items()
                for root_field in self.recorder.claim_fields(alias, claim.run, claim, place, nonce)
            ],
            self._latest_write(),
        )
        results = {alias: _claim_reply(replies, alias) for alias in claims}
        disputed = [
            claims[alias].run.id for alias, reply in results.items() if CLAIM_LOCK_TEXT in (reply.problem or "")
        ]
        ours = self._read_own_claims(disputed, nonce)
        return [claim for alias, claim in claims.items() if results[alias].problem is None or claim.run.id in ours]

    def find_own(self, place: Place) -> Own:
        """See the port. One request for each 500 claims."""
        self._sign_in()
        now = self.clock.now()
        context = {"agent": self.identity.name, "platform": place.platform, "place": place.name}
        orphans: list[Claim] = []
        found: list[Launched] = []
        for offset in itertools.count(step=launches.PAGE_LIMIT):
            rows = self.client.query(launches.own_launches(self.tenant_id, context, now, offset))
            own = launches.read_own(rows, self.tenant_id, now)
            orphans += own.orphans
            found += own.launched
            if max(len(page) for page in rows.values()) < launches.PAGE_LIMIT:
                break
        return Own(tuple(orphans), tuple(found))

    def find_finished(self, run_ids: Sequence[str], before: datetime) -> set[str]:
        """See the port. One request."""
        return {str(row["id"]) for row in self._ask(launches.finished_runs(run_ids, before))}

    def record_stops(self, stops: Sequence[Sighting], waiting: Sequence[str] = ()) -> list[Consequence]:
        """See the port. Two requests; without stops one."""
        self._sign_in()
        send_until, asked = self._latest_write(), [sighting.run_id for sighting in stops]
        rows = {row["id"]: row for row in self._ask(launches.standings(asked))} if asked else {}
        writes = [launches.refresh_heartbeat(f"h{i}", run_id) for i, run_id in enumerate(waiting)]
        consequences = []
        for i, sighting in enumerate(stops):
            row = rows.get(sighting.run_id)
            standing = launches.read_standing(row) if row else Standing(None)
            consequences.append(consequence_of(sighting, standing))
            if row:
                given = (f"r{i}", self.identity.name, sighting, consequences[-1], row, standing, self.clock.now())
                writes += stop_fields(*given)
        if writes:
            self._report_problems(self.client.mutate(writes, send_until), writes)
        return consequences

    def health_facts(self, now: datetime) -> HealthFacts:
        """What this API has recorded of the agent: one request, which neither polls nor registers."""
        self._find_tenant()
        asked = [
            fields.latest_poll(self.tenant_id, self.identity.name, CORE_VERSION),
            fields.oldest_due(self.tenant_id, self.identity.labels),
            fields.latest_agent_fault(self.tenant_id, self.identity.name, now - timedelta(seconds=AGENT_FAULT_SECONDS)),
        ]
        answers = self.client.query(asked)
        agent, due, fault = ((answers[alias] or [{}])[0] for alias in ("agents", "due", "faults"))
        return HealthFacts(
            last_polled=read_time(agent.get("last_queried")),
            oldest_due=read_time(due.get("state_start_time")),
            agent_fault=fault.get("state_message"),
        )

    def _ask_for_tenant(self) -> str:
        if self.backend == "cloud":
            own = (self._ask(fields.token_tenant()) or {}).get("tenant_id")
            if own:
                return str(own)
        rows = self._ask(fields.tenants())
        if not rows and self.backend == "cloud":
            raise PrefectUnauthorized(
                "This token belongs to no tenant; check the API key, or set PREFECT__CLOUD__TENANT_ID"
            )
        if not rows:
            raise PrefectRejected(
                "This Prefect Server has no tenant; create one with `prefect server create-tenant --name default`"
            )
        return str(rows[0]["id"])

    def _latest_write(self) -> datetime:
        return self.clock.now() + timedelta(seconds=WRITE_PATIENCE_SECONDS)

    def _sign_in(self) -> None:
        """At most two requests, once: whose tenant this is, and under which id this agent is known there."""
        if self._is_registered:
            return
        self._find_tenant()
        agent = fields.register_agent(self.identity.kind, self.identity.name, self.identity.labels, self.tenant_id)
        answer = _required(self.client.mutate([agent])["agent"])
        self.client.transport.headers["X-PREFECT-AGENT-ID"] = str(answer["id"])
        self._is_registered = True

    def _find_tenant(self) -> None:
        self.tenant_id = self.tenant_id or self._ask_for_tenant()
        if self.backend == "cloud":
            self.client.transport.headers["X-PREFECT-TENANT-ID"] = self.tenant_id

    def _ask(self, root_field: RootField) -> Any:
        return self.client.query([root_field])[root_field.alias]

    def _read_launchable(self, run_ids: Sequence[str]) -> list[FlowRun]:
        now = self.clock.now()
        runs = fields.launchable_runs(run_ids, now - timedelta(seconds=fields.RETRY_PATIENCE_SECONDS))
        paused_since = now - timedelta(seconds=FAULT_PAUSE_SECONDS)
        faults = fields.latest_agent_fault(self.tenant_id, self.identity.name, paused_since)
        answers = self.client.query([runs, faults])
        if answers["faults"]:
            fault = answers["faults"][0]
            until = (read_time(fault["state_timestamp"]) or now) + timedelta(seconds=FAULT_PAUSE_SECONDS)
            LOGGER.error("Nothing is claimed until %s, because of: %s", until.isoformat(), fault["state_message"])
            return []
        return read_runs(answers["runs"], self.tenant_id, now)

    def _writes(self, outcomes: Sequence[Outcome]) -> list[RootField]:
        doubtful = needs_reading(outcomes)
        rows = {row["id"]: row for row in self._ask(fields.present_states(doubtful))} if doubtful else {}
        now = self.clock.now()
        return [
            root_field
            for i, outcome in enumerate(outcomes)
            for root_field in self.recorder.outcome_fields(f"r{i}", outcome, rows.get(outcome.run.id), now)
        ]

    def _read_own_claims(self, run_ids: Sequence[str], nonce: str) -> set[str]:
        if not run_ids:
            return set()
        try:
            rows: Sequence[Document] = self._ask(fields.present_states(run_ids))
        except PrefectError as error:
            # The undisputed claims stand; recovery finds the others, if they are ours.
            LOGGER.warning("Claims in dispute cannot be read: %s", error)
            return set()
        return {
            str(row["id"])
            for row in rows
            if row["state"] == "Submitted" and context_of(row["serialized_state"]).get("claim") == nonce
        }

    def _report_problems(self, replies: Mapping[str, FieldReply], writes: Sequence[RootField]) -> None:
        for root_field in writes:
            problem = replies[root_field.alias].problem
            if problem is not None:
                LOGGER.warning("Prefect did not take %s: %s", root_field.text.split("(")[0], problem)


def _required(reply: FieldReply) -> Mapping[str, Any]:
    """The value of a field without which there is no going on."""
    if reply.problem is not None:
        raise (PrefectUnreachable if reply.is_transient else PrefectRejected)(f"Prefect refuses: {reply.problem}")
    value: Mapping[str, Any] = reply.value
    return value


def _claim_reply(replies: Mapping[str, FieldReply], alias: str) -> FieldReply:
    """A claim stands with its first state: a retry's key lives in its earliest task run, which is claimed first."""
    return replies[alias] if alias in replies else replies[f"{alias}_0"]
