"""What is written to Prefect 3 of each run: pids, logs, and states where the run still stands as it was read."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

from chalicelib.errors import PrefectUnreachable
from chalicelib.flow_runs import Document
from chalicelib.outcomes import Answer, Outcome
from chalicelib.ports import Clock
from chalicelib.prefect_api import prefect3_states as states
from chalicelib.prefect_api.prefect3_client import Prefect3Client, Proposal
from chalicelib.prefect_api.prefect3_launches import pid_of
from chalicelib.sightings import RESUBMIT_BUDGET, Consequence, Standing, Stop

WRITE_PATIENCE_SECONDS = 5.0
"""How long a state may be sent again: what its reading said may not hold any longer."""


class RunRecords:
    """Writes in the name of one agent; runs refused for now crash after `defer_deadline_seconds`."""

    def __init__(self, client: Prefect3Client, agent_name: str, clock: Clock, defer_deadline_seconds: float) -> None:
        self.client = client
        self.agent_name = agent_name
        self.clock = clock
        self.defer_deadline_seconds = defer_deadline_seconds

    def latest_write(self) -> datetime:
        """Until when a request may be sent that sets states read now."""
        return self.clock.now() + timedelta(seconds=WRITE_PATIENCE_SECONDS)

    def record(self, outcomes: Sequence[Outcome]) -> None:
        """Write what can be written, with one bulk of logs; the rest is logged, and recovery finds it.

        Raises PrefectError when it cannot be read how the runs stand.
        """
        send_until = self.latest_write()
        lines = [(each.run.id, *_story(each)) for each in outcomes if not _changes_state(each)]
        changing = [each for each in outcomes if _changes_state(each)]
        with ThreadPoolExecutor(1) as thread:
            launched = [(each.run.id, each.text) for each in outcomes if each.answer is Answer.LAUNCHED]
            pids = thread.submit(self.write_pids, launched)
            rows = self.client.by_id("flow_runs", [each.run.id for each in changing])
            held = [each for each in changing if each.run.id in rows and is_held(each, rows[each.run.id])]
            settled = self.client.some_of(
                lambda each: self._settle(each, rows[each.run.id], send_until), held, "A run is left as it is"
            )
            lines += [(outcome.run.id, *told) for outcome, told in settled if told]
            self.write_logs(lines)
        pids.result()

    def write_pids(self, texts: Sequence[tuple[str, str]]) -> None:
        """Write, run by run, what it was launched as; what fails is logged."""

        def write(pair: tuple[str, str]) -> None:
            self.client.send("PATCH", f"/flow_runs/{pair[0]}", {"infrastructure_pid": pid_of(pair[1])})

        self.client.some_of(write, texts, "A launch is not recorded")

    def write_logs(self, lines: Sequence[tuple[str, int, str]]) -> None:
        """Write lines (run, level, message) to the logs of their runs; what fails is logged here."""
        now = self.clock.now()
        body = [states.log_line(run_id, self.agent_name, level, message, now) for run_id, level, message in lines]
        self.client.some_of(
            lambda lines: self.client.send("POST", "/logs/", lines), [body] if body else [], "Logs are lost"
        )

    def conclude(
        self, row: Document, stop: Stop, consequence: Consequence, standing: Standing, send_until: datetime
    ) -> Consequence:
        """Write what follows from a launch's end; what was written. Raises PrefectError."""
        level, reason = logging.ERROR, stop.reason
        state = states.crashed(reason)
        if consequence is Consequence.CONFIRM:
            level, state = logging.INFO, states.cancelled(f"Cancelled: {reason}")
        elif consequence is Consequence.RESUBMIT:
            number, level = standing.resubmitted + 1, logging.WARNING
            reason = f"Launched again ({number} of {RESUBMIT_BUDGET}), as it could not run: {reason}"
            message = states.with_notes(reason, {"resubmitted": number})
            state = states.scheduled(states.RESUBMITTED, message, self.clock.now())
        if not self._set(row, state, send_until):
            return Consequence.NOTHING
        self.write_logs([(row["id"], level, reason)])
        return consequence

    def _settle(self, outcome: Outcome, row: Document, send_until: datetime) -> tuple[int, str] | None:
        """Let a run that was not launched wait or crash; what its log is to say of that. Raises PrefectError."""
        notes = self._read_notes(outcome, row["state"])
        state = states.outcome_state(outcome, notes, self.agent_name, self.defer_deadline_seconds, self.clock.now())
        if not self._set(row, state, send_until):
            return None
        return logging.WARNING if state["type"] == "SCHEDULED" else logging.ERROR, states.message_of(state)

    def _read_notes(self, outcome: Outcome, present: Document) -> dict[str, Any]:
        """The notes that go on, looked up in the run's history where what this agent took up may have lacked some."""
        notes = states.handed_on([present])
        is_silent = outcome.run.state["name"] in states.SILENT_NAMES
        if notes or not is_silent or outcome.answer is not Answer.REFUSED_FOR_NOW:
            return notes
        return states.handed_on(self.client.history(outcome.run.id))

    def _set(self, row: Document, state: Document, send_until: datetime) -> bool:
        proposal = Proposal([row["id"]], state, (row["state_type"],), row["state_name"])
        result = self.client.propose(proposal, send_until).get(row["id"])
        if result and not result["state"]:
            raise PrefectUnreachable(f"Prefect cannot set flow run {row['id']} now: {result['details']}")
        return bool(result and result["status"] == "ACCEPT")


def is_held(outcome: Outcome, row: Document) -> bool:
    """Whether a run is still as this agent left it: in its claim, or never claimed and not changed since."""
    if outcome.claim is None:
        return bool(row["state_id"] == str(outcome.run.state["id"]))
    return bool(row["state_id"] == outcome.claim.key)


def _changes_state(outcome: Outcome) -> bool:
    return outcome.answer not in (Answer.LAUNCHED, Answer.UNKNOWN)


def _story(outcome: Outcome) -> tuple[int, str]:
    if outcome.answer is Answer.LAUNCHED:
        return logging.INFO, f"Submitted for execution: {outcome.text}"
    return logging.WARNING, f"Launch not confirmed, it will be tried again with the same key: {outcome.text}"
