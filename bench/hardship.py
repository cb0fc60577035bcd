"""A backlog in hard times: AWS's documented limits, and processes that are killed again and again."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from bench.results import Result, at_most, exactly
from bench.surroundings import EcsSurroundings, surroundings, wait_until

LIMITED_RUNS, KILLED_RUNS, KILLS = 1000, 200, 30
POSSIBLE_SECONDS = 49.0
"""1,000 launches at 20 a second after a burst of 20; with Fargate's burst of 100 it would be 45."""
KILL_AFTER_SECONDS = (0.2, 1.2)
SLOWLY = {"AGENT_LAUNCHES_PER_SECOND": "2"}
"""Ten launches at once and then two a second, so that the backlog outlasts the kills and most come in the middle."""


class LateClock:
    """Runs 100 s behind, so that a claim is old enough to be recovered as soon as it is made."""

    def now(self) -> datetime:
        """The time of somebody who is late."""
        return datetime.now(UTC) - timedelta(seconds=100)


def measure_limits() -> list[Result]:
    """1,000 due runs while AWS throttles as documented, by one process and by a new one for each tick."""
    return [*_limited("one process", _keep_running), *_limited("a process per tick", _tick_repeatedly)]


def measure_kills() -> list[Result]:
    """200 due runs, 30 kills at random moments, each followed by a new process."""
    return [
        *_killed("one process", lambda place: place.ours),
        *_killed("a process per tick", lambda place: place.our_tick),
    ]


def _limited(name: str, serve: Callable[[EcsSurroundings, int], None]) -> list[Result]:
    with surroundings() as place:
        place.ecs.throttles.add_documented()
        run_ids = place.add_due_runs(LIMITED_RUNS, images=3)
        begun = time.monotonic()
        serve(place, LIMITED_RUNS)
        seconds = time.monotonic() - begun
        return [
            at_most(f"{name}: seconds, of {POSSIBLE_SECONDS:g} possible", round(seconds, 1), 1.15 * POSSIBLE_SECONDS),
            *_account(place, run_ids),
        ]


def _killed(name: str, command: Callable[[EcsSurroundings], list[str]]) -> list[Result]:
    chance = random.Random(1)
    with surroundings(round_trip_seconds=0.03, clock=LateClock()) as place:
        run_ids = place.add_due_runs(KILLED_RUNS, images=3)
        for _ in range(KILLS):
            with place.running(command(place), **SLOWLY) as process:
                time.sleep(chance.uniform(*KILL_AFTER_SECONDS))
                process.kill()
        left = KILLED_RUNS - place.runs_with_sign()
        _tick_repeatedly(place, KILLED_RUNS)
        return [Result(f"{name}: kills, runs left after the last", f"{KILLS}, {left}"), *_account(place, run_ids)]


def _keep_running(place: EcsSurroundings, count: int) -> None:
    with place.running(place.ours) as process:
        wait_until(lambda: place.runs_with_sign() >= count, process)


def _tick_repeatedly(place: EcsSurroundings, count: int) -> None:
    while place.runs_with_sign() < count:
        place.run(place.our_tick)


def _account(place: EcsSurroundings, run_ids: list[str]) -> list[Result]:
    states = Counter(str(place.prefect.flow_run(run_id)["state"]) for run_id in run_ids)
    tasks = Counter(str(task["startedBy"]) for task in place.ecs.tasks())
    return [
        exactly("    Submitted", states["Submitted"], len(run_ids)),
        exactly("    lost", sum(f"prefect/{run_id}" not in tasks for run_id in run_ids), 0),
        exactly("    started twice", sum(count > 1 for count in tasks.values()), 0),
    ]
