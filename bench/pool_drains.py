"""How one agent serves the backlog of a work pool: when each run was launched, and what that took."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from resource import RUSAGE_CHILDREN, getrusage

from bench.pools import PoolSurroundings
from bench.surroundings import TookTooLong
from bench.usage import usage_of

PATIENCE_SECONDS = 240.0
"""A worker that has not come to the end of its backlog by then is measured as far as it came."""

LOOK_SECONDS = 0.1
UNPACED = {"AGENT_LAUNCHES_PER_SECOND": "0"}


@dataclass(frozen=True)
class Used:
    """What so many processes, one after the other, have used: CPU of all, and memory of the largest.

    `done_at` is when all was served, by the monotonic clock; what a process needs to end comes after it.
    """

    processes: int = 0
    cpu_seconds: float = 0.0
    peak_mb: float = 0.0
    done_at: float = 0.0

    def __add__(self, other: Used) -> Used:
        cpu_seconds = self.cpu_seconds + other.cpu_seconds
        peak_mb, done_at = max(self.peak_mb, other.peak_mb), max(self.done_at, other.done_at)
        return Used(self.processes + other.processes, cpu_seconds, peak_mb, done_at)


Serve = Callable[[PoolSurroundings], Used]


@dataclass(frozen=True)
class PoolDrain:
    """One backlog of `due` runs, served from the start of the first process to the last infrastructure pid."""

    due: int
    seconds: float
    launched: int
    crashed: int
    started_twice: int
    requests: int
    calls: int
    used: Used
    start_cpu_seconds: float
    """What each process uses up to its first poll."""
    launches_at: tuple[float, ...]

    @property
    def served(self) -> int:
        """How many runs it came to."""
        return self.launched + self.crashed

    @property
    def rate(self) -> float:
        """Runs a second; of one who did not come to the end in time, as far as he came."""
        return self.served / self.seconds

    @property
    def cpu_seconds_per_run(self) -> float:
        """Without that of the start."""
        return (self.used.cpu_seconds - self.used.processes * self.start_cpu_seconds) / self.served


def drain(place: PoolSurroundings, runs: int, serve: Serve, start_cpu_seconds: float) -> PoolDrain:
    """Let so many runs be due and be served. Raises TookTooLong when none was."""
    place.add_pool(runs)
    place.settle()
    place.ecs.forget_calls()
    begun, begun_at = time.monotonic(), time.time()
    used = serve(place)
    seconds, calls, standings = used.done_at - begun, place.ecs.calls, place.standings()
    if not standings["launched"]:
        raise TookTooLong(f"After {seconds:.0f} s nothing is launched: {dict(standings)}")
    return PoolDrain(
        due=runs,
        seconds=seconds,
        launched=standings["launched"],
        crashed=standings["Crashed"],
        started_twice=sum(number > 1 for number in place.tasks().values()),
        requests=sum(request.at <= begun_at + seconds for request in place.server.requests(begun_at)),
        calls=len(calls),
        used=used,
        start_cpu_seconds=start_cpu_seconds,
        launches_at=tuple(call.at.timestamp() - begun_at for call in calls if call.action == "RunTask"),
    )


def keep_running(place: PoolSurroundings, command: list[str]) -> Used:
    """Let one process serve all runs, or as many as it can in time."""
    give_up = time.monotonic() + PATIENCE_SECONDS
    with place.running(command, **UNPACED) as process:
        while not place.is_settled() and time.monotonic() < give_up and process.poll() is None:
            time.sleep(LOOK_SECONDS)
        return Used(1, *usage_of(process.pid), time.monotonic())


def tick_repeatedly(place: PoolSurroundings) -> Used:
    """Let each tick be a process, until all runs are served. Raises TookTooLong."""
    give_up, used = time.monotonic() + PATIENCE_SECONDS, Used()
    while not place.is_settled():
        if time.monotonic() > give_up:
            raise TookTooLong(f"After {PATIENCE_SECONDS:.0f} s they stand so: {dict(place.standings())}")
        used += tick(place)
    return used


def tick(place: PoolSurroundings) -> Used:
    """One tick in a process of its own."""
    before = _children_cpu_seconds()
    with place.running(place.our_tick, **UNPACED) as process:
        peak_mb = _peak_mb_until_its_end(process)
    return Used(1, _children_cpu_seconds() - before, peak_mb, time.monotonic())


def cpu_seconds_to_first_poll(place: PoolSurroundings, command: list[str]) -> float:
    """What a process has used when it asks its pool for due runs. Raises TookTooLong when it does not."""
    begun_at, give_up = time.time(), time.monotonic() + PATIENCE_SECONDS
    with place.running(command) as process:
        while not place.server.polls(begun_at):
            if time.monotonic() > give_up or process.poll() is not None:
                raise TookTooLong(f"No poll by {' '.join(command)}")
            time.sleep(LOOK_SECONDS / 10)
        return usage_of(process.pid).cpu_seconds


def _peak_mb_until_its_end(process: subprocess.Popen[bytes]) -> float:
    give_up, peak_mb = time.monotonic() + PATIENCE_SECONDS, 0.0
    while process.poll() is None and time.monotonic() < give_up:
        peak_mb = max(peak_mb, usage_of(process.pid).peak_mb)
        time.sleep(LOOK_SECONDS / 2)
    return peak_mb


def _children_cpu_seconds() -> float:
    used = getrusage(RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
