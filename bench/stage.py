"""A stage of the real zip as AWS ticks it: every ten seconds, once a minute by the schedule."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import NamedTuple

from bench.lambda_process import event_for
from bench.surroundings import EcsSurroundings, TookTooLong
from bench.usage import Usage, usage_of
from bench.zip import ZippedAgent
from tests.deploy.lambda_runtime import Container

CADENCE_SECONDS, SCHEDULE_SECONDS = 10.0, 60.0
WARMING_TICKS = ("tick", "wake")


class Invocation(NamedTuple):
    """One tick, and what its container had used when it had ended."""

    function: str
    begun: datetime
    ended: datetime
    used: Usage


class Stage:
    """The two functions that tick, each in a container of its own as in AWS; `invocations` are in order."""

    def __init__(self, containers: Mapping[str, Container]) -> None:
        self._containers = containers
        self.invocations: list[Invocation] = []

    def invoke(self, function: str) -> None:
        """Let a function tick. Raises TookTooLong when that does not end well."""
        container = self._containers[function]
        begun = datetime.now(UTC)
        ended = container.invoke(event_for(function))
        if ended.kind != "response":
            raise TookTooLong(f"The function {function} of the zip: {ended.kind} {ended.payload}")
        self.invocations.append(Invocation(function, begun, datetime.now(UTC), usage_of(container.process_id)))

    def run(self, seconds: float, stopped: threading.Event) -> None:
        """Tick at the cadence for so long or until stopped; a tick that takes longer delays the next one."""
        begun = time.monotonic()
        for number in range(round(seconds / CADENCE_SECONDS)):
            at_second = number * CADENCE_SECONDS
            if stopped.wait(max(0.0, begun + at_second - time.monotonic())):
                return
            self.invoke("wake" if at_second % SCHEDULE_SECONDS else "tick")
        stopped.wait(max(0.0, begun + seconds - time.monotonic()))


@contextmanager
def stage_of(zipped: ZippedAgent, place: EcsSurroundings, **more: str) -> Iterator[Stage]:
    """A stage whose containers are warm, as each has ticked once; `more` are settings of it."""
    with zipped.container(place, "tick", more) as scheduled, zipped.container(place, "wake", more) as woken:
        stage = Stage({"tick": scheduled, "wake": woken})
        for function in WARMING_TICKS:
            stage.invoke(function)
        yield stage
