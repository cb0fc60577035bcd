"""A backlog, and processes that are killed again and again in the middle of it."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

from bench.results import ONE_PROCESS, PER_TICK, Figure, Measurement, exactly
from bench.surroundings import EcsSurroundings, surroundings
from tests.doubles.ecs import EcsServer

RUNS, KILLS = int(os.environ.get("BENCH_RUNS") or 200), 30
KILL_AFTER_SECONDS = (0.2, 1.2)
PATIENCE_SECONDS = 180.0
"""After so many of undisturbed ticks a run that is still without a sign of its launch is given up."""

SLOWLY = {"AGENT_LAUNCHES_PER_SECOND": "2"}
"""Ten launches at once and then two a second, so that the backlog outlasts the kills and most come in the middle."""


class LateClock:
    """Runs 100 s behind, so that a claim is old enough to be recovered as soon as it is made."""

    def now(self) -> datetime:
        """The time of somebody who is late."""
        return datetime.now(UTC) - timedelta(seconds=100)


def measure_kills() -> Iterator[Figure]:
    """Kills at random moments, each followed by a new process; then as many ticks as it takes, in time."""
    yield from _killed(ONE_PROCESS, lambda place: place.ours)
    yield from _killed(PER_TICK, lambda place: place.our_tick)


def _killed(agent: str, command: Callable[[EcsSurroundings], list[str]]) -> Iterator[Figure]:
    chance = random.Random(1)
    with surroundings(round_trip_seconds=0.03, clock=LateClock()) as place:
        run_ids = place.add_due_runs(RUNS, images=3)
        for _ in range(KILLS):
            with place.running(command(place), **SLOWLY) as process:
                time.sleep(chance.uniform(*KILL_AFTER_SECONDS))
                process.kill()
        yield Figure(agent, "runs due", RUNS)
        yield Figure(agent, "kills", KILLS)
        yield Figure(agent, "runs left after the last kill", RUNS - place.runs_with_sign())
        give_up = time.monotonic() + PATIENCE_SECONDS
        while place.runs_with_sign() < RUNS and time.monotonic() < give_up:
            place.run(place.our_tick)
        yield from _account(agent, place, run_ids)


def _account(agent: str, place: EcsSurroundings, run_ids: list[str]) -> Iterator[Figure]:
    states = Counter(str(place.prefect.flow_run(run_id)["state"]) for run_id in run_ids)
    tasks = Counter(str(task["startedBy"]) for task in place.ecs.ask(EcsServer.tasks))
    yield exactly(agent, "Submitted", states["Submitted"], RUNS)
    yield exactly(agent, "lost", sum(f"prefect/{run_id}" not in tasks for run_id in run_ids), 0)
    yield exactly(agent, "started twice", sum(count > 1 for count in tasks.values()), 0)


MEASUREMENT = Measurement(
    f"{RUNS:,} due runs, and a process that is killed {KILLS} times",
    "Each kill comes at a random moment (from a fixed seed); Prefect's clock is late, so that the claims of a dead "
    "process are recovered at once.",
    measure_kills,
)
