"""Prefect 1 (Server and Cloud) behind the PrefectAPI port.

A tick with nothing to do is one request, one with up to 25 due runs is four: the queue, the runs' metadata, all claims,
and all outcomes together with the next look into the queue.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from chalicelib.errors import PrefectError
from chalicelib.flow_runs import Claim, Document, FlowRun, Place, launch_key
from chalicelib.health import HealthFacts
from chalicelib.outcomes import Outcome
from chalicelib.prefect_api import prefect1_fields as fields
from chalicelib.prefect_api import prefect1_launches as launches
from chalicelib.prefect_api.documents import RootField
from chalicelib.prefect_api.graphql import FieldReply
from chalicelib.prefect_api.prefect1_records import needs_reading
from chalicelib.prefect_api.prefect1_rows import context_of, read_each, read_runs, read_time
from chalicelib.prefect_api.prefect1_session import CORE_VERSION, Prefect1Session, required
from chalicelib.prefect_api.prefect1_stops import stop_fields
from chalicelib.sightings import Consequence, Launched, Own, Sighting, Standing, consequence_of

LOGGER = logging.getLogger(__name__)

CLAIM_LOCK_TEXT = "already been submitted"
"""The server refuses a second Submitted within 30 s in these words, also when our own reply to the first was lost."""

WRITES_LIMIT = 500
"""Fields of one request when many launches have ended: the server takes 5 MB, and carries them out one by one."""

AGENT_FAULT_SECONDS = 900
"""How long a run that failed by the agent's own fault keeps the agent unhealthy."""

FULL_ANSWERS = 2
"""After so many full answers in a row the next one is taken for granted not to be empty."""

LIKELY_SECONDS = 2.0
"""How old what was read beside the queue may be."""

FAULT_PAUSE_SECONDS = 120
"""How long after such a run nothing is claimed: one run in two minutes shows whether the agent is in order again."""


class Prefect1API(Prefect1Session):
    """One agent's view of a Prefect 1 API."""

    _full_answers = 0
    """How many answers of the queue have been full in a row."""

    def record_and_poll(self, outcomes: Sequence[Outcome], before: datetime) -> list[FlowRun]:
        """See the port. Without outcomes and without due runs this is one request."""
        self.sign_in()
        send_until = self.latest_write() if outcomes else None
        writes = self._writes(outcomes)
        queue = fields.runs_in_queue(self.tenant_id, self.identity.labels, before)
        is_backlog, begun = self._full_answers >= FULL_ANSWERS, self.clock.now()
        likely = self._begin_reading_likely(before) if is_backlog else None
        replies = self.client.mutate([*writes, queue], send_until)
        self.report_problems(replies, writes)
        run_ids = required(replies["queue"])["flow_run_ids"]
        self._full_answers = self._full_answers + 1 if len(run_ids) >= fields.QUEUE_LIMIT else 0
        return self._read_launchable(run_ids, self._read_likely(likely, begun)) if run_ids else []

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
            self.latest_write(),
        )
        results = {alias: _claim_reply(replies, alias) for alias in claims}
        disputed = [
            claims[alias].run.id for alias, reply in results.items() if CLAIM_LOCK_TEXT in (reply.problem or "")
        ]
        ours = self._read_own_claims(disputed, nonce)
        return [claim for alias, claim in claims.items() if results[alias].problem is None or claim.run.id in ours]

    def find_own(self, place: Place) -> Own:
        """See the port. One request for each 500 claims."""
        self.sign_in()
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
        return {str(row["id"]) for row in self.ask(launches.finished_runs(launches.possible_ids(run_ids), before))}

    def record_stops(self, stops: Sequence[Sighting], alive: Sequence[Sighting] = ()) -> list[Consequence]:
        """See the port. Two requests; without stops one."""
        self.sign_in()
        send_until, asked = self.latest_write(), launches.possible_ids(sighting.run_id for sighting in stops)
        rows = {row["id"]: row for row in self.ask(launches.standings(asked))} if asked else {}
        writes = [launches.refresh_heartbeat(f"h{i}", each.run_id) for i, each in enumerate(alive)]
        standings = dict(read_each(rows.values(), lambda row: (row["id"], launches.read_standing(row))))
        consequences = []
        for i, sighting in enumerate(stops):
            standing = standings.get(sighting.run_id, Standing(None))
            consequences.append(consequence_of(sighting, standing))
            if row := rows.get(sighting.run_id):
                given = (f"r{i}", self.identity.name, sighting, consequences[-1], row, standing, self.clock.now())
                writes += stop_fields(*given)
        for begin in range(0, len(writes), WRITES_LIMIT):
            some = writes[begin : begin + WRITES_LIMIT]
            replies = self.client.mutate(some, send_until)
            self.report_problems(replies, some)
            for reply in (each for each in replies.values() if each.is_transient):
                required(reply)
        return consequences

    def health_facts(self, now: datetime) -> HealthFacts:
        """What this API has recorded of the agent: one request, which neither polls nor registers."""
        self.find_tenant()
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

    def _begin_reading_likely(self, before: datetime) -> Future[dict[str, Any]]:
        """Ask for the runs that the queue will name while it is asked: in a backlog that saves one wait in three."""
        likely = fields.likely_runs(self.tenant_id, self.identity.labels, before)
        return self.client.begin_query([likely, self._latest_fault()], LIKELY_SECONDS)

    def _read_likely(self, likely: Future[dict[str, Any]] | None, begun: datetime) -> dict[str, Any]:
        """What was read beside the queue; nothing when that failed or took long, as it is a help and no more."""
        nothing: dict[str, Any] = {"runs": (), "faults": ()}
        try:
            answers = likely.result(LIKELY_SECONDS) if likely else nothing
        except (PrefectError, TimeoutError) as error:
            LOGGER.warning("Nothing could be read beside the queue: %s", str(error) or "no answer in time")
            return nothing
        return answers if (self.clock.now() - begun).total_seconds() <= LIKELY_SECONDS else nothing

    def _read_launchable(self, run_ids: Sequence[str], answers: dict[str, Any]) -> list[FlowRun]:
        now = self.clock.now()
        rows = {row["id"]: row for row in answers["runs"] if row["id"] in run_ids}
        others = [run_id for run_id in run_ids if run_id not in rows]
        if others:
            runs = fields.launchable_runs(others, now - timedelta(seconds=fields.RETRY_PATIENCE_SECONDS))
            answers = self.client.query([runs, self._latest_fault()])
        if answers["faults"]:
            fault = answers["faults"][0]
            until = (read_time(fault["state_timestamp"]) or now) + timedelta(seconds=FAULT_PAUSE_SECONDS)
            LOGGER.error("Nothing is claimed until %s, because of: %s", until.isoformat(), fault["state_message"])
            return []
        return read_runs([*rows.values(), *(answers["runs"] if others else ())], self.tenant_id, now)

    def _latest_fault(self) -> RootField:
        since = self.clock.now() - timedelta(seconds=FAULT_PAUSE_SECONDS)
        return fields.latest_agent_fault(self.tenant_id, self.identity.name, since)

    def _writes(self, outcomes: Sequence[Outcome]) -> list[RootField]:
        doubtful = needs_reading(outcomes)
        rows = {row["id"]: row for row in self.ask(fields.present_states(doubtful))} if doubtful else {}
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
            rows: Sequence[Document] = self.ask(fields.present_states(run_ids))
        except PrefectError as error:
            # The undisputed claims stand; recovery finds the others, if they are ours.
            LOGGER.warning("Claims in dispute cannot be read: %s", error)
            return set()
        return {
            str(row["id"])
            for row in rows
            if row["state"] == "Submitted" and context_of(row["serialized_state"]).get("claim") == nonce
        }


def _claim_reply(replies: Mapping[str, FieldReply], alias: str) -> FieldReply:
    """A claim stands with its first state: a retry's key lives in its earliest task run, which is claimed first."""
    return replies[alias] if alias in replies else replies[f"{alias}_0"]
