"""A backlog: how fast it is served, by a long process, by a new process for each tick, and by the real 1.4.1 agent."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.results import Result
from bench.surroundings import EcsSurroundings, Surroundings, surroundings, wait_until

RUNS, IMAGES, ROUND_TRIP_SECONDS = 200, 3, 0.03
UNPACED = {"AGENT_LAUNCHES_PER_SECOND": "0"}
SHORT_TICKS = {"AGENT_CADENCE_SECONDS": "3"}
"""A tick claims until 2 s before the next one: with these for 1 s, so that the backlog takes several processes, and
what each of them needs to sign in and to import botocore weighs most."""


@dataclass(frozen=True)
class Drain:
    """How one agent served the backlog, the start of its processes included."""

    name: str
    seconds: float
    polling_seconds: float
    requests: int
    registrations: int
    processes: int = 1


def measure_drain() -> list[Result]:
    """200 due runs at 30 ms a request, to Prefect and ECS alike, without pacing."""
    drains = [
        _drain("one process (start)", lambda place: keep_running(place, place.ours)),
        _drain("a process per tick of 10 s", tick_repeatedly),
        _drain("a process per tick of 3 s", lambda place: tick_repeatedly(place, **SHORT_TICKS)),
        _drain("prefect 1.4.1", lambda place: keep_running(place, place.prefects)),
    ]
    return [result for drain in drains for result in _results(drain, drains[-1])]


def _drain(name: str, serve: Callable[[EcsSurroundings], int]) -> Drain:
    with surroundings(ROUND_TRIP_SECONDS) as place:
        place.add_due_runs(RUNS, IMAGES)
        begun = time.monotonic()
        processes = serve(place)
        seconds = time.monotonic() - begun
        moments = [request.time for request in place.prefect.requests]
        registrations = place.ecs.count("RegisterTaskDefinition")
        return Drain(name, seconds, (moments[-1] - moments[0]).total_seconds(), len(moments), registrations, processes)


def is_drained(place: Surroundings) -> bool:
    """Whether every run was launched or refused, and its log says so."""
    return place.signs_of_launch() >= len(place.run_ids)


def keep_running(place: Surroundings, command: Sequence[str]) -> int:
    """Let one process serve all runs; the number of processes."""
    with place.running(command, **UNPACED) as process:
        # To look is work for the doubles, which would keep whoever is measured waiting.
        wait_until(lambda: is_drained(place), process, pause_seconds=0.1)
    return 1


def tick_repeatedly(place: Surroundings, **more: str) -> int:
    """Let each tick be a process, until all runs are served; the number of processes."""
    processes = 0
    while not is_drained(place):
        place.run(place.our_tick, **UNPACED, **more)
        processes += 1
    return processes


def _results(drain: Drain, real: Drain) -> list[Result]:
    rate, polling_rate = RUNS / drain.seconds, RUNS / drain.polling_seconds
    ratio, polling_ratio = real.seconds / drain.seconds, real.polling_seconds / drain.polling_seconds
    return [
        Result(f"{drain.name}: runs a second, start included", f"{rate:.1f} ({ratio:.1f} x)"),
        Result("    the same from its first request on", f"{polling_rate:.1f} ({polling_ratio:.1f} x)"),
        Result("    requests to Prefect for each run", f"{drain.requests / RUNS:.2f}"),
        Result("    registrations, processes", f"{drain.registrations}, {drain.processes}"),
    ]
