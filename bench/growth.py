"""What a flow run costs as the backlog grows, and whether memory grows with it: Prefect 1 on ECS."""

from __future__ import annotations

import gc
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise

from bench.results import ONE_PROCESS, PER_TICK, Curve, Figure, Measurement, Plot, at_most
from bench.surroundings import EcsSurroundings, TookTooLong, surroundings, wait_until
from bench.usage import Usage, usage_of
from tests.doubles.ecs import EcsServer

LARGEST = int(os.environ.get("BENCH_RUNS") or 10_000)
SIZES = [*(size for size in (10, 100, 1_000) if size < LARGEST), LARGEST]
BACKLOGS, LAUNCHES = (LARGEST // 2, 10 * LARGEST), LARGEST // 10
"""How many runs are due, and after how many launches a process that goes on is ended."""

IMAGES, ROUND_TRIP_SECONDS, PATIENCE_SECONDS = 3, 0.03, 400.0
MEMORY_MB, TIMES_THE_CPU, TIMES_THE_MEMORY = 80, 1.25, 1.1
REQUESTS_A_RUN, CALLS_A_RUN, COUNTED_FROM = 0.2, 1.02, 1_000
"""Promised from this size on: below it, signing in and registering count for more than the runs."""

ALIVE = (LARGEST // 20, LARGEST // 4)
"""How many runs are alive when a tick sweeps."""

# Strays are looked for at some times and not at others, by the clock on the wall.
UNPACED = {"AGENT_LAUNCHES_PER_SECOND": "0", "AGENT_STRAYS": "ignore"}
CPU_PLOT = Plot("CPU for a flow run as the backlog grows", "due flow runs", "ms, the start included", True)


@dataclass(frozen=True)
class Drain:
    """How one process served so many runs, its start included."""

    runs: int
    seconds: float
    requests: int
    calls: int
    cpu_seconds: float
    peak_mb: float

    def figures(self) -> Iterator[Figure]:
        """What is to be said of it."""
        due, is_many = f"{self.runs:,} due", self.runs >= COUNTED_FROM
        requests, calls = self.requests / self.runs, self.calls / self.runs
        yield Figure(ONE_PROCESS, f"{due}: served after", self.seconds, "s")
        yield Figure(ONE_PROCESS, f"{due}: runs a second, the start included", self.runs / self.seconds)
        yield _counted(f"{due}: requests to Prefect a run", requests, REQUESTS_A_RUN if is_many else None)
        yield _counted(f"{due}: calls to ECS a run", calls, CALLS_A_RUN if is_many else None)
        yield Figure(ONE_PROCESS, f"{due}: CPU a run, the start included", 1000 * self.cpu_seconds / self.runs, "ms")
        yield at_most(ONE_PROCESS, f"{due}: peak memory", self.peak_mb, MEMORY_MB, "MB")


def measure_growth() -> Iterator[Figure | Curve]:
    """Each size in surroundings of its own; then what the sizes say together."""
    drains = []
    for size in SIZES:
        drains.append(_drain(size))
        yield from drains[-1].figures()
    yield from _compare(drains)
    points = ((float(each.runs), 1000 * each.cpu_seconds / each.runs) for each in drains)
    yield Curve(CPU_PLOT.title, ONE_PROCESS, tuple(points))


def _drain(size: int) -> Drain:
    with surroundings(ROUND_TRIP_SECONDS) as place:
        place.add_due_runs(size, IMAGES)
        begun = datetime.now(UTC)
        with place.running(place.ours, **UNPACED) as process:
            _wait_for_signs(place, size, process)
            usage = usage_of(process.pid)
        requests = place.prefect.requests
        # What follows the last sign of a launch are polls of an agent with nothing to do.
        last = max(index for index, request in enumerate(requests) if "write_run_logs" in request.field_names)
        seconds = (requests[last].time - begun).total_seconds()
        return Drain(size, seconds, last + 1, place.ecs.ask(_count_calls), usage.cpu_seconds, usage.peak_mb)


def _count_calls(ecs: EcsServer) -> int:
    return len(ecs.calls)


def _counted(quantity: str, value: float, limit: float | None) -> Figure:
    return Figure(ONE_PROCESS, quantity, value) if limit is None else at_most(ONE_PROCESS, quantity, value, limit)


def _compare(drains: Sequence[Drain]) -> Iterator[Figure]:
    """CPU of each further run from one size to the next, so that the start weighs nothing; and how that grows."""
    further = {}
    for less, more in pairwise(drains[1:]):
        cpu_ms = 1000 * (more.cpu_seconds - less.cpu_seconds) / (more.runs - less.runs)
        further[less.runs] = cpu_ms
        yield Figure(ONE_PROCESS, f"CPU of each run between {less.runs:,} and {more.runs:,} due", cpu_ms, "ms")
    by_size = {drain.runs: drain.cpu_seconds / drain.runs for drain in drains}
    if 100 in by_size:
        ratio = by_size[SIZES[-1]] / by_size[100]
        yield at_most(ONE_PROCESS, f"CPU a run at {SIZES[-1]:,} due / at 100", ratio, TIMES_THE_CPU)
    if len(further) > 1:
        first, *_, last = further.values()
        yield at_most(ONE_PROCESS, "CPU of a further run: the largest sizes / the smaller", last / first, TIMES_THE_CPU)


def _wait_for_signs(place: EcsSurroundings, count: int, process: subprocess.Popen[bytes]) -> None:
    # To look is work for the double, the more the longer it goes on.
    pause_seconds = 0.1 if count <= COUNTED_FROM else 0.5
    wait_until(lambda: place.signs_of_launch() >= count, process, pause_seconds, PATIENCE_SECONDS)


def measure_memory() -> Iterator[Figure | Curve]:
    """One process that is ended after some launches, and then one tick, with a small backlog and with a large one."""
    peaks: dict[str, list[float]] = {ONE_PROCESS: [], PER_TICK: []}
    for backlog in BACKLOGS:
        with surroundings(ROUND_TRIP_SECONDS) as place:
            place.add_due_runs(backlog, IMAGES)
            # A double that looks through a large backlog for garbage now and then would stand still for seconds.
            gc.freeze()
            for agent, serve in ((ONE_PROCESS, _launch_some), (PER_TICK, _tick_once)):
                peaks[agent].append(serve(place).peak_mb)
                yield Figure(agent, f"{backlog:,} due: launched before it ended", place.signs_of_launch())
                yield at_most(agent, f"{backlog:,} due: peak memory", peaks[agent][-1], MEMORY_MB, "MB")
        gc.unfreeze()
    for agent, (small, large) in peaks.items():
        quantity = f"peak memory with {BACKLOGS[1]:,} due / with {BACKLOGS[0]:,}"
        yield at_most(agent, quantity, large / small, TIMES_THE_MEMORY)


def _launch_some(place: EcsSurroundings) -> Usage:
    place.forget()
    with place.running(place.ours, **UNPACED) as process:
        _wait_for_signs(place, LAUNCHES, process)
        return usage_of(process.pid)


def _tick_once(place: EcsSurroundings) -> Usage:
    place.forget()
    cpu_seconds, peak_mb, give_up = 0.0, 0.0, time.monotonic() + PATIENCE_SECONDS
    with place.running(place.our_tick, **UNPACED) as process:
        while process.poll() is None:
            if time.monotonic() > give_up:
                raise TookTooLong(f"One tick was not done after {PATIENCE_SECONDS:.0f} s")
            with suppress(OSError):
                usage = usage_of(process.pid)
                # What has ended has no memory any more.
                cpu_seconds, peak_mb = usage.cpu_seconds, max(peak_mb, usage.peak_mb)
            time.sleep(0.02)
    return Usage(cpu_seconds, peak_mb)


@dataclass(frozen=True)
class Sweep:
    """What one tick did that found nothing due and so many runs alive."""

    alive: int
    seconds: float
    requests: int
    calls: int
    usage: Usage


def measure_alive() -> Iterator[Figure | Curve]:
    """The same tick with a few runs alive, and with many; then what each further one costs."""
    few, many = (_sweep(alive) for alive in ALIVE)
    for sweep in (few, many):
        due = f"{sweep.alive:,} alive"
        yield Figure(PER_TICK, f"{due}: seconds of the tick", sweep.seconds, "s")
        yield Figure(PER_TICK, f"{due}: requests to Prefect", sweep.requests)
        yield Figure(PER_TICK, f"{due}: calls to ECS", sweep.calls)
        yield Figure(PER_TICK, f"{due}: peak memory", sweep.usage.peak_mb, "MB")
    further = (many.alive - few.alive) / 1_000
    cpu_seconds = many.usage.cpu_seconds - few.usage.cpu_seconds
    yield Figure(PER_TICK, "CPU for each further 1,000 alive", 1000 * cpu_seconds / further, "ms")
    peak_mb = many.usage.peak_mb - few.usage.peak_mb
    yield Figure(PER_TICK, "memory for each further 1,000 alive", peak_mb / further, "MB")


def _sweep(alive: int) -> Sweep:
    with surroundings() as place:
        place.add_due_runs(alive, IMAGES)
        with place.running(place.ours, **UNPACED) as process:
            _wait_for_signs(place, alive, process)
        for run_id in place.run_ids:
            place.prefect.set_state(run_id, {"type": "Running"})
        place.ecs.ask(_let_run)
        place.prefect.round_trip_seconds = ROUND_TRIP_SECONDS
        begun = time.monotonic()
        usage = _tick_once(place)
        seconds = time.monotonic() - begun
        return Sweep(alive, seconds, len(place.prefect.requests), place.ecs.ask(_count_calls), usage)


def _let_run(ecs: EcsServer) -> None:
    for task in ecs.tasks():
        ecs.advance(task["taskArn"], "RUNNING")
    ecs.round_trip_seconds = ROUND_TRIP_SECONDS


GROWTH = Measurement(
    title=f"{', '.join(f'{size:,}' for size in SIZES)} due runs, 30 ms a request, no pacing",
    about="Prefect 1 on ECS, a process for each size, from its start until every run is launched and its log says "
    "so. What a run costs is to stay the same however many are due.",
    measure=measure_growth,
    plots=(CPU_PLOT,),
)
MEMORY = Measurement(
    title=f"Memory with {BACKLOGS[1]:,} due runs",
    about=f"Prefect 1 on ECS, 30 ms a request: a process that is ended after {LAUNCHES:,} launches, and one tick. "
    f"Beside it the same with {BACKLOGS[0]:,} due: memory is not to grow with the backlog.",
    measure=measure_memory,
)
ALIVE_RUNS = Measurement(
    title=f"One tick with {ALIVE[1]:,} runs alive",
    about="Prefect 1 on ECS, a process of its own that finds nothing due and looks at all that runs, as the scheduled "
    f"tick does once a minute; beside it the same with {ALIVE[0]:,} alive. Much of the time is the double's.",
    measure=measure_alive,
)
