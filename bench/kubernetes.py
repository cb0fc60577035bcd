"""Flow runs as Jobs: a backlog beside the real 1.4.1 agent, creates that are cut off, and a sweep over what runs."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median

from bench.agents import OUR_PROCESS, Agent, LongProcess, Meter, ProcessPerTick
from bench.backlog import Served, figures, serve_backlog
from bench.cluster import ClusterSurroundings, cluster_surroundings
from bench.drain import CALLS_A_RUN, LEAST_RATE, LEAST_RATE_PER_FIELD, UNPACED
from bench.results import KUBERNETES_AGENT, OURS, PER_TICK, Curve, Figure, Measurement, Plot, at_least, at_most, exactly
from tests.doubles.kubernetes import KubernetesServer

RUNS = int(os.environ.get("BENCH_RUNS") or 1000)
LIVE_JOBS = min(RUNS, 500)
ROUNDS, IMAGES, ROUND_TRIP_SECONDS, CUT_EVERY = 3, 3, 0.03, 10
TIMES_THE_REAL_RATE = 3.0
SIGN_IN_AND_POLL = {"tenant", "register_agent", "get_runs_in_queue"}
"""What a tick asks Prefect for without a sweep too."""

PLOT = Plot(f"{RUNS:,} due runs as Jobs", "seconds since the start", "Jobs created")
PLOT_PER_FIELD = Plot("As Jobs, with time for each root field", PLOT.x, PLOT.y)
CREATE = "create jobs"

ClusterAgent = Agent[ClusterSurroundings]
OUR_AGENTS: tuple[ClusterAgent, ...] = (OUR_PROCESS, ProcessPerTick())
REAL_AGENT: ClusterAgent = LongProcess(KUBERNETES_AGENT, lambda place: place.prefects)
AGENTS = (*OUR_AGENTS, REAL_AGENT)


@dataclass(frozen=True)
class Drain:
    """How one agent served the backlog, and when it asked Kubernetes for what."""

    served: Served
    calls: Sequence[tuple[str, datetime]]

    def curve(self, plot: str, name: str) -> Curve:
        """Jobs created over the time since the start."""
        return self.served.curve(plot, name, [at for what, at in self.calls if what == CREATE])


def measure_drain() -> Iterator[Figure | Curve]:
    """With time for each request; each round ours and then the real agent."""
    rounds = [[_drain(agent, None) for agent in AGENTS] for _ in range(ROUNDS)]
    for column, agent in enumerate(AGENTS):
        drains = [each[column] for each in rounds]
        yield from figures(agent.name, [drain.served for drain in drains], LEAST_RATE)
        yield from _of_kubernetes(agent.name, drains)
        yield drains[-1].curve(PLOT.title, agent.name)
        if agent is not REAL_AGENT:
            ratio = median(each[-1].served.polling_seconds / each[column].served.polling_seconds for each in rounds)
            yield at_least(agent.name, "times the real agent's rate", ratio, TIMES_THE_REAL_RATE)


def measure_drain_per_field() -> Iterator[Figure | Curve]:
    """With as much time for each root field of a mutation."""
    for agent in AGENTS:
        drain = _drain(agent, ROUND_TRIP_SECONDS)
        yield from figures(agent.name, [drain.served], LEAST_RATE_PER_FIELD, most_requests=None)
        yield from _of_kubernetes(agent.name, [drain])
        yield drain.curve(PLOT_PER_FIELD.title, agent.name)


def _of_kubernetes(name: str, drains: Sequence[Drain]) -> Iterator[Figure]:
    quantity, value = "requests to Kubernetes a run", median(len(drain.calls) for drain in drains) / RUNS
    yield at_most(name, quantity, value, CALLS_A_RUN) if name in OURS else Figure(name, quantity, value)


def _drain(agent: ClusterAgent, field_seconds: float | None) -> Drain:
    with cluster_surroundings(ROUND_TRIP_SECONDS, field_seconds) as place:
        served = serve_backlog(place, agent, RUNS, IMAGES, **UNPACED)
        return Drain(served, place.calls())


def measure_cuts() -> Iterator[Figure]:
    """The backlog again, while creates are carried out and not answered."""
    for agent in OUR_AGENTS:
        with cluster_surroundings(ROUND_TRIP_SECONDS) as place:
            place.kubernetes.ask(_cut_creates)
            place.add_due_runs(RUNS, IMAGES)
            _serve(agent, place)
            yield from _account(agent.name, place)


def _serve(agent: ClusterAgent, place: ClusterSurroundings) -> None:
    runs = len(place.run_ids)
    agent.serve(place, Meter(), lambda: place.runs_with_sign() >= runs, **UNPACED)


def _cut_creates(kubernetes: KubernetesServer) -> None:
    kubernetes.faults.add(CREATE, "cut_after", times=None, every=CUT_EVERY)


def _account(name: str, place: ClusterSurroundings) -> Iterator[Figure]:
    jobs = Counter(job["metadata"]["labels"]["prefect.io/flow_run_id"] for job in place.jobs())
    submitted = sum(place.prefect.flow_run(run_id)["state"] == "Submitted" for run_id in place.run_ids)
    yield Figure(
        name, f"creates, of which every {CUT_EVERY}th is cut", [what for what, _ in place.calls()].count(CREATE)
    )
    yield exactly(name, "Submitted", submitted, RUNS)
    yield exactly(name, "lost", RUNS - len(jobs), 0)
    yield exactly(name, "started twice", sum(count > 1 for count in jobs.values()), 0)


def measure_sweep() -> Iterator[Figure]:
    """What a scheduled tick asks to know how so many Jobs are."""
    with cluster_surroundings() as place:
        place.add_due_runs(LIVE_JOBS, IMAGES)
        _serve(ProcessPerTick(), place)
        place.kubernetes.ask(_start_pods)
        for run_id in place.run_ids:
            place.prefect.set_state(run_id, {"type": "Running"})
        place.forget()
        place.run(place.our_tick)
        asked = [name for name in place.requests() if name not in SIGN_IN_AND_POLL]
        yield exactly(PER_TICK, "Jobs alive at the sweep", len(place.jobs()), LIVE_JOBS)
        yield at_most(PER_TICK, "requests to Kubernetes", len(place.calls()), 8)
        yield at_most(PER_TICK, "requests to Prefect", len(asked), 2)


def _start_pods(kubernetes: KubernetesServer) -> None:
    for pod in kubernetes.pods():
        kubernetes.start_pod(pod["metadata"]["name"])


DRAIN = Measurement(
    f"{RUNS:,} due runs on Kubernetes, {1000 * ROUND_TRIP_SECONDS:.0f} ms a request, no pacing",
    "As on ECS: from the first request, or the start, to the last record that a run was launched; CPU without what "
    f"the start takes. In turn, {ROUNDS} times; medians.",
    measure_drain,
    needs=("prefect1",),
    plots=(PLOT,),
)
PER_FIELD = Measurement(
    f"{RUNS:,} due runs on Kubernetes, {1000 * ROUND_TRIP_SECONDS:.0f} ms for each root field of a mutation",
    "The same, once, with a Prefect that takes so long for each root field.",
    measure_drain_per_field,
    needs=("prefect1",),
    plots=(PLOT_PER_FIELD,),
)
CUTS = Measurement(
    f"{RUNS:,} due runs on Kubernetes, every {CUT_EVERY}th create cut",
    "The API server creates the Job, and the connection is cut before it says so.",
    measure_cuts,
)
SWEEP = Measurement(
    f"A sweep over {LIVE_JOBS} living Jobs",
    "What the scheduled tick asks besides the poll, in a new process, when nothing is due and all of them run.",
    measure_sweep,
)
