"""Work pools on ECS beside the official worker: a backlog, kills, and whether the pool looks served."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator, Mapping
from itertools import pairwise

from bench.observed_server import database_name
from bench.pool_drains import (
    PATIENCE_SECONDS,
    PoolDrain,
    Serve,
    cpu_seconds_to_first_poll,
    drain,
    keep_running,
    tick,
    tick_repeatedly,
)
from bench.pools import PoolSurroundings, pool_surroundings
from bench.results import (
    ECS_WORKER,
    ONE_PROCESS,
    OURS,
    PER_TICK,
    Curve,
    Figure,
    Measurement,
    Plot,
    at_least,
    at_most,
    exactly,
)

RUNS = int(os.environ.get("BENCH_RUNS") or 1000)
ROUND_TRIP_SECONDS = 0.03
TIMES_THE_WORKERS_RATE, REQUESTS_A_RUN, CALLS_A_RUN, CPU_MS_A_RUN, PEAK_MB = 5.0, 3.0, 1.02, 20.0, 80.0
POINTS = 100

KILLED_RUNS, KILLS = min(RUNS, 200), 30
KILL_AFTER_SECONDS = (1.5, 5.0)
ORPHANED_SECONDS = 95.0
"""After this a claim of a killed tick is old enough to be recovered."""
SLOWLY = {"AGENT_LAUNCHES_PER_SECOND": "1"}
"""So that a tick of 10 s claims few, and something is left to be claimed until the last kill."""

MINUTES = 3

AGENTS: Mapping[str, Serve] = {
    ONE_PROCESS: lambda place: keep_running(place, place.ours),
    PER_TICK: tick_repeatedly,
    ECS_WORKER: lambda place: keep_running(place, place.workers),
}
DRAIN = Plot("Work pools: a backlog, launched over time", "seconds since the start of the process", "runs launched")


def command_of(agent: str, place: PoolSurroundings) -> list[str]:
    """What is typed to start it."""
    return {ONE_PROCESS: place.ours, PER_TICK: place.our_tick, ECS_WORKER: place.workers}[agent]


def measure_drains() -> Iterator[Figure | Curve]:
    """Each agent with a server, a database and an ECS of its own, so that none meets what another one left."""
    drains: dict[str, PoolDrain] = {}
    for agent, serve in AGENTS.items():
        with pool_surroundings(ROUND_TRIP_SECONDS) as place:
            place.add_pool(0)
            start_cpu_seconds = cpu_seconds_to_first_poll(place, command_of(agent, place))
            drains[agent] = drain(place, RUNS, serve, start_cpu_seconds)
        yield from _speed(agent, drains[agent])
        yield from _cost(agent, drains[agent])
    official = drains[ECS_WORKER]
    for agent in (each for each in OURS if each in drains):
        yield at_least(agent, "times the worker's rate", drains[agent].rate / official.rate, TIMES_THE_WORKERS_RATE)
        ratio = drains[agent].cpu_seconds_per_run / official.cpu_seconds_per_run
        yield Figure(agent, "CPU a run, of the worker's", round(ratio, 3))


def _speed(agent: str, done: PoolDrain) -> Iterator[Figure | Curve]:
    yield Figure(agent, "runs a second, start included", round(done.rate, 2))
    yield Figure(agent, "launched", done.launched)
    for quantity, number in (
        ("Crashed", done.crashed),
        (f"left after at most {PATIENCE_SECONDS:.0f} s", done.due - done.served),
        ("started twice", done.started_twice),
    ):
        yield exactly(agent, quantity, number, 0) if agent in OURS else Figure(agent, quantity, number)
    step = max(1, len(done.launches_at) // POINTS)
    points = list(enumerate(sorted(done.launches_at), 1))
    yield Curve(
        DRAIN.title, agent, tuple((round(at, 2), float(number)) for number, at in [*points[::step], points[-1]])
    )


def _cost(agent: str, done: PoolDrain) -> Iterator[Figure]:
    promises = (
        ("requests to Prefect a run", done.requests / done.served, REQUESTS_A_RUN, ""),
        ("calls to ECS a run", done.calls / done.served, CALLS_A_RUN, ""),
        ("CPU a run, without the start", 1000 * done.cpu_seconds_per_run, CPU_MS_A_RUN, "ms"),
        ("peak memory", done.used.peak_mb, PEAK_MB, "MB"),
    )
    for quantity, value, limit, unit in promises:
        number = round(value, 3)
        yield at_most(agent, quantity, number, limit, unit) if agent in OURS else Figure(agent, quantity, number, unit)
    yield Figure(agent, "CPU of a start, to its first poll", round(done.start_cpu_seconds, 2), "s")
    yield Figure(agent, "processes", done.used.processes)


def measure_kills() -> Iterator[Figure]:
    """Both forms are killed, each on a pool of its own, and then both are let come to their end."""
    with pool_surroundings() as place:
        forms = {ONE_PROCESS: place, PER_TICK: place.beside()}
        for agent, own in forms.items():
            yield Figure(agent, "kills", KILLS)
            yield Figure(agent, "of these, kills of a process that had claimed something", _kill(agent, own))
            yield Figure(agent, "tasks that killed processes have started", own.tasks().total())
            yield Figure(agent, "of these, recorded as launched", own.standings()["launched"])
        time.sleep(ORPHANED_SECONDS)
        for agent, own in forms.items():
            tick_repeatedly(own)
            tasks = own.tasks()
            yield exactly(agent, "launched in the end", own.standings()["launched"], KILLED_RUNS)
            yield exactly(agent, "lost", sum(run_id not in tasks for run_id in own.run_ids), 0)
            yield exactly(agent, "started twice", sum(count > 1 for count in tasks.values()), 0)


def _kill(agent: str, place: PoolSurroundings) -> int:
    place.add_pool(KILLED_RUNS)
    chance, begun_at = random.Random(1), []
    for _ in range(KILLS):
        begun_at.append(time.time())
        with place.running(command_of(agent, place), **SLOWLY) as process:
            time.sleep(chance.uniform(*KILL_AFTER_SECONDS))
            process.kill()
    claims = [each.at for each in place.server.requests(begun_at[0]) if each.path.endswith("/bulk_set_state")]
    spans = pairwise([*begun_at, time.time()])
    return sum(any(begin <= claim < end for claim in claims) for begin, end in spans)


def measure_looks() -> Iterator[Figure]:
    """One tick a minute, looked at just before each next one."""
    with pool_surroundings() as place:
        place.add_pool(0)
        online = ready = 0
        for _ in range(MINUTES):
            tick_at = time.monotonic()
            tick(place)
            time.sleep(max(0.0, tick_at + 59.0 - time.monotonic()))
            online += [worker["status"] for worker in place.server.workers(place.pool)] == ["ONLINE"]
            ready += place.server.request("GET", f"/work_pools/{place.pool}")["status"] == "READY"
    yield exactly(PER_TICK, f"shown ONLINE at the end of each of {MINUTES} minutes", online, MINUTES)
    yield exactly(PER_TICK, f"its pool shown READY at the end of each of {MINUTES} minutes", ready, MINUTES)


POOLS = Measurement(
    f"{RUNS:,} due runs of a work pool on ECS, beside the official worker",
    f"A real Prefect 3.8.8 server on {database_name()}, with all its services, anew for each agent, and a double of "
    f"ECS; {1000 * ROUND_TRIP_SECONDS:.0f} ms a request to either, no pacing. The server itself sleeps its "
    "round trip before it begins. The runs are there for long enough that the server has marked them as late and is "
    "idle. From the start of the process to the last infrastructure pid.",
    measure_drains,
    needs=("prefect3",),
    plots=(DRAIN,),
)
KILLED = Measurement(
    f"{KILLED_RUNS} due runs of a work pool, and a process that is killed {KILLS} times",
    f"A real Prefect 3.8.8 server on {database_name()} and a double of ECS; one launch a second, so that the "
    f"backlog outlasts the kills. {ORPHANED_SECONDS:.0f} s after the last one ticks go on undisturbed.",
    measure_kills,
    needs=("prefect3",),
)
ONLINE = Measurement(
    "How a work pool looks that is served by one tick a minute",
    f"A real Prefect 3.8.8 server on {database_name()}, whose foreman looks for silent workers every 15 s.",
    measure_looks,
    needs=("prefect3",),
)
