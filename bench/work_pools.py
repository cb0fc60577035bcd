"""Work pools on ECS beside the official worker: a backlog, requests, kills, and whether the pool looks served."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from bench.pools import PoolSurroundings, counted_requests, pool_surroundings
from bench.results import Result, at_least, at_most, exactly
from bench.surroundings import TookTooLong

RUNS = int(os.environ.get("BENCH_RUNS") or 200)
COUNTED_RUNS, KILLS = 100, 30
PATIENCE_SECONDS = 240.0
KILL_AFTER_SECONDS = (0.8, 3.0)
ORPHANED_SECONDS = 95.0
"""After this a claim of a killed tick is old enough to be recovered."""
UNPACED = {"AGENT_LAUNCHES_PER_SECOND": "0"}
SLOWLY = {"AGENT_LAUNCHES_PER_SECOND": "4"}
"""So that the backlog outlasts the kills and most come in the middle."""

Serve = Callable[[PoolSurroundings], None]


@dataclass(frozen=True)
class Drain:
    """How one agent served the backlog, its start and its end included."""

    name: str
    seconds: float
    cpu_seconds: float
    launched: int
    crashed: int

    @property
    def rate(self) -> float:
        """Runs a second; of one who did not come to the end in time, as far as he came."""
        return (self.launched + self.crashed) / self.seconds


def measure_work_pools() -> list[Result]:
    """All of it; `BENCH_RUNS` is how many runs are due."""
    with pool_surroundings() as place:
        agents: dict[str, Serve] = {
            "one process (start)": lambda there: _keep_running(there, there.ours),
            "a process per tick of 10 s": _tick_repeatedly,
            "prefect worker": lambda there: _keep_running(there, there.workers),
        }
        drains = [_drain(place, name, serve) for name, serve in agents.items()]
        return [
            *(result for drain in drains for result in _compare(drain, drains[-1])),
            *_count_requests(place),
            *_kill(place, "one process", lambda: place.ours),
            *_kill(place, "a process per tick", lambda: place.our_tick),
            *_look_served(place),
        ]


def _drain(place: PoolSurroundings, name: str, serve: Serve) -> Drain:
    place.add_pool(RUNS)
    begun, before = time.monotonic(), os.times()
    serve(place)
    seconds, after = time.monotonic() - begun, os.times()
    cpu_seconds = after.children_user + after.children_system - before.children_user - before.children_system
    standings = place.standings()
    return Drain(name, seconds, cpu_seconds, standings["launched"], standings["Crashed"])


def _compare(drain: Drain, official: Drain) -> list[Result]:
    ratio = drain.rate / official.rate
    results = [
        Result(f"{drain.name}: runs a second, start included", f"{drain.rate:.1f} ({ratio:.1f} x)"),
        Result(f"    launched of {RUNS}", str(drain.launched)),
        Result("    CPU a run, ms", f"{1000 * _cpu(drain):.0f}"),
        Result("    Crashed", str(drain.crashed)) if drain is official else exactly("    Crashed", drain.crashed, 0),
    ]
    if drain is not official:
        results += [
            exactly("    left", RUNS - drain.launched - drain.crashed, 0),
            at_least("    times the worker's rate", ratio, 5.0),
            at_most("    CPU a run, of the worker's", round(_cpu(drain) / _cpu(official), 3), 0.25),
        ]
    return results


def _cpu(drain: Drain) -> float:
    return drain.cpu_seconds / (drain.launched + drain.crashed)


def _keep_running(place: PoolSurroundings, command: list[str]) -> None:
    with place.running(command, **UNPACED):
        _wait_until_settled(place)


def _tick_repeatedly(place: PoolSurroundings) -> None:
    give_up = time.monotonic() + PATIENCE_SECONDS
    while place.standings()["launched"] < len(place.run_ids):
        if time.monotonic() > give_up:
            raise TookTooLong(f"After {PATIENCE_SECONDS:.0f} s they stand so: {dict(place.standings())}")
        with place.running(place.our_tick, **UNPACED) as process:
            process.wait(PATIENCE_SECONDS)


def _wait_until_settled(place: PoolSurroundings) -> None:
    give_up = time.monotonic() + PATIENCE_SECONDS
    while (standings := place.standings())["launched"] + standings["Crashed"] < len(place.run_ids):
        if time.monotonic() > give_up:
            return
        # Asking costs the server what it could do for the measured one meanwhile.
        time.sleep(0.5)


def _count_requests(place: PoolSurroundings) -> list[Result]:
    place.add_pool(COUNTED_RUNS)
    with (
        counted_requests(place.server.url) as (url, counts),
        place.running(place.our_tick, PREFECT_API_URL=url, **UNPACED) as process,
    ):
        process.wait(PATIENCE_SECONDS)
    launched = place.standings()["launched"]
    return [
        exactly(f"one tick: launched of {COUNTED_RUNS}", launched, COUNTED_RUNS),
        at_most("    requests to Prefect for each run", round(counts.total() / COUNTED_RUNS, 2), 3.0),
    ]


def _kill(place: PoolSurroundings, name: str, command: Callable[[], list[str]]) -> list[Result]:
    place.add_pool(RUNS)
    chance = random.Random(1)
    for _ in range(KILLS):
        with place.running(command(), **SLOWLY) as process:
            time.sleep(chance.uniform(*KILL_AFTER_SECONDS))
            process.kill()
    left = RUNS - place.standings()["launched"]
    time.sleep(ORPHANED_SECONDS)
    _tick_repeatedly(place)
    tasks = place.tasks()
    return [
        Result(f"{name}: kills, runs left after the last", f"{KILLS}, {left}"),
        exactly("    launched", place.standings()["launched"], RUNS),
        exactly("    lost", sum(run_id not in tasks for run_id in place.run_ids), 0),
        exactly("    started twice", sum(count > 1 for count in tasks.values()), 0),
    ]


def _look_served(place: PoolSurroundings) -> list[Result]:
    """One tick a minute, looked at just before each next one."""
    place.add_pool(0)
    online = 0
    for _ in range(3):
        with place.running(place.our_tick) as process:
            process.wait(PATIENCE_SECONDS)
        time.sleep(58)
        online += [worker["status"] for worker in place.server.workers(place.pool)] == ["ONLINE"]
    return [exactly("one tick a minute: shown ONLINE at the end of each of 3 minutes", online, 3)]
