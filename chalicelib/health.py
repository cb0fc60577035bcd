"""Whether this agent serves its flow runs, judged by what the Prefect API itself has recorded.

Nothing here polls the queue or registers an agent, so asking for health never makes an agent look healthy.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from chalicelib.errors import PrefectError, SettingsError
from chalicelib.ports import Clock

LOGGER = logging.getLogger(__name__)

VERDICT_SECONDS = 10.0
"""How long a verdict is used again, so that strangers who ask often do not spend the API's quota."""


@dataclass(frozen=True)
class HealthFacts:
    """What Prefect has recorded of one agent: when it last polled, since when its oldest due run waits, and the latest
    run that failed by the agent's own fault, with its message. None where there is no such thing.
    """

    last_polled: datetime | None = None
    oldest_due: datetime | None = None
    agent_fault: str | None = None


@dataclass(frozen=True)
class Verdict:
    """`reason` is one line for the operator; strangers see the status alone."""

    is_healthy: bool
    reason: str

    def as_dict(self) -> dict[str, Any]:
        """What the signed-in see."""
        return {"status": self.status, "reason": self.reason}

    @property
    def status(self) -> str:
        """`ok` or `unhealthy`."""
        return "ok" if self.is_healthy else "unhealthy"


@dataclass(frozen=True)
class HealthLimits:
    """From which age on it is ill, in seconds: of the latest poll, and of the oldest due run that nobody claimed."""

    poll_age_seconds: float
    backlog_age_seconds: float


class HealthRecords(Protocol):
    """Where the facts are read."""

    def health_facts(self, now: datetime) -> HealthFacts:
        """The facts as recorded at `now`. Raises PrefectError."""


class HealthCheck:
    """Asks and judges, at most once in VERDICT_SECONDS."""

    def __init__(self, records: HealthRecords, limits: HealthLimits, clock: Clock) -> None:
        self.records = records
        self.limits = limits
        self.clock = clock
        self._verdict: tuple[datetime, Verdict] | None = None

    def verdict(self) -> Verdict:
        """The present verdict; a Prefect API that cannot be asked is unhealthy, with the error as the reason."""
        now = self.clock.now()
        if self._verdict is None or (now - self._verdict[0]).total_seconds() >= VERDICT_SECONDS:
            self._verdict = (now, self._ask(now))
        return self._verdict[1]

    def _ask(self, now: datetime) -> Verdict:
        try:
            verdict = judge(self.records.health_facts(now), self.limits, now)
        except (PrefectError, SettingsError) as error:
            verdict = Verdict(False, str(error))
        if not verdict.is_healthy:
            LOGGER.warning("Unhealthy: %s", verdict.reason)
        return verdict


def judge(facts: HealthFacts, limits: HealthLimits, now: datetime) -> Verdict:
    """The verdict on the facts (pure); the first of several reasons is the one that explains the others."""
    if facts.last_polled is None:
        return Verdict(False, "This agent has never polled; look at the schedule and at the tick's log")
    poll_age = (now - facts.last_polled).total_seconds()
    if poll_age > limits.poll_age_seconds:
        return Verdict(False, f"The latest poll is {poll_age:.0f} s old; look at the schedule and at the tick's log")
    if facts.agent_fault is not None:
        return Verdict(False, f"The agent itself is misconfigured: {facts.agent_fault}")
    due_age = (now - facts.oldest_due).total_seconds() if facts.oldest_due else 0.0
    if due_age > limits.backlog_age_seconds:
        return Verdict(False, f"A due flow run has waited for {due_age:.0f} s and is not claimed")
    return Verdict(True, f"Polled {poll_age:.0f} s ago")
