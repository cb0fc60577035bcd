"""Flow runs as Jobs: a backlog beside the real 1.4.1 agent, creates that are cut off, and a sweep over what runs."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from bench.cluster import ClusterSurroundings, cluster_surroundings
from bench.drain import keep_running, tick_repeatedly
from bench.results import Result, at_least, at_most, exactly
from bench.surroundings import Surroundings

RUNS = int(os.environ.get("BENCH_RUNS") or 1000)
ROUNDS, LIVE_JOBS, ROUND_TRIP_SECONDS, CUT_EVERY = 3, 500, 0.03, 10
TIMES_THE_REAL_RATE = 3.0
SIGN_IN_AND_POLL = {"tenant", "register_agent", "get_runs_in_queue"}
"""What a tick asks Prefect for without a sweep too."""

Serve = Callable[[Surroundings], int]
AGENTS: dict[str, Serve] = {
    "one process (start)": lambda place: keep_running(place, place.ours),
    "a process per tick of 10 s": tick_repeatedly,
}


@dataclass(frozen=True)
class Drain:
    """How one agent served the backlog."""

    seconds: float
    polling_seconds: float
    to_prefect: int
    to_kubernetes: int
    processes: int


def measure_kubernetes() -> list[Result]:
    """All three; `BENCH_RUNS` is how many runs are due."""
    rounds = [[_drain(serve) for serve in (*AGENTS.values(), _real)] for _ in range(ROUNDS)]
    names = (*AGENTS, "prefect 1.4.1")
    compared = [result for i, name in enumerate(names) for result in _compare(name, rounds, i)]
    cut = [result for name, serve in AGENTS.items() for result in _cut(name, serve)]
    return [*compared, *cut, *_sweep()]


def _real(place: Surroundings) -> int:
    return keep_running(place, place.prefects)


def _drain(serve: Serve) -> Drain:
    with cluster_surroundings(ROUND_TRIP_SECONDS) as place:
        place.add_due_runs(RUNS, images=3)
        begun = time.monotonic()
        processes = serve(place)
        seconds = time.monotonic() - begun
        moments = [request.time for request in place.prefect.requests]
        polling_seconds = (moments[-1] - moments[0]).total_seconds()
        return Drain(seconds, polling_seconds, len(moments), len(place.kubernetes.calls), processes)


def _compare(name: str, rounds: Sequence[Sequence[Drain]], column: int) -> list[Result]:
    """The medians of one agent's drains, and of their ratios to the real agent's, which is the last of each round."""
    drains = [drains[column] for drains in rounds]
    ratio = median(drains[-1].seconds / drains[column].seconds for drains in rounds)
    polling_ratio = median(drains[-1].polling_seconds / drains[column].polling_seconds for drains in rounds)
    rate = RUNS / median(drain.seconds for drain in drains)
    polling_rate = RUNS / median(drain.polling_seconds for drain in drains)
    results = [
        Result(f"{name}: runs a second, start included, median of {ROUNDS}", f"{rate:.1f} ({ratio:.1f} x)"),
        Result("    the same from its first request on", f"{polling_rate:.1f} ({polling_ratio:.1f} x)"),
        Result("    requests to Prefect for each run", f"{drains[-1].to_prefect / RUNS:.2f}"),
        Result("    requests to Kubernetes for each run", f"{drains[-1].to_kubernetes / RUNS:.2f}"),
        Result("    processes", str(drains[-1].processes)),
    ]
    if name in AGENTS:
        promise = at_least("    times the real rate, from the first request on", polling_ratio, TIMES_THE_REAL_RATE)
        results.insert(2, promise)
    return results


def _cut(name: str, serve: Serve) -> list[Result]:
    with cluster_surroundings(ROUND_TRIP_SECONDS) as place:
        place.kubernetes.faults.add("create jobs", "cut_after", times=None, every=CUT_EVERY)
        place.add_due_runs(RUNS, images=3)
        serve(place)
        jobs = Counter(job["metadata"]["labels"]["prefect.io/flow_run_id"] for job in place.kubernetes.jobs())
        submitted = sum(place.prefect.flow_run(run_id)["state"] == "Submitted" for run_id in place.run_ids)
        creates = place.kubernetes.count("create jobs")
    return [
        Result(f"{name}: creates of which every {CUT_EVERY}th is cut", str(creates)),
        exactly("    Submitted", submitted, RUNS),
        exactly("    lost", RUNS - len(jobs), 0),
        exactly("    started twice", sum(count > 1 for count in jobs.values()), 0),
    ]


def _sweep() -> list[Result]:
    with cluster_surroundings() as place:
        _let_jobs_live(place)
        place.forget()
        place.run(place.our_tick)
        asked = [name for name in place.requests() if name not in SIGN_IN_AND_POLL]
        return [
            exactly("Jobs alive at the sweep", len(place.kubernetes.jobs()), LIVE_JOBS),
            at_most("    requests to Kubernetes", len(place.kubernetes.calls), 8),
            at_most("    requests to Prefect", len(asked), 2),
        ]


def _let_jobs_live(place: ClusterSurroundings) -> None:
    """Let so many runs be launched and running."""
    place.add_due_runs(LIVE_JOBS, images=3)
    tick_repeatedly(place)
    for pod in place.kubernetes.pods():
        place.kubernetes.start_pod(pod["metadata"]["name"])
    for run_id in place.run_ids:
        place.prefect.set_state(run_id, {"type": "Running"})
