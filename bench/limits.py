"""A backlog under AWS's documented limits: what becomes of the runs, and after how long."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from bench.agents import ECS_PEER, OUR_PROCESS, Agent, Meter, ProcessPerTick
from bench.backlog import last_record
from bench.results import OURS, Figure, Measurement, at_most, exactly
from bench.surroundings import EcsSurroundings, surroundings
from bench.zip import zipped_agent
from tests.doubles.ecs import EcsServer

RUNS = int(os.environ.get("BENCH_RUNS") or 1000)
IMAGES, ROUND_TRIP_SECONDS = 3, 0.03
PACED_SECONDS = (RUNS - 20) / 20
"""So many launches at 20 a second after a burst of 20; Fargate's burst of 100 would allow 4 s less."""

TOLERATED = 1.15
PATIENCE_SECONDS = 180.0 + PACED_SECONDS
"""After these the runs are accounted for as they stand: one that is lost never comes to its end."""

AFTERMATH_SECONDS = 3.0
"""How long nothing may have been recorded any more: the real agent fails a run after it has written its log."""

RUN_ID = "PREFECT__CONTEXT__FLOW_RUN_ID"


def measure() -> Iterator[Figure]:
    """Ours, and then the real agent."""
    yield from _serve(OUR_PROCESS)
    yield from _serve(ProcessPerTick())
    with zipped_agent() as in_zip:
        yield from _serve(in_zip)
    yield from _serve(ECS_PEER)


def _serve(agent: Agent[EcsSurroundings]) -> Iterator[Figure]:
    with surroundings(ROUND_TRIP_SECONDS) as place:
        place.ecs.ask(_limit)
        place.add_due_runs(RUNS, IMAGES)
        begun, give_up = datetime.now(UTC), time.monotonic() + PATIENCE_SECONDS
        agent.serve(place, Meter(), lambda: _is_over(place) or time.monotonic() > give_up)
        requests = place.prefect.requests
        seconds = (requests[last_record(requests)].time - begun).total_seconds()
        states = {run_id: str(place.prefect.flow_run(run_id)["state"]) for run_id in place.run_ids}
        yield from _account(agent.name, states, place.ecs.ask(_tasks), seconds)


def _is_over(place: EcsSurroundings) -> bool:
    if place.runs_with_sign() < RUNS:
        return False
    requests = place.prefect.requests
    quiet_seconds = (datetime.now(UTC) - requests[last_record(requests)].time).total_seconds()
    return quiet_seconds > AFTERMATH_SECONDS and not any(
        place.prefect.flow_run(run_id)["state"] == "Scheduled" for run_id in place.run_ids
    )


def _account(name: str, states: Mapping[str, str], tasks: Counter[str], seconds: float) -> Iterator[Figure]:
    counts = Counter((state, tasks[run_id] > 0) for run_id, state in states.items())
    found = {
        "Submitted, with a task": (counts["Submitted", True], RUNS),
        "Failed, without a task": (counts["Failed", False], 0),
        "Failed, though a task was started": (counts["Failed", True], 0),
        "lost: Submitted, without a task": (counts["Submitted", False], 0),
        "started twice": (sum(count > 1 for count in tasks.values()), 0),
    }
    for quantity, (count, promised) in found.items():
        yield exactly(name, quantity, count, promised) if name in OURS else Figure(name, quantity, count)
    quantity, limit = "seconds until all is settled", round(TOLERATED * PACED_SECONDS)
    yield at_most(name, quantity, seconds, limit, "s") if name in OURS else Figure(name, quantity, seconds, "s")


def _limit(ecs: EcsServer) -> None:
    ecs.throttles.add_documented()


def _tasks(ecs: EcsServer) -> Counter[str]:
    """How many tasks there are for each run, by what their containers are told."""
    variables = [each for task in ecs.tasks() for each in task["overrides"]["containerOverrides"][0]["environment"]]
    return Counter(variable["value"] for variable in variables if variable["name"] == RUN_ID)


MEASUREMENT = Measurement(
    f"{RUNS:,} due runs under AWS's documented limits",
    "RunTask 20 a second after a burst of 100, registering and deregistering 1 a second after 20, reading 20 a "
    f"second after 100; {1000 * ROUND_TRIP_SECONDS:.0f} ms a request. Every agent paces as it is set by default.",
    measure,
    needs=("prefect1",),
)
