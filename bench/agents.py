"""Who serves due runs of Prefect 1 in the bench, and what the processes of each have used."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from bench.results import ECS_AGENT, ONE_PROCESS, PER_TICK
from bench.surroundings import Surroundings, TookTooLong
from bench.usage import Usage, usage_of

PAUSE_SECONDS = 0.1
"""Between two looks: each is work for the double, which would keep whoever is measured waiting."""

PATIENCE_SECONDS = 400.0
POLL = "get_runs_in_queue"

Done = Callable[[], bool]


class Meter:
    """Adds up what processes use. Each is to be looked at while it lives, and at last when nobody has waited for it."""

    def __init__(self) -> None:
        self._seen: dict[int, Usage] = {}

    def look(self, process_id: int) -> None:
        """What this process has used so far; what has ended shows its CPU time, and no memory any more."""
        usage, before = usage_of(process_id), self._seen.get(process_id, Usage(0.0, 0.0))
        self._seen[process_id] = Usage(usage.cpu_seconds, max(usage.peak_mb, before.peak_mb))

    @property
    def processes(self) -> int:
        """How many there were."""
        return len(self._seen)

    @property
    def cpu_seconds(self) -> float:
        """The CPU time of all of them."""
        return sum(usage.cpu_seconds for usage in self._seen.values())

    @property
    def peak_mb(self) -> float:
        """The most memory that any of them had."""
        return max(usage.peak_mb for usage in self._seen.values())


Place = TypeVar("Place", bound=Surroundings, contravariant=True)


class Agent(Protocol[Place]):
    """Who can serve a backlog; `more` is added to the environment of its processes."""

    @property
    def name(self) -> str:
        """Its name in the tables."""

    def start(self, place: Place, meter: Meter, **more: str) -> None:
        """Start, and poll once, with nothing due."""

    def serve(self, place: Place, meter: Meter, is_done: Done, **more: str) -> None:
        """Serve until it is done."""


@dataclass(frozen=True)
class LongProcess:
    """An agent that goes on until it is ended: ours, or the real one."""

    name: str
    command: Callable[[Surroundings], list[str]]

    def start(self, place: Surroundings, meter: Meter, **more: str) -> None:
        """Start, and end it after its first poll."""
        self.serve(place, meter, lambda: _has_polled(place), **more)

    def serve(self, place: Surroundings, meter: Meter, is_done: Done, **more: str) -> None:
        """One process. Raises TookTooLong, also when it ends by itself."""
        with place.running(self.command(place), **more) as process:
            if not _follow(process, meter, is_done):
                raise TookTooLong(f"{self.name} ended before it was done")


@dataclass(frozen=True)
class ProcessPerTick:
    """Our tick, each in a process of its own, one right after the other."""

    name: str = PER_TICK

    def start(self, place: Surroundings, meter: Meter, **more: str) -> None:
        """One tick."""
        with place.running(place.our_tick, **more) as process:
            _follow(process, meter, lambda: False)
        if process.returncode:
            raise TookTooLong(f"A tick ended with {process.returncode}")

    def serve(self, place: Surroundings, meter: Meter, is_done: Done, **more: str) -> None:
        """As many as it takes. Raises TookTooLong."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not is_done():
            check_patience(deadline)
            self.start(place, meter, **more)


OUR_PROCESS = LongProcess(ONE_PROCESS, lambda place: place.ours)
ECS_PEER = LongProcess(ECS_AGENT, lambda place: place.prefects)


def _has_polled(place: Surroundings) -> bool:
    return any(POLL in request.field_names for request in place.prefect.requests)


def check_patience(deadline: float) -> None:
    """Raise TookTooLong after the deadline, in monotonic seconds."""
    if time.monotonic() > deadline:
        raise TookTooLong(f"It was not done after {PATIENCE_SECONDS:.0f} s")


def _follow(process: subprocess.Popen[bytes], meter: Meter, is_done: Done) -> bool:
    """Look at a process until it is done, or has ended; whether it is done. Raises TookTooLong."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (done := is_done()) and not _has_ended(process):
        meter.look(process.pid)
        check_patience(deadline)
        time.sleep(PAUSE_SECONDS)
    meter.look(process.pid)
    return done


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether it has, without waiting for it: it can be looked at still."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
