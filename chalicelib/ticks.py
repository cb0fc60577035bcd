"""When the agent acts in the Lambda, and until when: on the schedule, when woken in between, when something ended."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from chalicelib.agent import Agent
from chalicelib.errors import PrefectError
from chalicelib.ports import Clock
from chalicelib.telemetry import LambdaLog
from chalicelib.wakeups import SCHEDULE_SECONDS, WakeupQueue, is_timely

LOGGER = logging.getLogger(__name__)

RECORDING_SECONDS = 10.0
"""Kept free at the end of an invocation, so that what was claimed last is launched and recorded."""

SHORTEST_TICK_SECONDS = 10.0
"""A tick with less could claim nothing. If the function is cut off all the same, recovery finds what it claimed."""


@dataclass(frozen=True)
class Invocation:
    """One call of the Lambda: its id, and how long it may still take."""

    id: str
    remaining_seconds: float


class Ticks:
    """The ticks of one installation. `wakeups` is None where it ticks on the schedule alone."""

    def __init__(
        self, agent: Agent, log: LambdaLog, clock: Clock, cadence_seconds: int, wakeups: WakeupQueue | None
    ) -> None:
        self.agent = agent
        self.log = log
        self.clock = clock
        self.cadence_seconds = cadence_seconds if wakeups else SCHEDULE_SECONDS
        self.wakeups = wakeups

    def run_scheduled(self, invocation: Invocation) -> dict[str, Any]:
        """Plan the wake-ups of the coming minute, then tick; the report, with the wake-ups that could not be sent.

        Raises PrefectError when the API was away or refused the token: then nothing could be done at all.
        """
        self.log.begin_tick(invocation.id)
        lost = self.wakeups.plan(self.cadence_seconds) if self.wakeups else 0
        return self._tick(invocation, recovers=True) | {"wakeups_lost": lost}

    def run_woken(self, bodies: Sequence[str], invocation: Invocation) -> dict[str, Any]:
        """One tick for any number of wake-ups, none for late ones; the report.

        Does not raise when Prefect is away: the next tick is seconds off, and the message would only come again.
        """
        self.log.begin_tick(invocation.id)
        if not is_timely(bodies, self.clock.now(), self.cadence_seconds):
            return {"dropped": len(bodies)}
        try:
            return self._tick(invocation)
        except PrefectError as error:
            LOGGER.error("Nothing could be done: %s", error)
            return {"errors": [str(error)]}

    def run_stopped(self, bodies: Sequence[str], invocation: Invocation) -> dict[str, Any]:
        """Let Prefect know of the launches that these events say have ended; how many had which end.

        Raises LaunchError or PrefectError, so that the events come again: nothing of them was lost.
        """
        self.log.begin_tick(invocation.id)
        return {"events": len(bodies), "stopped": self.agent.heed_events(bodies)}

    def _tick(self, invocation: Invocation, recovers: bool = False) -> dict[str, Any]:
        begun = self.clock.now()
        seconds = min(float(self.cadence_seconds), invocation.remaining_seconds - RECORDING_SECONDS)
        report = self.agent.tick(begun + timedelta(seconds=max(SHORTEST_TICK_SECONDS, seconds)), recovers)
        self.log.report_tick(report, (self.clock.now() - begun).total_seconds())
        return report.as_dict()
